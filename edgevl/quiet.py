"""Other libraries without their noise: what several are silenced by. Each caller says what it silences, and why.

Nothing heavy is imported here: the command line uses it too. What is changed belongs to the whole process, and several
threads may want it at once: see `shared`.
"""

import contextlib
import functools
import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack


def shared(
    change: Callable[[], AbstractContextManager[None]],
) -> Callable[[], "contextlib._GeneratorContextManager[None]"]:
    """A context manager that changes the process, made safe for threads: the first that enters makes the change, the
    last that leaves undoes it. Each on its own would restore what it found, which may be another one's change."""
    lock, made, users = threading.Lock(), ExitStack(), 0

    @functools.wraps(change)
    @contextlib.contextmanager
    def enter() -> Iterator[None]:
        nonlocal users
        with lock:
            if not users:
                made.enter_context(change())
            users += 1
        try:
            yield
        finally:
            with lock:
                users -= 1
                if not users:
                    made.close()

    return enter


@shared
@contextlib.contextmanager
def quiet_python() -> Iterator[None]:
    """No log records up to WARNING and no Python warnings for a block."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@shared
@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """No tqdm bars for a block, whatever the code that draws them asks for: tqdm's constructor is told `disable`."""
    import tqdm

    init = tqdm.tqdm.__init__
    tqdm.tqdm.__init__ = lambda self, *args, **options: init(self, *args, **{**options, "disable": True})  # pyright: ignore
    try:
        yield
    finally:
        tqdm.tqdm.__init__ = init


@shared
@contextlib.contextmanager
def without_stdout() -> Iterator[None]:
    """Throw away what Python code prints in a block."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@shared
@contextlib.contextmanager
def without_native_stderr() -> Iterator[None]:
    """Send what native code writes to file descriptor 2 nowhere for a block; what Python wrote before comes out before.

    For libraries that report what goes wrong by an exception, and the rest by lines that have no switch. A process
    without a standard error has no descriptor 2: it gets one and keeps it, else the next file that is opened is it.
    """
    with contextlib.suppress(AttributeError, OSError, ValueError):  # there is none, or it is closed
        sys.stderr.flush()
    kept = _duplicate(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        if nowhere != 2:
            os.dup2(nowhere, 2)
        yield
    finally:
        if kept is not None:
            os.dup2(kept, 2)
            os.close(kept)
        if nowhere != 2:
            os.close(nowhere)


def _duplicate(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError:
        return None


@shared
@contextlib.contextmanager
def _with_streams() -> Iterator[None]:
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        missing = [name for name in ("stdout", "stderr") if getattr(sys, name) is None]
        for name in missing:
            setattr(sys, name, nowhere)
        try:
            yield
        finally:
            for name in missing:
                setattr(sys, name, None)


def with_streams() -> AbstractContextManager[None]:
    """For native code that writes to Python's `sys.stdout` and `sys.stderr` and fails where they are None.

    So they are under pythonw.exe, in windowed programs and in some services.
    """
    return _with_streams() if sys.stdout is None or sys.stderr is None else contextlib.nullcontext()


def open_missing_streams() -> None:
    """Give a process that was started with closed standard streams some that lead nowhere. For the start of a command.

    Else the first files that it opens get the numbers 0 to 2, and whatever native code says is written into them.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(
            io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", line_buffering=True
        )
