"""The data that a model is judged on: of what it was trained with the part that training did not see."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevl.contracts import Deployable
from edgevl.data import open_dataset
from edgevl.embedded import EMBEDDED
from edgevl.errors import InputError
from edgevl.reading import read_json

USUAL = "scenes:test"  # of a model that does not say what it was trained on
_RECORD = "training.json"


def validated_on(record: Mapping[str, Any]) -> str | None:
    """Return the data that a training record or a model's provenance says it was validated on."""
    values: Any = record
    for key in ("recipe", "data", "val"):
        values = values.get(key) if isinstance(values, Mapping) else None
    return values if isinstance(values, str) and values else None


def calibrated_on(model: Deployable) -> str:
    """Return the data that a model was validated on in training, as far as it says so; else `scenes:val`."""
    return validated_on(model.provenance) or "scenes:val"


def shown_on(model: Deployable) -> str:
    """Return the data that golden pictures are from: what a model was validated on, or of endless data its `test`.

    Where that is not here, it is `scenes:test`.
    """
    data = calibrated_on(model)
    try:
        if open_dataset(data).finite:
            return data
    except InputError:
        return USUAL
    fresh = f"{data.rpartition(':')[0]}:test"
    return data if _problem(fresh) else fresh


def judged_on(folder: Path | str | None) -> str:
    """Return the data specification to judge a model folder on; None is the embedded nano.

    Where its training was validated on a split `val` it is `test` of the same data, or `val` if there is no `test`.
    Raises `InputError` if that data is not here.
    """
    record = Path(folder if folder is not None else EMBEDDED) / _RECORD
    val = validated_on(read_json(record)) if record.is_file() else None
    if val is None:
        return USUAL
    data, _, split = val.rpartition(":")
    choices = [f"{data}:test", val] if split == "val" else [val]
    problems = [_problem(each) for each in choices]
    if all(problems):
        raise InputError(
            f"{folder} was trained with {val}, which cannot be opened here ({problems[-1]}): go to the folder that it "
            f"was trained in, or name other data with --data, such as {USUAL}"
        )
    return choices[problems.index("")]


def _problem(spec: str) -> str:
    try:
        open_dataset(spec)
    except InputError as error:
        return str(error)
    return ""
