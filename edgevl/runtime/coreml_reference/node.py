"""What a builder may look at: one operator of a program, with its parameters as plain Python values."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .seam import InputError

Shape = tuple[int | None, ...]  # None: not known before the program runs
_REQUIRED: Any = object()


class UnsupportedOp(InputError):
    """The program holds an operator, or a use of one, that the reference executor does not know."""


class Unknown(Exception):
    """A builder needs a shape or a parameter that is known only when the program runs."""


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Value:
    """An input of an operator: its type, and how to read it. `read` returns `None` for what only a run computes."""

    shape: Shape
    dtype: str = ""
    read: Callable[[], Any] = _nothing


Values = Mapping[str, Value | tuple[Value, ...]]


@dataclass(frozen=True)
class Node:
    """Read access to one operator."""

    type: str
    name: str  # of its first output
    inputs: Values  # what the program leaves out is missing
    outputs: tuple[Shape, ...]

    def __str__(self) -> str:
        return f'operator "{self.type}" with output "{self.name}"'

    def has(self, name: str) -> bool:
        """Does the program give this input?"""
        return name in self.inputs

    def param(self, name: str, default: Any = _REQUIRED) -> Any:
        """Return a parameter: a number, bool, string or list; `default` where the program leaves it out."""
        value = self.inputs.get(name)
        if value is None:
            if default is _REQUIRED:
                raise UnsupportedOp(f'{self}: parameter "{name}" is missing')
            return default
        if isinstance(value, tuple):
            return [_plain(self._read(item, name)) for item in value]
        return _plain(self._read(value, name))

    def choice(self, name: str, allowed: Iterable[str], default: Any = _REQUIRED) -> str:
        """Return a parameter that is one of a few words."""
        word = self.param(name, default)
        if word not in (words := list(allowed)):
            raise UnsupportedOp(f'{self}: {name} "{word}"; known: {", ".join(words)}')
        return word

    def tensor(self, name: str) -> Tensor | None:
        """Return a parameter as a tensor, or `None` where the program leaves it out."""
        value = self.inputs.get(name)
        return None if value is None else to_tensor(np.asarray(self._read(self._single(name), name)))

    def required(self, name: str) -> Tensor:
        """Return a parameter that the operator cannot do without, as a tensor."""
        value = self.tensor(name)
        if value is None:
            raise UnsupportedOp(f'{self}: parameter "{name}" is missing')
        return value

    def shape(self, name: str = "x") -> tuple[int, ...]:
        """Return the shape of an input. Raises `Unknown` where only a run tells."""
        return _known(self._single(name).shape)

    def shapes(self, name: str = "values") -> list[tuple[int, ...]]:
        """Return the shapes of an input that is a list."""
        value = self.inputs.get(name, ())
        return [_known(item.shape) for item in (value if isinstance(value, tuple) else (value,))]

    def is_constant(self, name: str) -> bool:
        """Is an input known before the program runs?"""
        return self._single(name).read() is not None

    def rank(self, name: str = "x") -> int:
        """Return the number of dimensions of an input, which is always known."""
        return len(self._single(name).shape)

    def dtype(self, name: str = "x") -> str:
        """Return MIL's name of an input's element type."""
        return self._single(name).dtype

    def axis(self, name: str = "axis", of: str = "x", default: Any = _REQUIRED) -> int:
        """Return an axis parameter, counted from the front."""
        return self._from_front(self.param(name, default), self.rank(of))

    def axes(self, name: str = "axes", of: str = "x") -> list[int]:
        """Return a list of axes, counted from the front; all axes where the program leaves them out."""
        axes, rank = self.param(name, None), self.rank(of)
        return list(range(rank)) if axes is None else [self._from_front(axis, rank) for axis in axes]

    def _from_front(self, axis: int, rank: int) -> int:
        if not -rank <= axis < rank:
            raise UnsupportedOp(f"{self}: axis {axis} of an operand with {rank} dimensions")
        return axis % rank

    def _single(self, name: str) -> Value:
        value = self.inputs.get(name)
        if not isinstance(value, Value):
            raise UnsupportedOp(f'{self}: input "{name}" is {"missing" if value is None else "a list"}')
        return value

    def _read(self, value: Value, name: str) -> Any:
        known = value.read()
        if known is None:
            raise Unknown(f'parameter "{name}"')
        return known


def to_tensor(value: np.ndarray) -> Tensor:
    """Return a contiguous tensor of a constant; half precision is widened, which is exact."""
    if value.dtype in (np.float16, np.float64):
        value = value.astype(np.float32)
    elif value.dtype in (np.uint16, np.uint32):  # torch cannot index with these
        value = value.astype(np.int32 if value.dtype == np.uint16 else np.int64)
    return torch.from_numpy(np.array(value, order="C"))


def _known(shape: Shape) -> tuple[int, ...]:
    if None in shape:
        raise Unknown("a shape")
    return tuple(side for side in shape if side is not None)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value
