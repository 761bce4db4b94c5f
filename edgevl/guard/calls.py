"""A note of what native code does right now, in memory that another process watches.

`with Call("running model.onnx"): ...` costs a microsecond where somebody watches, and next to nothing where nobody
does. The watcher (`edgevl.guard.watch`) ends this process if one call takes too long.
"""

import contextlib
import itertools
import mmap
import os
import struct
import threading
from pathlib import Path
from types import TracebackType

from edgevl.errors import VerificationFailed

WATCHED = "EDGEVL_WATCHED"  # the board's file, in the environment of a process that is watched
_HEAD = struct.Struct("<QQ")  # how often Ctrl-C was heard; bytes of memory that are allowed
_SLOT = struct.Struct("<Qd240s")  # number of the call (0: none), how many times the limit it may take, what it is
_SLOTS, _FAMILY = 64, 8  # threads that are told apart: in all, and of one process
_NO_MEMORY = (
    "bad_alloc", "bad allocation", "failed to allocate", "not enough memory", "can't allocate memory",
    "cannot allocate memory", "out of memory", "unable to allocate",
)  # fmt: skip


class LimitPassed(VerificationFailed):
    """An artifact took more time or memory than it may, or ended the process that ran it."""


class Board:
    """The memory that both sides see: a file of a few kilobytes."""

    SIZE = 64 + _SLOTS * _SLOT.size

    def __init__(self, file: Path):
        """Open the board in `file`, which `create` made."""
        with file.open("r+b") as stream:
            self._memory = mmap.mmap(stream.fileno(), self.SIZE)
        self._numbers = itertools.count(1)
        self._threads = itertools.count()
        self._own = threading.local()

    @classmethod
    def create(cls, file: Path, memory: int) -> "Board":
        """Make a board in a new file; `memory` is the limit in bytes that messages of the watched process name."""
        file.write_bytes(_HEAD.pack(0, memory).ljust(cls.SIZE, b"\0"))
        return cls(file)

    @property
    def memory(self) -> int:
        return _HEAD.unpack_from(self._memory)[1]

    @property
    def interrupts(self) -> int:
        """How often the watched process has heard Ctrl-C."""
        return _HEAD.unpack_from(self._memory)[0]

    def count_interrupt(self) -> None:
        self._memory[0:8] = (self.interrupts + 1).to_bytes(8, "little")  # `pack_into` would write zeros first

    def enter(self, label: bytes) -> None:
        """Note a call of this thread. One inside another is part of it."""
        own = self._own
        depth = getattr(own, "depth", 0)
        own.depth = depth + 1
        if depth:
            return
        if not hasattr(own, "place"):
            slot = (os.getpid() * _FAMILY + next(self._threads) % _FAMILY) % _SLOTS
            own.place = 64 + slot * _SLOT.size
        start = own.place
        self._memory[start + 8 : start + _SLOT.size] = label
        self._memory[start : start + 8] = next(self._numbers).to_bytes(8, "little")

    def leave(self) -> None:
        own = self._own
        own.depth -= 1
        if not own.depth:
            self._memory[own.place : own.place + 8] = b"\0" * 8

    def running(self) -> list[tuple[int, int, float, str]]:
        """(slot, number, patience, what) of every call that runs now."""
        found = []
        for slot in range(_SLOTS):
            number, patience, what = _SLOT.unpack_from(self._memory, 64 + slot * _SLOT.size)
            if number:
                found.append((slot, number, patience, what.rstrip(b"\0").decode("utf-8", "replace")))
        return found


class Call:
    """Something of a runtime that may never end: a context manager that can be entered again, and by several threads.

    Where a watched process finds no memory for it, leaving it raises `LimitPassed` instead of the runtime's own error.
    """

    __slots__ = ("_label", "what")

    def __init__(self, what: str, patience: float = 1.0):
        """what: in words, "running model.onnx". patience: how many times the limit of one call it may take."""
        self.what = what
        self._label = struct.pack("<d240s", patience, what.encode("utf-8", "replace")[:240])

    @classmethod
    def on(cls, verb: str, path: Path, patience: float = 1.0) -> "Call":
        """A call about an artifact: "running my.edgevl/model.onnx", or the file's name where it lies in no bundle."""
        bundles = [index for index, part in enumerate(path.parts[:-1]) if part.endswith(".edgevl")]
        return cls(f"{verb} {'/'.join(path.parts[bundles[-1] :]) if bundles else path.name}", patience)

    def __enter__(self) -> None:
        if _board is not None:
            _board.enter(self._label)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _board is None:
            return
        _board.leave()
        if error is not None and is_want_of_memory(error):
            limit = f"{_board.memory / 1e9:.3g} GB, the limit"
            raise LimitPassed(
                f"{self.what} asks for more memory than {limit}, or than is left: {MORE_MEMORY}"
            ) from error


MORE_TIME = "--max-seconds raises it (in Python, Limits(seconds=...))"
MORE_MEMORY = "--max-memory raises it (in Python, Limits(memory_gb=...))"
_board: Board | None = None


def is_want_of_memory(error: BaseException) -> bool:
    """Runtimes raise errors of their own types for it; the words are few."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY)


def be_watched(file: Path | None = None) -> Board | None:
    """Write calls of this process to a board: `file`, or the one that the environment names. None if there is none."""
    global _board
    named = file or os.environ.get(WATCHED)
    if named and _board is None:
        with contextlib.suppress(OSError, ValueError):  # left in the environment by a watcher that has ended
            _board = Board(Path(named))
            os.environ[WATCHED] = str(named)
    return _board
