"""Reading text and JSON that somebody else wrote: bounded in bytes and depth, and UTF-8 whatever the locale.

A file that the user named raises `InputError`. The files of a bundle are read by `edgevl.manifest`, on the same
functions, and raise `VerificationFailed`.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

from edgevl.errors import InputError, first_line

MAX_JSON_BYTES = 16 * 2**20
MAX_RESULTS_BYTES = 256 * 2**20  # of a benchmark with raw samples, or a study's results
MAX_JSON_DEPTH = 32


class Unreadable(ValueError):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


def read_text(path: Path, limit: int = MAX_JSON_BYTES) -> str:
    """Read a UTF-8 file. Raises `InputError` if it is missing, no plain file, too large or not UTF-8."""
    try:
        return plain_text(path, limit)
    except Unreadable as error:
        raise InputError(f"{path} {error}") from None


def read_json(path: Path, kind: type = dict, limit: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file that holds a `kind` (dict or list).

    Raises `InputError` for whatever `read_text` refuses, for what is not JSON, too deep, or of another kind.
    """
    text = read_text(path, limit)
    try:
        values = strict_json(text)
    except Unreadable as error:
        raise InputError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(values, kind):
        raise InputError(f"{path} must hold a JSON {'object' if kind is dict else 'array'}")
    return values


def plain_text(path: Path, limit: int) -> str:
    """Read a UTF-8 file of at most `limit` bytes.

    Raises `Unreadable`. A named pipe would keep a reader waiting and a device would never end: neither is read.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Unreadable("is not a plain file")
            data = file.read(limit + 1)
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror})") from None
    if len(data) > limit:
        most = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit // 2**10} KiB"
        raise Unreadable(f"has more than {most}, which nothing needs")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("is not UTF-8 text") from None


def strict_json(text: str) -> Any:
    """Parse JSON strictly: what could not be written again as UTF-8 JSON is refused.

    That is NaN, a number that is infinite as a double, half a surrogate pair, a key twice, more than 32 levels.
    Raises `Unreadable` with the reason.
    """
    try:
        values = json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)
        _check_depth(values)
        json.dumps(values, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise Unreadable(f"more than {MAX_JSON_DEPTH} levels") from None
    except MemoryError:
        raise Unreadable("it needs more memory than there is") from None
    except ValueError as error:
        raise Unreadable(first_line(error)) from None
    return values


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _check_depth(values: Any, depth: int = 0) -> None:
    if depth > MAX_JSON_DEPTH:
        raise ValueError(f"more than {MAX_JSON_DEPTH} levels")
    inner = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    for value in inner:
        _check_depth(value, depth + 1)
