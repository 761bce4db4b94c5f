"""A file made of new bytes and a part of another file, without copying that part."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO


class Splice:
    """Read `head`, then `length` bytes of `stream` from `start`: enough of a file for Pillow's decoders."""

    def __init__(self, head: bytes, stream: BinaryIO, start: int, length: int):
        self._head, self._stream, self._start = head, stream, start
        self._size, self._at = len(head) + length, 0

    def read(self, count: int = -1) -> bytes:
        left = max(self._size - self._at, 0)
        count = left if count is None or count < 0 else min(count, left)
        data = self._head[self._at : self._at + count]
        if len(data) < count:
            self._stream.seek(self._start + max(self._at - len(self._head), 0))
            rest = self._stream.read(count - len(data))
            data = data + rest if data else rest
        self._at += len(data)
        return data

    def seek(self, place: int, whence: int = 0) -> int:
        self._at = place + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at
