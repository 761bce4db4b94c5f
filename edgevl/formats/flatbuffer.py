"""A reader of flatbuffers that trusts nothing: every offset is checked against the bytes that are there.

The format: a table starts with the distance back to its vtable, which lists where each field lies; offsets to strings,
vectors and tables are relative to where they stand (https://flatbuffers.dev/internals/). Fields are numbered in the
order of the schema; a union takes two, its type and its table.
"""

import struct
from collections.abc import Iterator
from typing import TypeAlias

from edgevl.errors import VerificationFailed

Buffer: TypeAlias = bytes | memoryview

REUSE = 16  # how many times the bytes of a file may be read in all; who writes one may name a part more than once
_SIZES = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8}


class Table:
    """A table at `position` of `data`; `what` names the file in messages. Absent fields give the schema's default.

    A small file can hold a long vector that a thousand tables name. So the tables of a file share a budget: `left`
    holds the bytes that may still be read.
    """

    def __init__(self, data: Buffer, position: int, what: str, left: list[int] | None = None):
        self._data, self._position, self._what = data, position, what
        self._left = [REUSE * (len(data) + 1024)] if left is None else left
        self._spend(16)
        self._vtable = position - self._read("i", position)
        self._vtable_bytes = self._read("H", self._vtable)

    @classmethod
    def root(cls, data: Buffer, what: str, identifiers: tuple[bytes, ...]) -> "Table":
        """The root of a flatbuffer. Raises `VerificationFailed` if its identifier is none of those named."""
        if len(data) < 8 or bytes(data[4:8]) not in identifiers:
            known = " or ".join(identifier.decode() for identifier in identifiers)
            raise VerificationFailed(f"{what} is not a flatbuffer of the kind {known}: {bytes(data[4:8])!r}")
        return cls(data, struct.unpack_from("<I", data)[0], what)

    def scalar(self, field: int, kind: str, default: int = 0) -> int:
        """An integer; `kind` is its letter in `struct`."""
        place = self._place(field)
        return self._read(kind, place) if place else default

    def table(self, field: int) -> "Table | None":
        place = self._place(field)
        return Table(self._data, self._follow(place), self._what, self._left) if place else None

    def needed(self, field: int) -> "Table":
        """A table that must be there."""
        found = self.table(field)
        if found is None:
            raise VerificationFailed(f"{self._what} lacks a part (field {field} of the table at {self._position})")
        return found

    def union(self, field: int) -> tuple[int, "Table | None"]:
        """The type of a union (0: none) and its table."""
        return self.scalar(field, "B"), self.table(field + 1)

    def bytes(self, field: int) -> Buffer:
        """A vector of bytes, not copied."""
        start, count = self._vector(field, 1)
        return self._data[start : start + count]

    def text(self, field: int) -> str:
        found = self.bytes(field)
        self._spend(len(found))
        return bytes(found).decode("utf-8", errors="replace")

    def scalars(self, field: int, kind: str) -> tuple[int, ...]:
        start, count = self._vector(field, _SIZES[kind])
        self._spend(count * _SIZES[kind])
        return struct.unpack_from(f"<{count}{kind}", self._data, start)

    def tables(self, field: int) -> Iterator["Table"]:
        start, count = self._vector(field, 4)
        return (Table(self._data, self._follow(start + 4 * index), self._what, self._left) for index in range(count))

    def count(self, field: int) -> int:
        """The number of elements of a vector of bytes or more."""
        return self._vector(field, 1)[1]

    def _place(self, field: int) -> int:
        """Where a field lies, or 0 if this table has none."""
        entry = 4 + 2 * field
        offset = self._read("H", self._vtable + entry) if entry + 2 <= self._vtable_bytes else 0
        return self._position + offset if offset else 0

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        """Start and length of a vector of elements of `size` bytes; an absent one is empty."""
        place = self._place(field)
        if not place:
            return 0, 0
        start = self._follow(place)
        count = self._read("I", start)
        self._check(start + 4, count * size)
        return start + 4, count

    def _spend(self, count: int) -> None:
        self._left[0] -= count
        if self._left[0] < 0:
            raise VerificationFailed(
                f"{self._what} names its parts over and over: to read it takes {REUSE} times its size"
            )

    def _follow(self, place: int) -> int:
        return place + self._read("I", place)

    def _read(self, kind: str, place: int) -> int:
        self._check(place, _SIZES[kind])
        return struct.unpack_from(f"<{kind}", self._data, place)[0]

    def _check(self, start: int, size: int) -> None:
        if start < 0 or start + size > len(self._data):
            raise VerificationFailed(f"{self._what} is truncated or damaged: it points to byte {start + size:,}")
