"""Scatter: write or combine updates at given places. Where a place is named twice, `update` keeps the last value."""

import math

import torch
from torch import Tensor

from .indexing import counted
from .ops import Kernel, Node, mil_op

_REDUCE = {"add": "sum", "sub": "sum", "mul": "prod", "div": "prod", "max": "amax", "min": "amin"}
_OPERANDS = ("data", "indices", "updates")


@mil_op("scatter_along_axis", operands=_OPERANDS)
def _scatter_along_axis(node: Node) -> Kernel:
    axis, mode, from_front = node.axis(of="data", default=0), _mode(node), counted(node)

    def scatter_along_axis(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        return _combine(data, axis, from_front(indices, data.shape[axis]).long(), updates, mode)

    return scatter_along_axis


@mil_op("scatter", operands=_OPERANDS)
def _scatter(node: Node) -> Kernel:
    """Whole slices: update number i along `axis` goes to `indices[i]`."""
    axis, mode, from_front = node.axis(of="data", default=0), _mode(node), counted(node)
    over = [-1 if index == axis else 1 for index in range(node.rank("data"))]

    def scatter(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        updates = updates.flatten(axis, axis + indices.dim() - 1)
        places = from_front(indices, data.shape[axis]).long().reshape(over).expand(updates.shape)
        return _combine(data, axis, places, updates, mode)

    return scatter


@mil_op("scatter_nd", operands=_OPERANDS)
def _scatter_nd(node: Node) -> Kernel:
    """The last dimension of `indices` addresses the leading dimensions of data, here flattened into one."""
    mode, from_front = _mode(node), counted(node)

    def scatter_nd(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        shape, depth = data.shape, indices.shape[-1]
        strides = [math.prod(shape[axis + 1 : depth]) for axis in range(depth)]
        rest = math.prod(shape[depth:])
        columns = zip(indices.reshape(-1, depth).unbind(-1), shape, strides)
        places = torch.stack([from_front(column, side).long() * stride for column, side, stride in columns]).sum(0)
        flat, updates = data.reshape(-1, rest), updates.reshape(-1, rest)
        return _combine(flat, 0, places[:, None].expand(updates.shape), updates, mode).reshape(shape)

    return scatter_nd


def _mode(node: Node) -> str:
    return node.choice("mode", (*_REDUCE, "update"), "add")


def _combine(data: Tensor, axis: int, places: Tensor, updates: Tensor, mode: str) -> Tensor:
    """places, of the shape of updates: where along `axis` each update goes."""
    if mode == "update":
        return data.scatter(axis, places, updates)
    if mode == "div":
        divisors = torch.ones_like(data).scatter_reduce(axis, places, updates, reduce="prod")
        return data / divisors if data.is_floating_point() else torch.div(data, divisors, rounding_mode="trunc")
    return data.scatter_reduce(axis, places, -updates if mode == "sub" else updates, reduce=_REDUCE[mode])
