"""results.json of a study: read as a file that somebody may have edited, with the fields that the page needs.

Rows may hold more than these models say, and are handed on as they are.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgevl.errors import InputError
from edgevl.reading import MAX_RESULTS_BYTES, read_json
from edgevl.training.recipe import MAX_STEPS, Text
from edgevl.training.study.arms import LATENCY
from edgevl.training.study.preset import Preset, Sprint

SCHEMA = "edgevl.study/1"
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(ge=0, le=1e30)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]


class _Part(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)


class _Recalls(_Part):
    text_to_image_r1: Share
    image_to_text_r1: Share


class _Pretrained(_Part):
    steps: Steps
    zero_shot: _Recalls
    macs_per_step: Number | None = None


class _Split(_Part):
    accuracy: Share
    calibration_error: Share
    correct: Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$")]
    per_kind: dict[Text, tuple[Share, int]] = {}
    per_size: dict[Text, tuple[Share, int]] = {}


class _Splits(_Part):
    test: _Split
    test_style: _Split
    test_pairs: _Split


class _Worst(_Part):
    data: Text
    index: Annotated[int, Field(ge=0, le=2**40)]
    size: Annotated[int, Field(ge=32, le=1024)]
    question: Text
    answer: Text
    said: Text
    p_said: Share
    p_answer: Share
    looked_at: Annotated[list[Number], Field(min_length=1, max_length=2**14)]


class _Tuned(_Part):
    steps: Steps
    score: Share
    curve: list[tuple[Steps, Share]]
    macs_per_step: Number | None = None


class _Retrieval(_Tuned):
    retrieval: _Recalls


class _Answers(_Tuned):
    splits: _Splits
    worst: Annotated[list[_Worst], Field(max_length=1000)] = []


class _Detector(_Part):
    val_map: Share | None
    training_macs: Number


class _Blind(_Part):
    test: dict[Text, Share]
    test_style: dict[Text, Share]
    test_pairs: dict[Text, Share]


class _Timing(_Part):
    seconds: Number = 0
    others_cpu: Number | None = None
    cpu: Text | None = None
    slower: dict[Text, Number] = {}


class _Ratio(_Part):
    ratio: Number
    ci95: tuple[Number, Number]
    p50_ms: dict[Text, Number]


class _Latency(_Part):
    model: _Ratio
    pipeline: _Ratio
    flags: list[Text]


class _Versions(_Part):
    torch: Text


class _Machine(_Part):
    cpu: Text
    cores: int
    versions: _Versions


class _Results(_Part):
    schema_: Literal["edgevl.study/1"] = Field(alias="schema")
    preset: Any
    rows: Annotated[int, Field(ge=0)]
    machine: _Machine
    runs: dict[Text, dict[str, Any]]
    timing: dict[Text, dict[str, Any]]


class _SprintRow(_Part):
    steps: Steps
    curve: list[tuple[Steps, Share]]
    per_kind: dict[Text, tuple[Share, int]] = {}
    losses: dict[Text, Number] = {}


class _SprintTiming(_Part):
    processor_seconds: Number


class _SprintRuns(_Part):
    runs: dict[Text, _SprintRow]
    timing: dict[Text, _SprintTiming]


# The stage is the second part of a row's name; what is measured once has rows of its own.
_STAGES = {"pretrain": _Pretrained, "vqa": _Answers, "statement": _Answers, "retrieval": _Retrieval}
_STAGES |= {"detect": _Detector, "detect_apart": _Detector, "blind": _Blind}


def load_results(path: Path) -> dict[str, Any]:
    """Read a `results.json`. Raises `InputError` for a file that is none, of another version, or not whole."""
    try:
        results = read_json(path, dict, MAX_RESULTS_BYTES)
    except InputError as error:
        raise InputError(f"{error}; write results with edgevl study") from None
    if results.get("schema") != SCHEMA:
        raise InputError(f"{path} is no {SCHEMA}; write one with edgevl study")
    _check(path, "", _Results, results)
    asked = results["preset"] if isinstance(results["preset"], dict) else {}
    preset = _check(path, "preset.", Sprint if "changes" in asked else Preset, asked)
    if isinstance(preset, Sprint):
        _check(path, "", _SprintRuns, results)
    for name, row in results["runs"].items():
        kind = _STAGES.get(name.split("/")[min(1, name.count("/"))], _Part)
        _check(path, f"runs.{name}.", kind, row)
        if kind is _Answers:
            _check_answers(path, name, row, results["preset"]["test_samples"])
    for name, row in results["timing"].items():
        _check(path, f"timing.{name}.", _Latency if name.startswith(LATENCY) else _Timing, row)
    return results | {"preset": preset.model_dump(mode="json")}  # with the defaults that it leaves out


def _check(path: Path, where: str, kind: type[BaseModel], values: Any) -> Any:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{path} is not whole: {where}{place}: {said}; write another with edgevl study") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _check_answers(path: Path, name: str, row: dict[str, Any], samples: int) -> None:
    """Right and wrong answers are two hexadecimal digits for eight samples."""
    for split in row.get("splits", {}).values():
        if len(split["correct"]) * 4 < samples:
            raise InputError(
                f"{path} is not whole: runs.{name} has fewer answers than the {samples} samples of the test"
            )
