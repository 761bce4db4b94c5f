"""Errors that a user can cause or must hear about: one clear line, one exit code, never a traceback.

Exit codes: 0 fine, 1 unexpected, 2 bad usage or input, 3 a missing dependency, 4 parity, accuracy or audit failed,
5 a budget or regression failed.
"""

import difflib
import errno
import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path

from edgevl.precisions import PRECISIONS

_LOOKED_AT = 10_000  # names in a folder, for the nearest one


class EdgeVLError(Exception):
    """Base of every error that the command line prints as one line. `exit_code` is the status of the process."""

    exit_code = 1


class InputError(EdgeVLError):
    """A file, value or option that the user gave cannot be used. The message says what is allowed and what to do."""

    exit_code = 2


class MissingDependency(EdgeVLError):
    """An optional package is not installed. The message holds the exact command that installs it."""

    exit_code = 3

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(f'{purpose} needs the package "{package}": pip install "edgevl[{extra}]"')


class MissingProgram(EdgeVLError):
    """A program of others is not on the PATH. The message says how to get it."""

    exit_code = 3


class VerificationFailed(EdgeVLError):
    """The artifact is not what it claims to be: parity, accuracy, audit or digests failed."""

    exit_code = 4


class BudgetFailed(EdgeVLError):
    """A measured value is outside the budget that the user set, or worse than the one compared with."""

    exit_code = 5


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return (not raise) the error for a name that is not in `known`: it names the nearest one and lists all."""
    names, name = sorted(known), name if len(name) <= 100 else f"{name[:99]}…"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f'; did you mean "{near[0]}"?' if near else "."
    return InputError(f'unknown {kind} "{name}"{hint} Known: {", ".join(names)}')


def unknown_precision(kind: str, precision: str, known: Iterable[str]) -> InputError:
    """`unknown_name`, which also knows what others call a precision: `int8` is w8a8 here, `half` is fp16."""
    names, word = sorted(known), re.sub(r"[\s_-]", "", precision.lower())
    meant = next((ours for ours, each in PRECISIONS.items() if word in (ours, *each.words)), None)
    if meant is None:
        return unknown_name(kind, precision, names)
    hint = f'did you mean "{meant}"?' if meant in names else f'that would be "{meant}", which is not among them.'
    return InputError(f'unknown {kind} "{precision}"; {hint} Known: {", ".join(names)}')


def no_such_path(what: str, path: str | Path, advice: str, also: Iterable[str] = ()) -> InputError:
    """Return (not raise) the error for a path where nothing is. It names the nearest name beside it.

    what: what was looked for, such as "picture". also: words that mean something where a path is expected.
    """
    path = Path(path)
    if not path.parent.is_dir():
        return InputError(f'there is no {what} "{path}", nor a folder "{path.parent}": {advice}')
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, _LOOKED_AT)]
    except OSError:  # a folder that cannot be listed
        names = []
    near = difflib.get_close_matches(path.name, [*names, *also], n=1)
    hint = f'; did you mean "{near[0] if near[0] in also else path.with_name(near[0])}"?' if near else ""
    return InputError(f'there is no {what} "{path}": {advice}{hint}')


def first_line(error: BaseException, limit: int = 300) -> str:
    """Return what an error of another library says in one line: the first that is not blank, or the error's type."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip()[:limit] if lines else type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Does an error say that memory ran out? torch says it in a RuntimeError of its own words."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    words = ("can't allocate memory", "out of memory", "Cannot allocate memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))
