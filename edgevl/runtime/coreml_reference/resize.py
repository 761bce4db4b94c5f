"""Resizing inside the program: separable, over the last dimensions, at grid points that the sampling mode defines.

The modes are those of coremltools' `resize_bilinear` (`ops/defs/iOS15/image_resizing.py`). What the nearest cell is the
reference does not say; it is taken from coremltools' tests, which Apple runs on Macs: see `_scaled` and `_centered`.
"""

import numpy as np
import torch
from torch import Tensor

from .ops import Kernel, Node, UnsupportedOp, mil_op

_MODES = ("DEFAULT", "STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "OFFSET_CORNERS", "UNALIGN_CORNERS")


@mil_op("upsample_nearest_neighbor", exact=True)
def _upsample_nearest(node: Node) -> Kernel:
    sides = node.shape()[-2:]
    factors = (node.param("scale_factor_height", 1), node.param("scale_factor_width", 1))
    return _pick([_scaled(side, factor) for side, factor in zip(sides, factors)])


@mil_op("resize_nearest_neighbor", exact=True)
def _resize_nearest(node: Node) -> Kernel:
    return _pick([_centered(side, size) for side, size in zip(node.shape()[-2:], _target_size(node))])


@mil_op("upsample_bilinear")
def _upsample_bilinear(node: Node) -> Kernel:
    """The size is that of the factors; the grid is spaced by the sizes, as torch with `recompute_scale_factor`."""
    factors = (node.param("scale_factor_height", 1), node.param("scale_factor_width", 1))
    sizes = [_scaled_size(side, factor) for side, factor in zip(node.shape()[-2:], factors)]
    align = node.param("align_corners", True)
    if align:
        return _bilinear(node, "STRICT_ALIGN_CORNERS", sizes)
    return _bilinear(node, "UNALIGN_CORNERS" if node.param("half_pixel_centers", True) else "DEFAULT", sizes)


@mil_op("resize_bilinear")
def _resize_bilinear(node: Node) -> Kernel:
    return _bilinear(node, node.choice("sampling_mode", _MODES, "DEFAULT"), _target_size(node))


@mil_op("resize")
def _resize(node: Node) -> Kernel:
    """The general form of iOS17: any number of trailing dimensions, linear or nearest."""
    dims, mode = node.param("resized_dims"), node.choice("sampling_mode", _MODES, "DEFAULT")
    if not 0 < dims <= node.rank():
        raise UnsupportedOp(f"{node}: resized_dims {dims} of {node.rank()} dimensions")
    sides = node.shape()[-dims:]
    sizes = [size or side for size, side in zip(node.param("shape")[-dims:], sides)]  # 0 keeps the side
    if node.choice("interpolation_mode", ("LINEAR", "NEAREST_NEIGHBOR"), "LINEAR") == "LINEAR":
        if node.dtype() not in ("fp16", "fp32"):
            raise UnsupportedOp(f"{node}: LINEAR of {node.dtype()} has no agreed rounding")
        return _bilinear(node, mode, sizes)
    if mode != "DEFAULT":
        raise UnsupportedOp(f'{node}: NEAREST_NEIGHBOR with sampling_mode "{mode}" has no agreed rounding')
    return _pick([_centered(side, size) for side, size in zip(sides, sizes)])


def _target_size(node: Node) -> list[int]:
    return [node.param("target_size_height", 1), node.param("target_size_width", 1)]


def _scaled_size(side: int, factor: float) -> int:
    return int(np.floor(np.float32(factor) * side))


def _scaled(side: int, factor: float) -> Tensor:
    """Return the cell that each of floor(side * factor) samples shows: sample i lies at i / factor.

    With a whole factor each cell is repeated. The converters write a factor for a size, (size + 1e-4) / side, and mean
    side / size. What remains is a fraction of the model's own: torch multiplies by its reciprocal in float32, and keeps
    the cells as they are where the size stays. Compared with torch for every factor and side that test_reference_resize
    draws (it repeats cells where the size is exactly doubled, too), and with coremltools' tests on Macs, where the GPU
    differs (rdar://97398448).
    """
    size = _scaled_size(side, factor)
    steps = torch.arange(size)
    if size in (side, 2 * side) or factor == round(factor) or 5e-5 < factor * side - size < 2e-4:
        return steps * side // size
    spacing = np.float32(1 / float(str(np.float32(factor))))  # of the decimal fraction that became the file's float32
    return (steps.float() * float(spacing)).floor().long().clamp(max=side - 1)


def _centered(side: int, size: int) -> Tensor:
    """Return the cell that the center of each of `size` samples lies in: TensorFlow's half-pixel centers, which
    coremltools' tests compare with on Macs. A single sample is the first cell there (rdar://79699954)."""
    if size == 1:
        return torch.zeros(1, dtype=torch.long)
    return (2 * torch.arange(size) + 1) * side // (2 * size)


def _pick(cells: list[Tensor]) -> Kernel:
    """Take the given cells along each of the last dimensions."""

    def nearest(x: Tensor) -> Tensor:
        for axis, pick in enumerate(cells, start=-len(cells)):
            x = x if torch.equal(pick, torch.arange(x.shape[axis])) else x.index_select(axis, pick)
        return x

    return nearest


def _bilinear(node: Node, mode: str, sizes: list[int]) -> Kernel:
    dims = len(sizes)
    plans = []
    for axis, side, size in zip(range(-dims, 0), node.shape()[-dims:], sizes):
        points = grid_points(side, size, mode)
        low = points.floor().long().clamp(0, side - 1)
        weight = (points - low).float().reshape(-1, *(1,) * (-1 - axis))
        plans.append((axis, low, (low + 1).clamp(max=side - 1), weight))

    def resize(x: Tensor) -> Tensor:
        for axis, low, high, weight in plans:
            x = torch.lerp(x.index_select(axis, low), x.index_select(axis, high), weight)
        return x

    return resize


def grid_points(side: int, size: int, mode: str) -> Tensor:
    """Return where `size` samples lie in an input of `side` cells, [size]."""
    steps = torch.arange(size, dtype=torch.float64)
    spacing = side / size
    if mode == "ALIGN_CORNERS" and size == 1:
        points = steps + (side - 1) / 2
    elif mode in ("ALIGN_CORNERS", "STRICT_ALIGN_CORNERS"):
        points = steps * ((side - 1) / max(1, size - 1))
    elif mode == "DEFAULT":
        points = steps * spacing
    elif mode == "OFFSET_CORNERS":
        points = (steps + 0.5) * (max(1, side - 1) / size)
    else:
        points = (steps + 0.5) * spacing - 0.5
    return points.clamp(0, side - 1)
