"""Operators that pick by index or by rank: gather, top-k, sort, one-hot, non-zero, reversed sequences."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .ops import Kernel, Node, mil_op

FromFront = Callable[[Tensor, int], Tensor]


@mil_op("gather", operands=("x", "indices"), exact=True)
def _gather(node: Node) -> Kernel:
    axis, batch_dims, from_front = node.axis(default=0), node.param("batch_dims", 0), counted(node)
    if batch_dims:
        return _batched_gather(axis, batch_dims, from_front)

    def gather(x: Tensor, indices: Tensor) -> Tensor:
        picked = x.index_select(axis, from_front(indices, x.shape[axis]).reshape(-1))
        return picked.reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])

    return gather


def _batched_gather(axis: int, batch_dims: int, from_front: FromFront) -> Kernel:
    """Flatten the batch dimensions, gather row by row in one `gather` over expanded indices, and restore the shape."""

    def gather(x: Tensor, indices: Tensor) -> Tensor:
        batch, own = indices.shape[:batch_dims], indices.shape[batch_dims:]
        between, after = x.shape[batch_dims:axis], x.shape[axis + 1 :]
        count = math.prod(own)
        flat = from_front(indices, x.shape[axis]).reshape(*batch, *(1,) * len(between), count, *(1,) * len(after))
        flat = flat.expand(*batch, *between, count, *after)
        return torch.gather(x, axis, flat.long()).reshape(*batch, *between, *own, *after)

    return gather


@mil_op("gather_along_axis", operands=("x", "indices"), exact=True)
def _gather_along_axis(node: Node) -> Kernel:
    axis, from_front = node.axis(default=0), counted(node)
    return lambda x, indices: torch.gather(x, axis, from_front(indices, x.shape[axis]).long())


@mil_op("gather_nd", operands=("x", "indices"), exact=True)
def _gather_nd(node: Node) -> Kernel:
    """The last dimension of `indices` addresses dimensions of x, behind `batch_dims` leading ones that both share."""
    batch_dims, rank, from_front = node.param("batch_dims", 0), node.rank("indices") - 1, counted(node)

    def gather_nd(x: Tensor, indices: Tensor) -> Tensor:
        shared = [
            torch.arange(side).reshape([-1 if axis == at else 1 for axis in range(rank)])
            for at, side in enumerate(x.shape[:batch_dims])
        ]
        columns = [from_front(column, side).long() for column, side in zip(indices.unbind(-1), x.shape[batch_dims:])]
        return x[(*shared, *columns)]

    return gather_nd


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


@mil_op("non_zero", exact=True)
def _non_zero(node: Node) -> Kernel:
    return lambda x: torch.nonzero(x).to(torch.int32)


@mil_op("one_hot", operands=("indices", "on_value", "off_value"), exact=True)
def _one_hot(node: Node) -> Kernel:
    size, axis, rank = node.param("one_hot_vector_size"), node.param("axis", -1), node.rank("indices") + 1

    def one_hot(indices: Tensor, on: Tensor, off: Tensor) -> Tensor:
        inside = (indices >= 0) & (indices < size)
        hot = F.one_hot(indices.long().clamp(0, size - 1), size).bool() & inside[..., None]
        return torch.where(hot, on, off).movedim(-1, axis % rank)

    return one_hot


@mil_op("reverse_sequence", operands=("x", "lengths"), exact=True)
def _reverse_sequence(node: Node) -> Kernel:
    """Reverse the first `lengths[b]` entries of each batch entry b along `seq_axis`."""
    axis, batch = node.axis("seq_axis", default=0), node.axis("batch_axis", default=0)
    side, shape = node.shape()[axis], node.shape()
    steps = torch.arange(side).reshape([-1 if index == axis else 1 for index in range(len(shape))])
    over = [-1 if index == batch else 1 for index in range(len(shape))]

    def reverse_sequence(x: Tensor, lengths: Tensor) -> Tensor:
        ends = lengths.long().reshape(over)
        return torch.gather(x, axis, torch.where(steps < ends, ends - 1 - steps, steps).expand(shape))

    return reverse_sequence


def counted(node: Node) -> FromFront:
    """Return a function of indices and a side that gives indices counted from the front, of 32 bits or more.

    Negative indices count from the end up to iOS16. From iOS17 on, when `validate_indices` came, they are out of
    bounds, whatever its value: it only says whether Core ML looks. Indices are often of 16 bits then.
    """
    if node.has("validate_indices"):
        return _within
    return lambda indices, side: torch.where(indices < 0, indices + side, indices)


def _within(indices: Tensor, side: int) -> Tensor:
    indices = indices if indices.dtype in (torch.int32, torch.int64) else indices.to(torch.int32)
    if indices.numel() and (lowest := int(indices.min())) < 0:
        raise ValueError(f"index {lowest} of {side}: from iOS17 on no index may be negative")
    if indices.numel() and (highest := int(indices.max())) >= side:  # scatter_nd would find another row's place
        raise ValueError(f"index {highest} is out of bounds: there are {side}")
    return indices
