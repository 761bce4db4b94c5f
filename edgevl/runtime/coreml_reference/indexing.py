"""Operators that pick by index or by rank: gather, scatter, top-k, sort, one-hot."""

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevl.runtime.coreml_reference.ops import Kernel, Node, UnsupportedOp, mil_op


@mil_op("gather", operands=("x", "indices"), exact=True)
def _gather(node: Node) -> Kernel:
    axis, batch_dims, shape = node.axis(), node.param("batch_dims", 0), node.output_shape()
    side = node.shape()[axis]
    if batch_dims:
        return _batched_gather(node, axis, batch_dims)

    def gather(x: Tensor, indices: Tensor) -> Tensor:
        return x.index_select(axis, _wrap(indices, side).reshape(-1)).reshape(shape)

    return gather


def _batched_gather(node: Node, axis: int, batch_dims: int) -> Kernel:
    """Flatten the batch dimensions, gather row by row in one `gather` over expanded indices, and restore the shape."""
    x_shape, i_shape, shape = node.shape(), node.shape("indices"), node.output_shape()
    between, after = x_shape[batch_dims:axis], x_shape[axis + 1 :]
    count = 1
    for side in i_shape[batch_dims:]:
        count *= side

    def gather(x: Tensor, indices: Tensor) -> Tensor:
        flat = _wrap(indices, x_shape[axis]).reshape(
            *i_shape[:batch_dims], *(1,) * len(between), count, *(1,) * len(after)
        )
        flat = flat.expand(*i_shape[:batch_dims], *between, count, *after)
        return torch.gather(x, axis, flat.long()).reshape(shape)

    return gather


@mil_op("gather_along_axis", operands=("x", "indices"), exact=True)
def _gather_along_axis(node: Node) -> Kernel:
    axis = node.axis()
    side = node.shape()[axis]
    return lambda x, indices: torch.gather(x, axis, _wrap(indices, side).long())


@mil_op("gather_nd", operands=("x", "indices"), exact=True)
def _gather_nd(node: Node) -> Kernel:
    if node.param("batch_dims", 0):
        raise UnsupportedOp(f"{node}: batch_dims other than 0")
    sides = node.shape()

    def gather_nd(x: Tensor, indices: Tensor) -> Tensor:
        return x[tuple(_wrap(column, sides[i]).long() for i, column in enumerate(indices.unbind(-1)))]

    return gather_nd


_COMBINE = {"add": "sum", "sub": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@mil_op("scatter_along_axis", operands=("data", "indices", "updates"))
def _scatter_along_axis(node: Node) -> Kernel:
    axis, mode = node.axis(of="data"), node.param("mode", "add")
    side = node.shape("data")[axis]
    if mode not in (*_COMBINE, "update"):
        raise UnsupportedOp(f'{node}: mode "{mode}"')

    def scatter(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        index = _wrap(indices, side).long()
        if mode == "update":
            return data.scatter(axis, index, updates)
        updates = -updates if mode == "sub" else updates
        return data.scatter_reduce(axis, index, updates, reduce=_COMBINE[mode])

    return scatter


@mil_op("topk", exact=True)
def _topk(node: Node) -> Kernel:
    k, axis, ascending = node.param("k", 1), node.param("axis", -1), node.param("ascending", False)
    with_indices = node.param("return_indices", True)

    def topk(x: Tensor) -> tuple[Tensor, ...]:
        values, indices = torch.topk(x, k, axis, largest=not ascending, sorted=True)
        return (values, indices.to(torch.int32)) if with_indices else (values,)

    return topk


@mil_op("argsort", exact=True)
def _argsort(node: Node) -> Kernel:
    axis, ascending = node.param("axis", -1), node.param("ascending", False)
    return lambda x: torch.argsort(x, dim=axis, descending=not ascending, stable=True).to(torch.int32)


@mil_op("one_hot", operands=("indices", "on_value", "off_value"), exact=True)
def _one_hot(node: Node) -> Kernel:
    size, axis, rank = node.param("one_hot_vector_size"), node.param("axis", -1), len(node.output_shape())

    def one_hot(indices: Tensor, on: Tensor, off: Tensor) -> Tensor:
        inside = (indices >= 0) & (indices < size)
        hot = F.one_hot(indices.long().clamp(0, size - 1), size).bool() & inside[..., None]
        return torch.where(hot, on, off).movedim(-1, axis % rank)

    return one_hot


def _wrap(indices: Tensor, side: int) -> Tensor:
    """Negative indices count from the end. From iOS17 on indices are often of 16 bits, which torch cannot index by."""
    indices = indices if indices.dtype in (torch.int32, torch.int64) else indices.to(torch.int32)
    return torch.where(indices < 0, indices + side, indices)
