"""Operators that move values without changing them: shapes, layout, joining, padding."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .ops import Kernel, Node, mil_op


@mil_op("reshape", exact=True)
def _reshape(node: Node) -> Kernel:
    """0 keeps the dimension of x at the same place from the right (none: 1); -1 takes what is left."""
    shape = node.param("shape")
    shape = shape if isinstance(shape, list) else [shape]
    if 0 not in shape:
        return lambda x: x.reshape(shape)

    def reshape(x: Tensor) -> Tensor:
        kept = [1] * (len(shape) - x.dim()) + list(x.shape)
        return x.reshape([side or own for side, own in zip(shape, kept[len(kept) - len(shape) :])])

    return reshape


@mil_op("expand_dims", exact=True)
def _expand_dims(node: Node) -> Kernel:
    axes = node.param("axes")
    rank = node.rank() + len(axes)
    places = sorted(axis % rank for axis in axes)

    def expand_dims(x: Tensor) -> Tensor:
        for axis in places:
            x = x.unsqueeze(axis)
        return x

    return expand_dims


@mil_op("squeeze", exact=True)
def _squeeze(node: Node) -> Kernel:
    if node.param("axes", None) is None:
        return lambda x: x.squeeze()
    axes = node.axes()
    return lambda x: x.squeeze(axes)


@mil_op("flatten2d", exact=True)
def _flatten2d(node: Node) -> Kernel:
    axis = node.param("axis", 1)
    axis = axis + node.rank() if axis < 0 else axis
    return lambda x: x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@mil_op("reshape_like", exact=True)
def _reshape_like(node: Node) -> Kernel:
    """The new shape is joined from parts of the shapes of other tensors."""
    shapes, begins, ends = node.shapes("ref_tensors"), node.param("begins"), node.param("ends")
    parts = zip(shapes, begins, ends, node.param("end_masks"))
    shape = [side for like, begin, end, to_end in parts for side in like[begin : None if to_end else end]]
    return lambda x: x.reshape(shape)


@mil_op("transpose", exact=True)
def _transpose(node: Node) -> Kernel:
    perm = node.param("perm")
    return lambda x: x.permute(perm)


@mil_op("concat", operands=("values",), exact=True)
def _concat(node: Node) -> Kernel:
    axis = node.param("axis")
    if node.param("interleave", False):
        place = axis % len(node.shapes("values")[0])
        return lambda *values: torch.stack(values, place + 1).flatten(place, place + 1)
    return lambda *values: torch.cat([value.reshape(1) if value.dim() == 0 else value for value in values], axis)


@mil_op("stack", operands=("values",), exact=True)
def _stack(node: Node) -> Kernel:
    axis = node.param("axis")
    return lambda *values: torch.stack(values, axis)


@mil_op("split", exact=True)
def _split(node: Node) -> Kernel:
    axis, count, sizes = node.axis(), len(node.outputs), node.param("split_sizes", None)
    if sizes is not None:
        return lambda x: torch.split(x, sizes, axis)
    return lambda x: torch.split(x, x.shape[axis] // count, axis)


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
    (top, bottom), (left, right) = node.param("crop_height"), node.param("crop_width")
    return lambda x: x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


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
    shape = (n, c * block**2, height // block, width // block)
    return lambda x: x.reshape(split).permute(0, 3, 5, 1, 2, 4).reshape(shape)


@mil_op("depth_to_space", exact=True)
def _depth_to_space(node: Node) -> Kernel:
    """The inverse of space_to_depth."""
    block, (n, c, height, width) = node.param("block_size"), node.shape()
    split, shape = (n, block, block, c // block**2, height, width), (n, c // block**2, height * block, width * block)
    return lambda x: x.reshape(split).permute(0, 3, 4, 1, 5, 2).reshape(shape)


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
    return _filled(node, node.param("shape"))


@mil_op("fill_like", operands=(), exact=True)
def _fill_like(node: Node) -> Kernel:
    return _filled(node, node.shape("ref_tensor"))


def _filled(node: Node, shape: Sequence[int]) -> Kernel:
    value = node.tensor("value")
    filled = (torch.zeros(()) if value is None else value.reshape(())).expand(shape)
    return lambda: filled


@mil_op("shape", operands=(), exact=True)
def _shape(node: Node) -> Kernel:
    shape = torch.tensor(node.shape(), dtype=torch.int32)
    return lambda: shape


@mil_op("range_1d", operands=(), exact=True)
def _range_1d(node: Node) -> Kernel:
    start, end, step = node.param("start"), node.param("end"), node.param("step")
    values = torch.arange(start, end, step, dtype=torch.int32 if isinstance(start, int) else torch.float32)
    return lambda: values
