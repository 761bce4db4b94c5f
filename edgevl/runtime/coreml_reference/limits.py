"""How much a program may take: operators, memory, time. A file from elsewhere may hold a loop that never ends."""

import time
from dataclasses import dataclass

from .seam import ExecutorError

GIB = 1 << 30


class LimitReached(ExecutorError):
    """The program asks for more than `Limits` allow. The message names the limit and how to raise it."""

    exit_code = 4


@dataclass(frozen=True)
class Limits:
    """What one run may take. Generous: a limit is there so that a hostile or endless program ends with one line."""

    operators: int = 1_000_000  # executed in a run; those of a loop count each time
    memory: int = 16 * GIB  # bytes of values that are alive at once, weights not counted
    seconds: float = 600.0  # of a run; looked at before every block, so one operator may take longer

    def check_memory(self, size: float) -> None:
        """Raise unless `size` bytes of values are allowed."""
        if size > self.memory:
            raise LimitReached(
                f"needs {size / GIB:,.1f} GiB of memory for its values and {self.memory / GIB:,.1f} are allowed "
                "(MLProgram.load(limits=Limits(memory=...)), --max-gib)"
            )


class Meter:
    """Counts what one run takes."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._executed, self._held = 0, 0
        self._end = time.monotonic() + limits.seconds

    def spend(self, operators: int) -> None:
        """Count operators that are about to run."""
        self._executed += operators
        if self._executed > self._limits.operators:
            raise LimitReached(
                f"runs more than {self._limits.operators:,} operators, which are allowed: a loop without end? "
                "(MLProgram.load(limits=Limits(operators=...)), --max-operators)"
            )
        if time.monotonic() > self._end:
            raise LimitReached(
                f"runs for more than {self._limits.seconds:g} s, which are allowed "
                "(MLProgram.load(limits=Limits(seconds=...)), --max-seconds)"
            )

    def hold(self, size: int) -> None:
        """Count bytes that came to life, or, negative, that were dropped."""
        self._held += size
        self._limits.check_memory(self._held)
