"""What the executor takes from EdgeVL, for a copy of this folder where EdgeVL is not installed. See `seam.py`."""

import importlib
from collections.abc import Iterable
from contextlib import nullcontext
from types import ModuleType

quiet_coremltools = nullcontext


class ExecutorError(Exception):
    """Base of every error that the executor raises. `exit_code` is the status of the process."""

    exit_code = 1


class InputError(ExecutorError):
    """A file, value or option that the user gave cannot be used."""

    exit_code = 2


class MissingDependency(ExecutorError):
    """A package is not installed."""

    exit_code = 3


def first_line(error: BaseException, limit: int = 300) -> str:
    """Return what an error says in one line: the first that is not blank, or the error's type."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line[:limit] for line in lines if line), type(error).__name__)


def plain(text: str) -> str:
    """Return a text with whatever does not show, and a terminal might obey, written out as `\\x1b`."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for a name that is not in `known`."""
    return InputError(f'unknown {kind} "{name}". Known: {", ".join(sorted(known))}')


def import_coremltools(purpose: str) -> ModuleType:
    """Import coremltools, or say what it is needed for."""
    try:
        return importlib.import_module("coremltools")
    except ImportError as error:
        raise MissingDependency(f"{purpose} needs coremltools: pip install coremltools") from error
