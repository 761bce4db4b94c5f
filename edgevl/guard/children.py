"""Start the process that does the work, and hand signals on to it."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from edgevl.guard import processes
from edgevl.guard.calls import WATCHED, Board, be_watched
from edgevl.guard.watch import Child, Watch

# A process that has loaded a framework of the system must not fork (macOS), and Windows cannot.
CAN_FORK = sys.platform == "linux"
_HEARS_S, _LEAVES_S = 0.3, 5.0  # after Ctrl-C: until the child must have heard it, until it must have left its call
_ENDING = ("SIGTERM", "SIGHUP")


def fork(watch: Watch) -> Child | None:
    """Fork. Returns the child to its parent, and None in the child, which is watched from here on."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        be_limited(watch.file, parent)
        return None
    return Child(pid, _Waiting(pid))


def start(watch: Watch, module: str, arguments: Sequence[str]) -> Child:
    """Run a module in a fresh interpreter. It calls `be_limited` first."""
    command, environment = processes.run_module(module, arguments)
    process = subprocess.Popen(command, env={**environment, WATCHED: str(watch.file)})

    def wait(seconds: float) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(seconds)
        return None

    return Child(process.pid, wait)


class _Waiting:
    """Wait for a forked child, and wake up at once when it ends where the system can do that (Linux 5.3)."""

    def __init__(self, pid: int):
        self._pid, self._ended = pid, select.poll()
        with contextlib.suppress(AttributeError, OSError):
            self._ended.register(os.pidfd_open(pid), select.POLLIN)

    def __call__(self, seconds: float) -> int | None:
        self._ended.poll(1000 * seconds)
        ended, status = os.waitpid(self._pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if ended else None


def be_limited(file: Path | None = None, parent: int | None = None) -> bool:
    """Make this process one that is watched, by the board in `file` or in the file that its environment names, if any.

    It ends when `parent` (None: who it is now) ends. Its temporary files go beside the board, into a folder that the
    watcher removes.
    """
    board = be_watched(file)
    if board is None:
        return False
    processes.die_with_parent(parent or os.getppid())
    processes.limit_memory(board.memory)
    folder = str(Path(os.environ[WATCHED]).parent)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    if threading.current_thread() is threading.main_thread() and _heeds(signal.SIGINT):
        signal.signal(signal.SIGINT, _counting(board))
    return True


def _counting(board: Board) -> Callable[[int, FrameType | None], None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        board.count_interrupt()
        signal.default_int_handler(number, frame)

    return interrupt


def _heeds(number: int) -> bool:
    """A shell starts what it runs in the background with SIGINT ignored, nohup with SIGHUP: so it stays."""
    return signal.getsignal(number) not in (signal.SIG_IGN, None)


class Signals:
    """What the watching process does with signals while it waits; a context manager, for the main thread.

    Ctrl-C in a terminal reaches both processes, `kill -INT` this one alone: it is handed on if the child has not heard
    it. A child that is inside native code cannot hear it, and is ended after some seconds.
    """

    def __init__(self, watch: Watch):
        self._watch = watch
        self._heard = 0.0  # when Ctrl-C came first; 0: never
        self._asked = False  # was the child asked whether it heard it?
        self._before = self._ending = 0
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for name in ("SIGINT", *_ENDING):
            number = getattr(signal, name, None)
            if number is not None and _heeds(number):
                self._old[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        if self._ending:  # as if nobody had waited
            signal.signal(self._ending, signal.SIG_DFL)
            os.kill(os.getpid(), self._ending)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGINT:
            self._ending = number
        elif not self._heard:
            self._heard, self._before = time.monotonic(), self._watch.board.interrupts

    def look(self, child: Child) -> bool:
        """Hand on what came. True: the child is to be ended now."""
        if self._ending or not self._heard:
            return bool(self._ending)
        since = time.monotonic() - self._heard
        if since > _HEARS_S and not self._asked:
            self._asked = True
            if self._watch.board.interrupts == self._before:
                with contextlib.suppress(OSError):
                    os.kill(child.pid, signal.SIGINT)
        return since > _LEAVES_S and bool(self._watch.board.running())
