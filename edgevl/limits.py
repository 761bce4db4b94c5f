"""What a name may be, and between which bounds a number of a config lies: one line for whatever is outside."""

import re
import reprlib
from collections.abc import Mapping
from typing import Any

from edgevl.errors import InputError

# Of a recipe, a model and a bundle: a name becomes a folder, and an app may read it.
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_NAME = re.compile(NAME_PATTERN)
MAX_TEXT = 4096  # characters of a path or another text of a config


def check_name(name: Any, what: str) -> str:
    """Return `name`. Raises `InputError`, naming `what` it is the name of, for what no name may be."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise InputError(
        f"{what} is {shown(name)}: a name has 1 to 64 of the characters A-Z a-z 0-9 . _ - and begins with a letter or "
        "a digit"
    )


def check_text(text: Any, what: str) -> str:
    """Return `text`. Raises `InputError` unless it is text of at most `MAX_TEXT` characters that UTF-8 can hold."""
    if isinstance(text, str) and len(text) <= MAX_TEXT and not re.search("[\ud800-\udfff\0]", text):
        return text
    raise InputError(f"{what} is {shown(text)}: it must be text of at most {MAX_TEXT} characters")


def check_whole(value: Any, what: str, low: int, high: int) -> int:
    """Return `value`. Raises `InputError` unless it is a whole number from `low` to `high`."""
    if type(value) is int and low <= value <= high:
        return value
    raise InputError(f"{what} is {shown(value)}: it must be a whole number from {low} to {high}")


def check_real(value: Any, what: str, low: float, high: float) -> float:
    """Return `value`. Raises `InputError` unless it is a number from `low` to `high`."""
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise InputError(f"{what} is {shown(value)}: it must be a number from {low:g} to {high:g}")


def check_numbers(values: Any, what: str, most: float = 1e6) -> None:
    """Raises `InputError` for a number in nested lists and mappings that lies beyond ±`most`, or is none at all."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            check_numbers(value, f"{what}.{key}", most)
    elif isinstance(values, list | tuple):
        for value in values:
            check_numbers(value, what, most)
    elif isinstance(values, int | float) and not abs(values) <= most:
        raise InputError(f"{what} is {shown(values)}: it must be a number from {-most:g} to {most:g}")


def shown(value: Any) -> str:
    """A value for a message. What is long is cut in its middle; a number of 5 000 digits cannot be printed at all."""
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"a number of {value.bit_length() * 3 // 10} digits"
    return reprlib.repr(value)
