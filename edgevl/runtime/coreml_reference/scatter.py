"""Scatter: write or combine updates at given places. Where a place is named twice, `update` keeps the last value."""

import math

import torch
from torch import Tensor

from edgevl.runtime.coreml_reference.indexing import wrap
from edgevl.runtime.coreml_reference.ops import Kernel, Node, UnsupportedOp, mil_op

_REDUCE = {"add": "sum", "sub": "sum", "mul": "prod", "div": "prod", "max": "amax", "min": "amin"}
_OPERANDS = ("data", "indices", "updates")


@mil_op("scatter_along_axis", operands=_OPERANDS)
def _scatter_along_axis(node: Node) -> Kernel:
    axis, mode = node.axis(of="data"), _mode(node)
    side = node.shape("data")[axis]
    return lambda data, indices, updates: _combine(data, axis, wrap(indices, side).long(), updates, mode)


@mil_op("scatter", operands=_OPERANDS)
def _scatter(node: Node) -> Kernel:
    """Whole slices: update number i along `axis` goes to `indices[i]`."""
    axis, mode, shape = node.param("axis", 0) % node.rank("data"), _mode(node), node.shape("data")
    over = [-1 if index == axis else 1 for index in range(len(shape))]

    def scatter(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        updates = updates.flatten(axis, axis + indices.dim() - 1)
        places = wrap(indices, shape[axis]).long().reshape(over).expand(updates.shape)
        return _combine(data, axis, places, updates, mode)

    return scatter


@mil_op("scatter_nd", operands=_OPERANDS)
def _scatter_nd(node: Node) -> Kernel:
    """The last dimension of `indices` addresses the leading dimensions of data, here flattened into one."""
    mode, shape, depth = _mode(node), node.shape("data"), node.shape("indices")[-1]
    strides = [math.prod(shape[axis + 1 : depth]) for axis in range(depth)]
    rest = math.prod(shape[depth:])

    def scatter_nd(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        columns = zip(indices.reshape(-1, depth).unbind(-1), shape, strides)
        places = torch.stack([wrap(column, side).long() * stride for column, side, stride in columns]).sum(0)
        flat, updates = data.reshape(-1, rest), updates.reshape(-1, rest)
        return _combine(flat, 0, places[:, None].expand(updates.shape), updates, mode).reshape(shape)

    return scatter_nd


def _mode(node: Node) -> str:
    mode = node.param("mode", "add")
    if mode not in (*_REDUCE, "update"):
        raise UnsupportedOp(f'{node}: mode "{mode}"')
    return mode


def _combine(data: Tensor, axis: int, places: Tensor, updates: Tensor, mode: str) -> Tensor:
    """places, of the shape of updates: where along `axis` each update goes."""
    if mode == "update":
        return data.scatter(axis, places, updates)
    if mode == "div":
        divisors = torch.ones_like(data).scatter_reduce(axis, places, updates, reduce="prod")
        return data / divisors if data.is_floating_point() else torch.div(data, divisors, rounding_mode="trunc")
    return data.scatter_reduce(axis, places, -updates if mode == "sub" else updates, reduce=_REDUCE[mode])
