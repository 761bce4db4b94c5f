"""Reading text and JSON that somebody else wrote: plain files only, bounded in bytes and depth, UTF-8, strict.

Shared by EdgeVL and the board's script. Python 3.8, the standard library only.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from typing import Any

MAX_JSON_BYTES = 16 * 2**20
MAX_JSON_DEPTH = 32
_LARGEST = int(sys.float_info.max)  # of a double
_DIGITS = len(str(_LARGEST)) + 1  # and a sign; Python before 3.11 takes hours for an integer of millions of digits


class Unreadable(ValueError):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


def plain_text(path: str | os.PathLike[str], limit: int = MAX_JSON_BYTES) -> str:
    """Read a UTF-8 file of at most `limit` bytes. Raises `Unreadable`."""
    try:
        return plain_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("is not UTF-8 text") from None


def plain_bytes(path: str | os.PathLike[str], limit: int) -> bytes:
    """Read a file of at most `limit` bytes.

    Raises `Unreadable`. A named pipe would keep a reader waiting and a device would never end: neither is read.
    """
    try:
        number = os.open(str(path), os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(number, "rb") as file:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise Unreadable("is not a plain file")
            if os.fstat(number).st_size > limit:
                most = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit // 2**10} KiB"
                raise Unreadable(f"has more than {most}, which nothing needs")
            return file.read(limit)
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror})") from None


def strict_json(text: str) -> Any:
    """Parse JSON strictly: what could not be written again as UTF-8 JSON, or what readers take differently, is refused.

    That is NaN, a number beyond a double, half a surrogate pair, a key twice, more than 32 levels of arrays and
    objects. Raises `Unreadable` with the reason.
    """
    try:
        values = json.loads(text, parse_constant=_refuse, parse_int=_whole, object_pairs_hook=_unique)
        _check_depth(values)
        json.dumps(values, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise Unreadable(f"more than {MAX_JSON_DEPTH} levels") from None
    except MemoryError:
        raise Unreadable("it needs more memory than there is") from None
    except UnicodeEncodeError:
        raise Unreadable("half a surrogate pair") from None
    except ValueError as error:
        raise Unreadable(str(error).splitlines()[0]) from None
    return values


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number of JSON")


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS or abs(int(digits)) > _LARGEST:
        raise ValueError("a number beyond a double")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _check_depth(values: Any, depth: int = 0) -> None:
    inner = values.values() if isinstance(values, dict) else values if isinstance(values, list) else None
    if inner is None:
        return
    if depth == MAX_JSON_DEPTH:
        raise ValueError(f"more than {MAX_JSON_DEPTH} levels")
    for value in inner:
        _check_depth(value, depth + 1)
