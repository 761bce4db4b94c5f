"""Resizing inside the program: separable, over the last dimensions, at grid points that the sampling mode defines.

The modes are those of coremltools' `resize_bilinear` (`ops/defs/iOS15/image_resizing.py`).
"""

import torch
from torch import Tensor

from edgevl.runtime.coreml_reference.ops import Kernel, Node, UnsupportedOp, mil_op


@mil_op("upsample_nearest_neighbor", "resize_nearest_neighbor", exact=True)
def _upsample_nearest(node: Node) -> Kernel:
    return _nearest(node, dims=2)


@mil_op("upsample_bilinear")
def _upsample_bilinear(node: Node) -> Kernel:
    if node.param("align_corners", True):
        return _bilinear(node, "STRICT_ALIGN_CORNERS")
    return _bilinear(node, "UNALIGN_CORNERS" if node.param("half_pixel_centers", True) else "DEFAULT")


@mil_op("resize_bilinear")
def _resize_bilinear(node: Node) -> Kernel:
    return _bilinear(node, node.param("sampling_mode", "DEFAULT"))


@mil_op("resize")
def _resize(node: Node) -> Kernel:
    """The general form of iOS17: any number of trailing dimensions, linear or nearest."""
    dims, mode = node.param("resized_dims"), node.param("sampling_mode", "DEFAULT")
    if node.param("interpolation_mode", "LINEAR") == "LINEAR":
        return _bilinear(node, mode, dims)
    if mode != "DEFAULT":
        raise UnsupportedOp(f'{node}: NEAREST_NEIGHBOR with sampling_mode "{mode}" has no agreed rounding')
    return _nearest(node, dims)


def _nearest(node: Node, dims: int) -> Kernel:
    picks = [
        (axis, torch.arange(size) * side // size)
        for axis, side, size in zip(range(-dims, 0), node.shape()[-dims:], node.output_shape()[-dims:])
        if side != size
    ]

    def nearest(x: Tensor) -> Tensor:
        for axis, pick in picks:
            x = x.index_select(axis, pick)
        return x

    return nearest


def _bilinear(node: Node, mode: str, dims: int = 2) -> Kernel:
    plans = []
    for axis, side, size in zip(range(-dims, 0), node.shape()[-dims:], node.output_shape()[-dims:]):
        points = grid_points(side, size, mode)
        if points is None:
            raise UnsupportedOp(f'{node}: sampling_mode "{mode}"')
        low = points.floor().long().clamp(0, side - 1)
        weight = (points - low).float().reshape(-1, *(1,) * (-1 - axis))
        plans.append((axis, low, (low + 1).clamp(max=side - 1), weight))

    def resize(x: Tensor) -> Tensor:
        for axis, low, high, weight in plans:
            x = torch.lerp(x.index_select(axis, low), x.index_select(axis, high), weight)
        return x

    return resize


def grid_points(side: int, size: int, mode: str) -> Tensor | None:
    """Return where `size` samples lie in an input of `side` cells, [size]; `None` for an unknown mode."""
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
    elif mode == "UNALIGN_CORNERS":
        points = (steps + 0.5) * spacing - 0.5
    else:
        return None
    return points.clamp(0, side - 1)
