"""Sequences of which only what is read is made."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar, overload

T = TypeVar("T")


class Lazy(Sequence[T], Generic[T]):
    """The items of an iterator, pulled when they are read and kept: `lazy[:4]` makes four, `len(lazy)` makes all."""

    def __init__(self, start: Callable[[], Iterator[T]]):
        self._start, self._rest = start, None
        self._made: list[T] = []

    def __len__(self) -> int:
        return len(self._pull(None))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            ends = (index.start or 0, index.stop if index.stop is not None else -1)
            return self._pull(index.stop if min(ends) >= 0 and (index.step or 1) > 0 else None)[index]
        return self._pull(index + 1 if index >= 0 else None)[index]

    def __iter__(self) -> Iterator[T]:
        index = 0
        while len(self._pull(index + 1)) > index:
            yield self._made[index]
            index += 1

    def __bool__(self) -> bool:
        return bool(self._pull(1))

    def _pull(self, count: int | None) -> list[T]:
        """Return what was made, after at least `count` items exist, if there are as many; all for None."""
        self._rest = self._start() if self._rest is None else self._rest
        wanted = None if count is None else max(0, count - len(self._made))
        self._made.extend(islice(self._rest, wanted))
        return self._made
