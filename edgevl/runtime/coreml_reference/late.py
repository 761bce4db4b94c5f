"""Kernels that are built when they run, because they need what only a run tells: a shape or a computed parameter."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from .limits import Limits
from .node import Node, Unknown, UnsupportedOp, Value
from .ops import Builder
from .sizes import result_elements

_SMALL = 64  # values that are compared to see whether a kernel still fits


class Late:
    """A kernel that builds the operator's own kernel for the shapes and parameters at hand.

    Args:
        node: the operator, with the values of its constants, not of its operands.
        operands: the names of the inputs that the operator's kernel takes.
        names: the input that each tensor of a call belongs to: first those of the operands, then what else only a run
            knows. The tensors of a list follow one another.
    """

    def __init__(self, node: Node, build: Builder, operands: Sequence[str], names: Sequence[str], limits: Limits):
        self._node, self._build, self._names, self._limits = node, build, tuple(names), limits
        self._lists = {name for name, value in node.inputs.items() if isinstance(value, tuple)}
        self._taken = sum(name in operands for name in names)
        self._last: tuple[Any, Any] = (None, None)  # the key of the last call, and its kernel

    def __call__(self, *tensors: Tensor | None) -> Any:
        key = [self._fingerprint(index, tensor) for index, tensor in enumerate(tensors)]
        if key != self._last[0]:
            self._last = (key, self._built(tensors))
        return self._last[1](*tensors[: self._taken])

    def _fingerprint(self, index: int, tensor: Tensor | None) -> Any:
        """What a kernel may depend on: the shape, and, of a parameter, the values."""
        if tensor is None or index < self._taken:
            return None if tensor is None else tensor.shape
        return (tensor.shape, tensor.tolist()) if tensor.numel() <= _SMALL else object()

    def _built(self, tensors: Sequence[Tensor | None]) -> Any:
        node = replace(self._node, inputs=self._bound(tensors))
        try:
            self._limits.check_memory(4 * result_elements(node))
            return self._build(node)
        except Unknown as error:
            raise UnsupportedOp(f"{node}: {error} is not known even at run time") from error

    def _bound(self, tensors: Sequence[Tensor | None]) -> dict[str, Value | tuple[Value, ...]]:
        bound = dict(self._node.inputs)
        for name in self._lists & set(self._names):
            bound[name] = tuple(_value(t) for n, t in zip(self._names, tensors) if n == name and t is not None)
        for name, tensor in zip(self._names, tensors):
            old = bound.get(name)
            if isinstance(old, Value) and tensor is not None:
                bound[name] = replace(_value(tensor), dtype=old.dtype)
        return bound


def _value(tensor: Tensor) -> Value:
    return Value(tuple(tensor.shape), read=partial(_numpy, tensor))


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.numpy()
