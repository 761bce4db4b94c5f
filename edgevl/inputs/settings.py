"""Are the settings of somebody's file those that we declare? Each one that is not is named."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgevl.errors import InputError

MISSING = "missing"


@dataclass(frozen=True)
class OneOf:
    """Several values that mean the same to us. `MISSING` allows that the key is not there."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Anything:
    """A value that nothing depends on."""


def check_settings(found: Mapping[str, Any], wanted: Mapping[str, Any], where: str = "") -> None:
    """Raise `InputError` for the first setting, in alphabetical order, that is not as wanted or that nobody declared.

    `where` is put in front of its name, as in "model.".
    """
    for key in sorted(wanted.keys() | found.keys()):
        own, name = found.get(key, MISSING), f"{where}{key}"
        if key not in wanted:
            raise InputError(f"{name} is {_short(own)}; this setting is not known")
        check_value(own, wanted[key], name)


def check_value(own: Any, must: Any, name: str) -> None:
    """Raise `InputError`, with the name of the setting, for a value that is not as it must be."""
    if isinstance(must, Anything):
        return
    if isinstance(must, Mapping) and isinstance(own, Mapping):
        check_settings(own, must, f"{name}.")
        return
    allowed = must.values if isinstance(must, OneOf) else (must,)
    if not any(_same(own, each) for each in allowed):
        raise InputError(f"{name} is {_short(own)}, it must be {' or '.join(map(_short, allowed))}")


def _same(a: Any, b: Any) -> bool:
    """Equal as JSON: True is not 1."""
    return a is b or (type(a) is type(b) and json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True))


def _short(value: Any) -> str:
    return MISSING if value is MISSING else json.dumps(value, sort_keys=True)[:200]
