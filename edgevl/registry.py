"""One registry for everything that is looked up by name: exporters, losses, sessions, data sets."""

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar, cast

from edgevl.errors import unknown_name

T = TypeVar("T")
Item = TypeVar("Item")  # what is registered keeps its own type


class Registry(Mapping[str, T], Generic[T]):
    """A dict filled by a decorator. An unknown name raises `InputError` listing the known ones; a duplicate raises."""

    def __init__(self, kind: str):
        self.kind = kind
        self._items: dict[str, T] = {}

    def register(self, name: str) -> Callable[[Item], Item]:
        def add(item: Item) -> Item:
            if name in self._items:
                raise ValueError(f'{self.kind} "{name}" is registered twice')
            self._items[name] = cast(T, item)
            return item

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._items:
            raise unknown_name(self.kind, name, self._items)
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
