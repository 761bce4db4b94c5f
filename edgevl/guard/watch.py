"""The process that watches another one: how long each call of a runtime takes, and how much memory it holds."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from edgevl.errors import EdgeVLError
from edgevl.guard import processes
from edgevl.guard.calls import MORE_MEMORY, MORE_TIME, WATCHED, Board, LimitPassed
from edgevl.scratch import PrivateFolder

TICK_S = 0.05
_ASLEEP_S = 1.0  # more than that between two looks: this process was stopped, or the machine slept; so did the other
_FAMILY_S = 0.5  # how often it is asked which processes there are
_CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS", "SIGKILL")
_GB = 1e9
_MOST_GB, _LEAST_GB, _SHARE = 16.0, 4.0, 0.75  # of what is available


@dataclass(frozen=True)
class Limits:
    """What an artifact that is not trusted may take."""

    seconds: float = 120.0  # for one call of a runtime: to read, to load, to run once
    memory_gb: float | None = None  # 10^9 bytes, of all its processes; None: three quarters of what is free, 4 to 16

    @property
    def memory(self) -> int:
        """In bytes."""
        free = _SHARE * processes.available_memory() / _GB
        return int(_GB * (self.memory_gb or min(_MOST_GB, max(_LEAST_GB, free))))


@dataclass(frozen=True)
class Child:
    """A process that was started. `wait(seconds)` returns how it ended (negative: its signal), None if it has not."""

    pid: int
    wait: Callable[[float], int | None]


class Watch:
    """A folder of its own for a process, with the board in it, and the watching of that process."""

    def __init__(self, limits: Limits):
        """Raises `InputError` if there is no place for temporary files."""
        self.limits, self.memory = limits, limits.memory
        self._scratch = PrivateFolder()
        self.folder = self._scratch.path
        self.file = self.folder / "board"
        self.board = Board.create(self.file, self.memory)
        self._spent: dict[int, tuple[int, float]] = {}  # slot -> number of the call, seconds
        self._family: list[int] = []
        self._asked = 0.0

    def follow(self, child: Child, give_up: Callable[[], bool] = lambda: False) -> int:
        """Wait for the child. Returns its exit code, negative for a signal that has nothing to do with an artifact.

        give_up: asked between two looks; where it returns True, the child is killed and KeyboardInterrupt raised.

        Raises:
            LimitPassed: it passed a limit and was killed, or it crashed in a call.
            EdgeVLError: it crashed elsewhere.
        """
        before = time.monotonic()
        while (code := child.wait(TICK_S)) is None:
            if give_up():
                self.end(child)
                raise KeyboardInterrupt
            now = time.monotonic()
            if problem := self._problem(child.pid, min(now - before, _ASLEEP_S)):
                self.end(child)
                raise LimitPassed(problem)
            before = now
        return self._code(code)

    def end(self, child: Child) -> None:
        """Kill the child and everything that it started."""
        processes.kill([child.pid, *processes.descendants(child.pid)])
        while child.wait(1.0) is None:
            pass
        self._end_orphans()

    def close(self) -> None:
        """Remove the folder."""
        self._scratch.remove()

    def _end_orphans(self) -> None:
        """What the child started and did not end has its environment, and with it the name of the board."""
        processes.kill(pid for pid in processes.marked(f"{WATCHED}={self.file}") if pid != os.getpid())

    def _problem(self, pid: int, seconds: float) -> str:
        """What is passed, in words; "" while all is well. `seconds` went by since the last look."""
        calls = self.board.running()
        spent = {slot: (number, seconds + self._before(slot, number)) for slot, number, _, _ in calls}
        self._spent = spent
        for slot, _, patience, what in calls:
            limit = patience * self.limits.seconds
            if spent[slot][1] > limit:
                return f"{what} did not end within {limit:g} s, the limit, and was stopped: {MORE_TIME}"
        if processes.resident(pid, self._children(pid)) > self.memory:
            limit = f"{self.memory / _GB:.3g} GB of memory, the limit"
            return f"{self.what(calls)} took more than {limit}, and was stopped: {MORE_MEMORY}"
        return ""

    def _before(self, slot: int, number: int) -> float:
        """Seconds that the call in a slot has been seen for; a call that is new began after the last look."""
        known, seconds = self._spent.get(slot, (0, 0.0))
        return seconds if known == number else 0.0

    def _children(self, pid: int) -> list[int]:
        now = time.monotonic()
        if now - self._asked > _FAMILY_S:
            self._family, self._asked = processes.descendants(pid), now
        return self._family

    @staticmethod
    def what(calls: list[tuple[int, int, float, str]]) -> str:
        return calls[0][3] if calls else "the command"

    def _code(self, code: int) -> int:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else ""
        if name not in _CRASHES:
            return code
        self._end_orphans()
        calls = self.board.running()
        by = "by the system, most likely for want of memory" if name == "SIGKILL" else f"by {name}"
        if calls:
            raise LimitPassed(
                f"{self.what(calls)} was ended {by}: the artifact is damaged, or too much for its runtime"
            )
        raise EdgeVLError(f"the command was ended {by} (unexpected)")
