"""One registry for everything that is looked up by name: exporters, losses, sessions, decodings, data sets."""

import contextlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar, cast

from edgevl.errors import InputError, first_line, unknown_name

T = TypeVar("T")
Item = TypeVar("Item")  # what is registered keeps its own type


class Registry(Mapping[str, T], Generic[T]):
    """A dict filled by a decorator, and by the entry points of installed packages.

    An unknown name raises `InputError` listing the known ones; a duplicate raises. Another package's item is loaded
    when its name is asked for, so a broken one disturbs nobody else; it cannot replace one of ours.
    """

    def __init__(self, kind: str, group: str = ""):
        """Name what is registered, and the group of entry points that other packages use; "" is none."""
        self.kind, self.group = kind, group
        self._items: dict[str, T] = {}
        self._points: dict[str, importlib.metadata.EntryPoint] | None = None

    def register(self, name: str) -> Callable[[Item], Item]:
        def add(item: Item) -> Item:
            if name in self._items:
                raise ValueError(f'{self.kind} "{name}" is registered twice')
            self._items[name] = cast(T, item)
            return item

        return add

    def __getitem__(self, name: str) -> T:
        if name in self._items:
            return self._items[name]
        if name not in self._others():
            raise unknown_name(self.kind, name, self)
        point = self._others()[name]
        try:
            return self._items.setdefault(name, point.load())
        except Exception as error:  # whatever another package does when it is imported
            package = point.dist.name if point.dist else point.value
            raise InputError(f'{self.kind} "{name}" of the package {package} fails: {first_line(error)}') from error

    def loaded(self) -> dict[str, T]:
        """Return all that can be loaded: a broken one is heard of when its name is asked for."""
        found = {}
        for name in self:
            with contextlib.suppress(InputError):
                found[name] = self[name]
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._items or name in self._others()

    def __iter__(self) -> Iterator[str]:
        return iter({**self._items, **self._others()})

    def __len__(self) -> int:
        return len({**self._items, **self._others()})

    def _others(self) -> dict[str, importlib.metadata.EntryPoint]:
        """Entry points by name: reading the metadata of all packages takes a while, so it is done when needed, once."""
        if self._points is None:
            points = importlib.metadata.entry_points(group=self.group) if self.group else ()
            self._points = {point.name: point for point in points}
        return self._points
