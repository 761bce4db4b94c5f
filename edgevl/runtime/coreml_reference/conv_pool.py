"""Convolution and pooling over one to three spatial dimensions, with MIL's four kinds of padding."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .ops import Kernel, Node, UnsupportedOp, mil_op

Pads = tuple[tuple[int, int], ...]  # (before, after) for each spatial dimension

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@mil_op("conv", operands=("x", "weight", "bias"))
def _conv(node: Node) -> Kernel:
    spatial = node.rank() - 2
    strides, dilations = node.param("strides", [1] * spatial), node.param("dilations", [1] * spatial)
    groups = node.param("groups", 1)
    pads = _pads(node, node.shape("weight")[2:], strides, dilations)
    convolve = _CONV[spatial]
    if _symmetric(pads):
        padding = [before for before, _ in pads]
        return lambda x, w, b: convolve(x, w, b, strides, padding, dilations, groups)
    padding = _torch_pad(pads)
    return lambda x, w, b: convolve(F.pad(x, padding), w, b, strides, 0, dilations, groups)


@mil_op("conv_transpose", operands=("x", "weight", "bias"))
def _conv_transpose(node: Node) -> Kernel:
    """Computed without padding, then cut: MIL's padding removes rows of the full result."""
    spatial = node.rank() - 2
    strides, dilations = node.param("strides", [1] * spatial), node.param("dilations", [1] * spatial)
    groups = node.param("groups", 1)
    begins = _transpose_begins(node, strides, dilations)
    full = [
        (side - 1) * stride + (kernel - 1) * dilation + 1
        for side, stride, kernel, dilation in zip(node.shape()[2:], strides, node.shape("weight")[2:], dilations)
    ]
    sizes = _transpose_sizes(node, strides, full)
    # Rows that the declared output has beyond the full result are reached by no input: torch adds them as zeros + bias.
    missing = [max(0, begin + size - have) for begin, size, have in zip(begins, sizes, full)]
    cut = (..., *(slice(begin, begin + size) for begin, size in zip(begins, sizes)))
    if any(more >= max(stride, dilation) for more, stride, dilation in zip(missing, strides, dilations)):
        raise UnsupportedOp(f"{node}: an output of {list(sizes)} is larger than its input can reach")
    convolve = _CONV_TRANSPOSE[spatial]
    return lambda x, w, b: convolve(x, w, b, strides, 0, missing, groups, dilations)[cut]


def _transpose_sizes(node: Node, strides: Sequence[int], full: Sequence[int]) -> list[int]:
    """The size of each spatial dimension of a transposed convolution's output: TensorFlow's rule for `same`."""
    pad_type, given = node.param("pad_type", "valid"), node.param("output_shape", None)
    if given is not None:
        return given[2:]
    if pad_type == "same":
        return [side * stride for side, stride in zip(node.shape()[2:], strides)]
    if pad_type == "valid":
        return list(full)
    pad = node.param("pad")
    return [size - pad[2 * index] - pad[2 * index + 1] for index, size in enumerate(full)]


def _transpose_begins(node: Node, strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """First row of the full transposed convolution that belongs to the output, for each spatial dimension."""
    pad_type, kernel = node.param("pad_type", "valid"), node.shape("weight")[2:]
    if pad_type == "custom":
        return list(node.param("pad")[::2])
    if pad_type == "valid":
        return [0] * len(kernel)
    surplus = [(k - 1) * d + 1 - s for k, d, s in zip(kernel, dilations, strides)]
    return [max(0, extra) // 2 for extra in surplus]


@mil_op("max_pool", exact=True)
def _max_pool(node: Node) -> Kernel:
    kernel, strides, pads = _window(node)
    pool, padding = _MAX_POOL[len(kernel)], _torch_pad(pads)
    if not any(padding):
        return lambda x: pool(x, kernel, strides)
    if _symmetric(pads) and all(2 * before <= size for (before, _), size in zip(pads, kernel)):
        before = [before for before, _ in pads]
        return lambda x: pool(x, kernel, strides, before)
    return lambda x: pool(F.pad(x, padding, value=-math.inf), kernel, strides)


@mil_op("avg_pool")
def _avg_pool(node: Node) -> Kernel:
    kernel, strides, pads = _window(node)
    pool, padding = _AVG_POOL[len(kernel)], _torch_pad(pads)
    if not any(padding):
        return lambda x: pool(x, kernel, strides)
    counts = _window_counts(node, kernel, strides, pads)
    area = float(math.prod(kernel))
    return lambda x: pool(F.pad(x, padding), kernel, strides) * (area / counts)


@mil_op("l2_pool")
def _l2_pool(node: Node) -> Kernel:
    kernel, strides, pads = _window(node)
    pool, padding, area = _AVG_POOL[len(kernel)], _torch_pad(pads), float(math.prod(kernel))
    return lambda x: torch.sqrt(pool(F.pad(x * x, padding), kernel, strides) * area)


def pool_windows(node: Node) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return a function that lays a pool's windows out, [N, C, *in] to [N, C, *out, cells], padding as zeros, and the
    number of cells that count for an average, [1, 1, *out]."""
    kernel, strides, pads = _window(node)
    padding = _torch_pad(pads)

    def cells(x: Tensor) -> Tensor:
        x = F.pad(x, padding)
        for axis, (size, stride) in enumerate(zip(kernel, strides), start=2):
            x = x.unfold(axis, size, stride)
        return x.flatten(-len(kernel))

    return cells, _window_counts(node, kernel, strides, pads)


def _window(node: Node) -> tuple[list[int], list[int], Pads]:
    """Return kernel, strides and the padding that makes the output's size come out with floor division.

    With `ceil_mode` a last window may hang over the padded input, if it starts inside (coremltools'
    `spatial_dimensions_out_shape`); those cells are added to the padding after.
    """
    kernel = node.param("kernel_sizes")
    strides = node.param("strides", [1] * len(kernel))
    pads = _pads(node, kernel, strides, [1] * len(kernel))
    if not node.param("ceil_mode", False):
        return kernel, strides, pads
    grown = []
    for (before, after), side, k, stride in zip(pads, node.shape()[2:], kernel, strides):
        size = -(-(side + before + after - k) // stride) + 1
        if (size - 1) * stride >= side + before and (before or after):
            size -= 1
        grown.append((before, max(after, (size - 1) * stride + k - side - before)))
    return kernel, strides, tuple(grown)


def _window_counts(node: Node, kernel: list[int], strides: list[int], pads: Pads) -> Tensor:
    """How many cells each window averages over, [1, 1, *out]: real cells, plus padding where the program counts it.

    Cells beyond the declared padding (`ceil_mode`) never count, as in torch.
    """
    declared = _pads(node, kernel, strides, [1] * len(kernel))
    exclude = node.param("exclude_padding_from_average", False)
    ones = torch.ones((1, 1, *node.shape()[2:]))
    if not exclude:
        ones = F.pad(ones, _torch_pad(declared), value=1.0)
        pads = tuple((grown[0] - own[0], grown[1] - own[1]) for grown, own in zip(pads, declared))
    return _AVG_POOL[len(kernel)](F.pad(ones, _torch_pad(pads)), kernel, strides) * float(math.prod(kernel))


def _pads(node: Node, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Pads:
    pad_type = node.param("pad_type", "valid")
    if pad_type == "valid":
        return tuple((0, 0) for _ in kernel)
    if pad_type == "custom":
        pad = node.param("pad", [0] * 2 * len(kernel))
        return tuple((pad[2 * i], pad[2 * i + 1]) for i in range(len(kernel)))
    if pad_type in ("same", "same_lower"):
        sides = node.shape()[2:]
        return tuple(_same(*dim, lower=pad_type == "same_lower") for dim in zip(sides, kernel, strides, dilations))
    raise UnsupportedOp(f'{node}: pad_type "{pad_type}"')


def _same(side: int, kernel: int, stride: int, dilation: int, lower: bool) -> tuple[int, int]:
    """Padding that gives ceil(side / stride) outputs; the odd cell goes after, or before with `same_lower`."""
    total = max(0, (math.ceil(side / stride) - 1) * stride + (kernel - 1) * dilation + 1 - side)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def _symmetric(pads: Pads) -> bool:
    return all(before == after for before, after in pads)


def _torch_pad(pads: Pads) -> list[int]:
    """`F.pad` lists the last dimension first."""
    return [value for pair in reversed(pads) for value in pair]
