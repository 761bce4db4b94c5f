"""Operators that move values without changing them: layout, slicing, joining, padding."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevl.runtime.coreml_reference.ops import Kernel, Node, UnsupportedOp, mil_op


@mil_op("reshape", "expand_dims", "squeeze", "flatten2d", "reshape_like", exact=True)
def _reshape(node: Node) -> Kernel:
    """All of these only give the same values another shape, and the program declares which."""
    shape = node.output_shape()
    return lambda x: x.reshape(shape)


@mil_op("transpose", exact=True)
def _transpose(node: Node) -> Kernel:
    perm = node.param("perm")
    return lambda x: x.permute(perm)


@mil_op("concat", operands=("values",), exact=True)
def _concat(node: Node) -> Kernel:
    axis = node.param("axis")
    if node.param("interleave", False):
        place = axis % len(node.output_shape())
        return lambda *values: torch.stack(values, place + 1).flatten(place, place + 1)
    return lambda *values: torch.cat([value.reshape(1) if value.dim() == 0 else value for value in values], axis)


@mil_op("stack", operands=("values",), exact=True)
def _stack(node: Node) -> Kernel:
    axis = node.param("axis")
    return lambda *values: torch.stack(values, axis)


@mil_op("split", exact=True)
def _split(node: Node) -> Kernel:
    axis = node.axis()
    sizes = [node.output_shape(index)[axis] for index in range(len(node.op.outputs))]
    return lambda x: torch.split(x, sizes, axis)


@mil_op("slice_by_index", exact=True)
def _slice_by_index(node: Node) -> Kernel:
    shape = node.shape()
    ranges = slice_ranges(node, shape)
    squeezed = node.output_shape()
    if all(taken.step > 0 for taken in ranges):
        slices = tuple(slice(taken.start, taken.stop, taken.step) for taken in ranges)
        return lambda x: x[slices].reshape(squeezed)
    picks = [(axis, torch.tensor(list(taken))) for axis, taken in enumerate(ranges)]

    def slice_by_index(x: Tensor) -> Tensor:  # torch slices have no negative steps
        for axis, pick in picks:
            x = x.index_select(axis, pick)
        return x.reshape(squeezed)

    return slice_by_index


def slice_ranges(node: Node, shape: tuple[int, ...]) -> list[range]:
    """Return, for each dimension of `shape`, the indices that a begin/end/stride slice with masks takes."""
    rank = len(shape)
    begin, end = node.param("begin"), node.param("end")
    stride = node.param("stride") or [1] * rank
    masks = [node.param(name) or [False] * rank for name in ("begin_mask", "end_mask", "squeeze_mask")]
    ranges = []
    for side, first, last, step, open_begin, open_end, single in zip(shape, begin, end, stride, *masks):
        if single:
            index = first % side
            ranges.append(range(index, index + 1))
        else:
            taken = slice(None if open_begin else first, None if open_end else last, step)
            ranges.append(range(*taken.indices(side)))
    return ranges


@mil_op("slice_by_size", exact=True)
def _slice_by_size(node: Node) -> Kernel:
    begins = [begin % side if side else 0 for begin, side in zip(node.param("begin"), node.shape())]
    slices = tuple(slice(begin, begin + size) for begin, size in zip(begins, node.output_shape()))
    return lambda x: x[slices]


@mil_op("slice_update", operands=("x", "update"), exact=True)
def _slice_update(node: Node) -> Kernel:
    ranges = slice_ranges(node, node.shape())
    picks = [torch.tensor(list(taken)) for taken in ranges]
    grid = torch.meshgrid(*picks, indexing="ij")

    def slice_update(x: Tensor, update: Tensor) -> Tensor:
        return x.index_put(grid, update.reshape(grid[0].shape))

    return slice_update


@mil_op("tile", exact=True)
def _tile(node: Node) -> Kernel:
    reps = node.param("reps")
    return lambda x: x.repeat(reps)


@mil_op("reverse", exact=True)
def _reverse(node: Node) -> Kernel:
    axes = node.axes()
    return lambda x: x.flip(axes)


@mil_op("pad", exact=True)
def _pad(node: Node) -> Kernel:
    pad, mode = node.param("pad"), node.param("mode", "constant")
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]  # for the last len(pairs) dimensions
    if mode == "constant":
        value, flat = node.param("constant_val", 0.0), [side for pair in reversed(pairs) for side in pair]
        return lambda x: F.pad(x, flat, value=value)
    first = node.rank() - len(pairs)
    picks = [
        (first + index, _border_indices(node.shape()[first + index], pair, mode))
        for index, pair in enumerate(pairs)
        if any(pair)
    ]

    def pad_border(x: Tensor) -> Tensor:  # F.pad reflects and replicates only some ranks; taking indices does all
        for axis, pick in picks:
            x = x.index_select(axis, pick)
        return x

    return pad_border


def _border_indices(side: int, pair: tuple[int, int], mode: str) -> Tensor:
    index = torch.arange(-pair[0], side + pair[1])
    if mode == "replicate":
        return index.clamp(0, side - 1)
    return side - 1 - (side - 1 - index.abs()).abs()


@mil_op("crop", exact=True)
def _crop(node: Node) -> Kernel:
    (top, _), (left, _) = node.param("crop_height"), node.param("crop_width")
    height, width = node.output_shape()[-2:]
    return lambda x: x[..., top : top + height, left : left + width]


@mil_op("pixel_shuffle", exact=True)
def _pixel_shuffle(node: Node) -> Kernel:
    factor = node.param("upscale_factor")
    return lambda x: F.pixel_shuffle(x, factor)


@mil_op("pixel_unshuffle", exact=True)
def _pixel_unshuffle(node: Node) -> Kernel:
    factor = node.param("downscale_factor")
    return lambda x: F.pixel_unshuffle(x, factor)


@mil_op("space_to_depth", exact=True)
def _space_to_depth(node: Node) -> Kernel:
    """[n, C, H*b, W*b] to [n, b*b*C, H, W], the block's cell first, then the channel (TensorFlow's order)."""
    block, (n, c, height, width) = node.param("block_size"), node.shape()
    split = (n, c, height // block, block, width // block, block)
    return lambda x: x.reshape(split).permute(0, 3, 5, 1, 2, 4).reshape(node.output_shape())


@mil_op("depth_to_space", exact=True)
def _depth_to_space(node: Node) -> Kernel:
    """The inverse of space_to_depth."""
    block, (n, c, height, width) = node.param("block_size"), node.shape()
    split = (n, block, block, c // block**2, height, width)
    return lambda x: x.reshape(split).permute(0, 3, 4, 1, 5, 2).reshape(node.output_shape())


@mil_op("space_to_batch", exact=True)
def _space_to_batch(node: Node) -> Kernel:
    """Pad with zeros, then [n, C, H*a, W*b] to [a*b*n, C, H, W]: the cell of the block first (TensorFlow's order)."""
    (a, b), ((top, bottom), (left, right)) = node.param("block_shape"), node.param("paddings")
    n, c, height, width = node.shape()
    split = (n, c, (height + top + bottom) // a, a, (width + left + right) // b, b)

    def space_to_batch(x: Tensor) -> Tensor:
        return F.pad(x, (left, right, top, bottom)).reshape(split).permute(3, 5, 0, 1, 2, 4).flatten(0, 2)

    return space_to_batch


@mil_op("batch_to_space", exact=True)
def _batch_to_space(node: Node) -> Kernel:
    """The inverse of space_to_batch."""
    (a, b), ((top, bottom), (left, right)) = node.param("block_shape"), node.param("crops")
    n, c, height, width = node.shape()
    split = (a, b, n // (a * b), c, height, width)
    rows, columns = slice(top, height * a - bottom), slice(left, width * b - right)

    def batch_to_space(x: Tensor) -> Tensor:
        joined = x.reshape(split).permute(2, 3, 4, 0, 5, 1).reshape(n // (a * b), c, height * a, width * b)
        return joined[:, :, rows, columns]

    return batch_to_space


@mil_op("sliding_windows", exact=True)
def _sliding_windows(node: Node) -> Kernel:
    axis, size, stride = node.axis(), node.param("size"), node.param("stride", 1)
    return lambda x: x.unfold(axis, size, stride).movedim(-1, axis + 1)


@mil_op("band_part", exact=True)
def _band_part(node: Node) -> Kernel:
    lower, upper = node.param("lower", -1), node.param("upper", -1)
    rows, columns = node.shape()[-2:]
    offset = torch.arange(columns)[None, :] - torch.arange(rows)[:, None]
    keep = (offset >= (-lower if lower >= 0 else -math.inf)) & (offset <= (upper if upper >= 0 else math.inf))
    return lambda x: torch.where(keep, x, torch.zeros((), dtype=x.dtype))


@mil_op("fill", operands=(), exact=True)
def _fill(node: Node) -> Kernel:
    value, shape = node.tensor("value"), node.output_shape()
    filled = torch.zeros(shape) if value is None else value.expand(shape).clone()
    return lambda: filled


@mil_op("fill_like", operands=(), exact=True)
def _fill_like(node: Node) -> Kernel:
    return _fill(node)


@mil_op("shape", operands=(), exact=True)
def _shape(node: Node) -> Kernel:
    shape = torch.tensor(node.shape(), dtype=torch.int32)
    return lambda: shape


@mil_op("range_1d", operands=(), exact=True)
def _range_1d(node: Node) -> Kernel:
    start, end, step = node.param("start"), node.param("end"), node.param("step")
    dtype = torch.int32 if isinstance(start, int) else torch.float32
    values = torch.arange(start, end, step, dtype=dtype)
    if tuple(values.shape) != node.output_shape():
        raise UnsupportedOp(f"{node}: {len(values)} steps from {start} to {end} by {step}")
    return lambda: values
