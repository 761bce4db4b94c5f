"""Errors that a user can cause or must hear about: one clear line, one exit code, never a traceback.

Exit codes: 0 fine, 1 unexpected, 2 bad usage or input, 3 a missing dependency, 4 parity, accuracy or audit failed,
5 a budget or regression failed.
"""

import difflib
import errno
from collections.abc import Iterable


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
