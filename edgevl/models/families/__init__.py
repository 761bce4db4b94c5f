"""Model families: how a model folder that somebody made becomes a Deployable. One file for each foreign one."""

import importlib
from collections.abc import Callable
from pathlib import Path

from edgevl.contracts import Deployable
from edgevl.errors import InputError
from edgevl.reading import read_json
from edgevl.registry import Registry

GROUP = "edgevl.families"  # of entry points: `model_type` of config.json -> a function from the folder to a Deployable
FAMILIES: Registry[Callable[[Path], Deployable]] = Registry("model family", GROUP)
_MODULES = ("clip",)


def open_family(folder: Path) -> Deployable:
    """Return the Deployable of a Hugging Face folder, by the `model_type` of its config.json.

    Raises:
        InputError: no such folder, an unknown family, or something in it that cannot be carried over; it is named.
        MissingDependency: the family needs a package that is not installed.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise InputError(f"{folder} is no model folder: config.json is missing")
    kind = read_json(config).get("model_type")
    if not isinstance(kind, str):
        raise InputError(f"{config} has no model_type")
    for module in _MODULES:
        importlib.import_module(f"edgevl.models.families.{module}")
    return FAMILIES[kind](folder)
