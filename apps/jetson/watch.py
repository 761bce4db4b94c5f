"""Do the work in a child process and watch it: an artifact may never end, take all memory, or crash the runtime.

The child says which step it is at in memory that both share, so that telling costs a fraction of a microsecond and can
be done for every query. The parent ends a child that is at one step for too long, or that takes too much memory.
Linux only: the files of /proc are read.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import struct
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUNDLE, LOADING, BUILDING, QUERY, IDLE = range(5)
STEPS = ("reading the bundle", "loading the artifact", "building the engine", "a query", "reading the sensors")
STEP_SECONDS = 120.0
BUILD_SECONDS = 3600.0  # TensorRT tries kernels for minutes
MEMORY_MB = 4096
REFUSED, INTERRUPTED = 4, 130
_INTERVAL = 0.05  # seconds between two looks
_SHARED = struct.Struct("dB")  # when the step must be over, by the clock that all processes share; which step it is
_PR_SET_PDEATHSIG = 1
_FORKED = 0x40  # PF_FORKNOEXEC of Linux: it runs no program of its own yet, and its memory is its parent's


class Limits(NamedTuple):
    seconds: float = STEP_SECONDS  # of one step
    memory_mb: float = MEMORY_MB  # resident, of the child and its children, beyond what it began with


class Watch:
    """The child's side: `step` before each step, with more time where it is known to need it."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.shared = mmap.mmap(-1, _SHARED.size)
        self.step(BUNDLE)

    def step(self, which: int, more: float = 0.0) -> None:
        # By slices: `pack_into` fills with zeros first, and a parent that looks just then sees a limit long passed.
        self.shared[8:9] = bytes([which])
        self.shared[0:8] = struct.pack("d", time.monotonic() + self.limits.seconds + more)

    def each(self, take: Callable[..., Any]) -> Callable[..., Any]:
        """`take`, a query, announced as a step of its own each time."""

        def announced(*arguments: Any) -> Any:
            self.step(QUERY)
            return take(*arguments)

        return announced


def watched(work: Callable[[Watch], int], limits: Limits) -> int:
    """Run `work` in a child and return its exit code; 4, and one line, if it had to be ended or crashed."""
    watch, parent = Watch(limits), os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            die_with(parent)
            code = work(watch)
            with contextlib.suppress(OSError, ValueError):  # a reader that has gone
                sys.stdout.flush()
                sys.stderr.flush()
        finally:  # whatever happened: nothing of the parent's is done twice
            os._exit(code)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the child too, which says what it left
    try:
        code, problem = _follow(child, watch)
    finally:
        signal.signal(signal.SIGINT, before)
    if problem:
        print(f"error: {problem}", file=sys.stderr)
    return code


def die_with(parent: int) -> None:
    """Let the kernel end this process when its parent ends, however that happens."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(INTERRUPTED)


def _follow(child: int, watch: Watch) -> tuple[int, str]:
    """Wait for the child. Returns (exit code, what to say of it)."""
    own = _resident(child)  # of what was loaded before it began
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return _ended(status, watch)
        problem = _problem(child, own, watch)
        if problem:
            for process in [*_descendants(child), child]:
                with contextlib.suppress(OSError):
                    os.kill(process, signal.SIGKILL)
            os.waitpid(child, 0)
            return REFUSED, problem
        time.sleep(_INTERVAL)


def _ended(status: int, watch: Watch) -> tuple[int, str]:
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status), ""
    number = os.WTERMSIG(status)
    if number == signal.SIGINT:
        return INTERRUPTED, "interrupted"
    what = f"{STEPS[_SHARED.unpack_from(watch.shared)[1]]} ended the process with {signal.Signals(number).name}"
    if number == signal.SIGKILL:
        return REFUSED, f"{what}: most likely this machine has too little memory for it"
    return REFUSED, f"{what}: the artifact crashes its runtime"


def _problem(child: int, own: int, watch: Watch) -> str:
    deadline, which = _SHARED.unpack_from(watch.shared)
    if time.monotonic() > deadline and (deadline, which) == _SHARED.unpack_from(watch.shared):
        return (
            f"{STEPS[which]} took more than {watch.limits.seconds:g} s, so it was ended: the artifact may never end; "
            "--step-seconds N allows more"
        )
    taken = (_resident(child) + sum(map(_own, _descendants(child))) - own) / 2**20
    if taken > watch.limits.memory_mb:
        return (
            f"{STEPS[which]} took more than {watch.limits.memory_mb:g} MiB of memory, so it was ended; "
            "--memory-mb N allows more"
        )
    return ""


def _resident(process: int, written: bool = False) -> int:
    """Bytes of memory that a process holds, or of what it has written itself; 0 if it has gone."""
    with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{process}/statm", encoding="utf-8") as file:
        pages = file.read().split()
        return (int(pages[1]) - int(pages[2]) * written) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _own(process: int) -> int:
    """Bytes that a descendant holds beyond its parent's, whose pages it shares until it runs a program of its own."""
    with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{process}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
        if int(fields[6]) & _FORKED:
            return max(0, _resident(process, True) - _resident(int(fields[1]), True))
        return _resident(process)
    return 0


def _descendants(process: int) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError), open(
        f"/proc/{process}/task/{process}/children", encoding="utf-8"
    ) as file:
        for child in map(int, file.read().split()):
            yield from _descendants(child)
            yield child
