"""`limited(function, ...)`: one call of a function in a fresh process with limits of time and memory.

`edgevl.guard.answer` runs there. A folder that only this user can read holds what is asked and takes the answer.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from edgevl.errors import EdgeVLError, InputError
from edgevl.guard.children import start
from edgevl.guard.watch import Limits, Watch

T = TypeVar("T")
ASKED, ANSWER = "asked.pickle", "answer.pickle"


def limited(function: Callable[..., T], *arguments: Any, limits: Limits | None = None, **named: Any) -> T:
    """Return `function(*arguments, **named)`, called in a fresh process that is ended when it passes a limit.

        report = limited(verify_bundle, "their.edgevl", samples=100, limits=Limits(seconds=30, memory_gb=4))

    The process takes seconds to start, as it imports everything anew. The time limit is that of each single call of a
    runtime, not of the whole. What the function prints comes out as usual.

    Args:
        function: one that can be imported by its name, such as `edgevl.verify.run.verify_bundle`.
        arguments, named: anything that can be pickled, so no callbacks; so must be what is returned.
        limits: None for the defaults of `Limits`.
    Raises:
        LimitPassed: a limit was passed, or the process crashed in a call of a runtime.
        InputError: the function or an argument cannot be sent to another process.
        Exception: whatever the function raises.
    """
    watch = Watch(limits or Limits())
    try:
        _ask(watch.folder, function, arguments, named)
        child = start(watch, "edgevl.guard.answer", [str(watch.folder)])
        try:
            code = watch.follow(child)
        except BaseException:
            watch.end(child)
            raise
        return _answer(watch.folder, code)
    finally:
        watch.close()


def _ask(folder: Path, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    if getattr(function, "__module__", "__main__") == "__main__":
        raise InputError("limited() takes a function that another process can import: put it into a module")
    try:
        (folder / ASKED).write_bytes(pickle.dumps((function, arguments, named)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(f"limited() cannot send this to another process ({error}): leave out callbacks") from None


def _answer(folder: Path, code: int) -> Any:
    file = folder / ANSWER
    if not file.is_file():
        raise EdgeVLError(f"the process that did the work ended without an answer (status {code})")
    worked, value = pickle.loads(file.read_bytes())
    if not worked:
        raise _raised(*value)
    return value


def _raised(kind: type[BaseException], text: str, pickled: bytes | None) -> BaseException:
    """The exception of the other process; one that cannot be pickled by its type and text."""
    if pickled is not None:
        return pickle.loads(pickled)
    error = kind.__new__(kind)
    error.args = (text,)
    return error
