"""Slices: read a part of a tensor, or write one. Begins and ends may be computed at run time (key-value caches).

Definitions: coremltools' MIL reference, `slice_by_index`, `slice_by_size` (iOS15) and `slice_update` (iOS18).
"""

from typing import Any

import torch
from torch import Tensor

from .ops import Kernel, Node, UnsupportedOp, mil_op

Index = slice | int


@mil_op("slice_by_index", exact=True)
def _slice_by_index(node: Node) -> Kernel:
    index = slice_index(node)
    if all(isinstance(part, int) or part.step is None or part.step > 0 for part in index):
        return lambda x: x[index]

    def slice_by_index(x: Tensor) -> Tensor:  # torch slices have no negative steps
        for axis, part in enumerate(index):
            x = x.index_select(axis, _places(part, x.shape[axis]))
        return x.squeeze([axis for axis, part in enumerate(index) if isinstance(part, int)])

    return slice_by_index


def slice_index(node: Node) -> tuple[Index, ...]:
    """Return what a begin/end/stride slice with masks takes of each dimension, as Python indexes: an int for one entry
    whose dimension goes away (`squeeze_mask`), otherwise a slice."""
    rank = node.rank()
    begin, end = _numbers(node, "begin", [0] * rank), _numbers(node, "end", [0] * rank)
    stride = _numbers(node, "stride", [1] * rank)
    masks = [_numbers(node, f"{name}_mask", [False] * rank) for name in ("begin", "end", "squeeze")]
    parts: list[Index] = []
    for first, last, step, open_begin, open_end, single in zip(begin, end, stride, *masks):
        if step == 0:
            raise UnsupportedOp(f"{node}: a stride of 0")
        if single:
            parts.append(0 if open_begin else first)
        else:
            parts.append(slice(None if open_begin else first, None if open_end else last, step))
    return tuple(parts)


def _numbers(node: Node, name: str, default: list[Any]) -> list[Any]:
    """Return a parameter with one entry for each dimension."""
    numbers = node.param(name, None) or default
    if len(numbers) != len(default):
        raise UnsupportedOp(f'{node}: "{name}" has {len(numbers)} entries for {len(default)} dimensions')
    return numbers


def _places(part: Index, side: int) -> Tensor:
    """The indices that a part of an index takes of a dimension of `side` entries."""
    if isinstance(part, int):
        return torch.tensor([part % side])
    return torch.tensor(list(range(*part.indices(side))), dtype=torch.long)


@mil_op("slice_by_size", exact=True)
def _slice_by_size(node: Node) -> Kernel:
    """A size of -1 takes all that follows."""
    begins, sizes = (_numbers(node, name, [0] * node.rank()) for name in ("begin", "size"))

    def slice_by_size(x: Tensor) -> Tensor:
        parts = []
        for begin, size, side in zip(begins, sizes, x.shape):
            begin = begin + side if begin < 0 else begin
            size = side - begin if size == -1 else size
            if not 0 <= begin <= begin + size <= side:
                raise ValueError(f"{size} entries from {begin} on, of a dimension that has {side}")
            parts.append(slice(begin, begin + size))
        return x[tuple(parts)]

    return slice_by_size


@mil_op("slice_update", operands=("x", "update"), exact=True)
def _slice_update(node: Node) -> Kernel:
    index = slice_index(node)
    if all(isinstance(part, int) or part.step is None or part.step > 0 for part in index):

        def assign(x: Tensor, update: Tensor) -> Tensor:
            out = x.clone()
            target = out[index]
            target.copy_(update.reshape(target.shape))
            return out

        return assign

    def put(x: Tensor, update: Tensor) -> Tensor:
        grid = torch.meshgrid(*(_places(part, side) for part, side in zip(index, x.shape)), indexing="ij")
        return x.index_put(grid, update.reshape(grid[0].shape))

    return put
