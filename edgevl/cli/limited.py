"""Commands that run somebody's artifact do it in a child process, and this one watches: see `edgevl.guard`."""

import contextvars
import os
import signal
import sys
from typing import Annotated

import typer

from edgevl.cli.streams import error_stream
from edgevl.guard import Limits, children
from edgevl.guard.watch import Child, Watch

MaxSeconds = Annotated[
    float,
    typer.Option(min=0.1, help="Seconds for one call of the artifact's runtime: to load it, to run it once."),
]
MaxMemory = Annotated[
    float | None, typer.Option(min=0.1, help="GB of memory that it may take. Default: 3/4 of what is free, 4 to 16.")
]
SECONDS = Limits().seconds
# Is this process nothing but the command? Where `main` is called from Python, the caller's process is not forked.
own_process = contextvars.ContextVar("own_process", default=False)
_CLEAN = "\r\x1b[2K\x1b[?25h"  # a bar that was being drawn: its line is empty, the cursor there again


def in_child(max_seconds: float, max_memory: float | None) -> None:
    """Go on in a child process. It returns there; here it raises how the child ended.

    The child has this process's streams and terminal and prints what there is to print; only what it cannot say any
    more is said here.

    Raises:
        typer.Exit: with the exit code of the child.
        LimitPassed: it passed a limit and was killed, or crashed in a call of a runtime.
        EdgeVLError: it crashed elsewhere.
        KeyboardInterrupt: it did not end after Ctrl-C, and was killed.
    """
    if not own_process.get() or children.be_limited():
        return
    watch = Watch(Limits(max_seconds, max_memory))
    child = _start(watch)
    if child is not None:
        raise typer.Exit(_follow(watch, child))


def _start(watch: Watch) -> Child | None:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    if children.CAN_FORK:
        return children.fork(watch)
    return children.start(watch, "edgevl", sys.argv[1:])


def _follow(watch: Watch, child: Child) -> int:
    with children.Signals(watch) as signals:
        try:
            code = watch.follow(child, lambda: signals.look(child))
        except BaseException:
            stream = error_stream()
            if stream.isatty():
                stream.write(_CLEAN)
            raise
        finally:
            watch.close()
    if code < 0:  # a signal that somebody sent to the child: this process ends as that one did
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code if code >= 0 else 128 - code
