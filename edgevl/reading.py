"""Reading text and JSON that somebody else wrote: bounded in bytes and depth, and UTF-8 whatever the locale.

A file that the user named raises `InputError`. The files of a bundle are read by `edgevl.bundle.manifest`, on the same
functions (which the board's script has, too), and raise `VerificationFailed`.
"""

from pathlib import Path
from typing import Any

from edgevl.apps.jetson.strict_json import MAX_JSON_BYTES, Unreadable, plain_text, strict_json
from edgevl.errors import InputError

MAX_RESULTS_BYTES = 256 * 2**20  # of a benchmark with raw samples, or a study's results


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
