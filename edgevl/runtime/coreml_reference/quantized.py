"""Quantize and dequantize at run time. Compressed weights (`constexpr_*`) are decompressed when a program is compiled:
see `ops.constant_value`."""

import torch
from torch import Tensor

from .ops import Kernel, Node, mil_op

_RANGES = {"int8": (-128, 127, torch.int8), "uint8": (0, 255, torch.uint8)}


@mil_op("quantize", operands=("input", "scale", "zero_point"), exact=True)
def _quantize(node: Node) -> Kernel:
    """clip(round(input / scale) + zero_point), ties to even."""
    low, high, dtype = _RANGES[node.choice("output_dtype", _RANGES)]
    shape = _broadcast_shape(node)

    def quantize(x: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
        steps = torch.round(x / scale.reshape(shape))
        if zero_point is not None:
            steps = steps + zero_point.reshape(shape)
        return steps.clamp(low, high).to(dtype)

    return quantize


@mil_op("dequantize", operands=("input", "scale", "zero_point"))
def _dequantize(node: Node) -> Kernel:
    """scale * (input - zero_point)."""
    shape = _broadcast_shape(node)

    def dequantize(x: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
        steps = x.float()
        if zero_point is not None:
            steps = steps - zero_point.reshape(shape)
        return steps * scale.reshape(shape)

    return dequantize


def _broadcast_shape(node: Node) -> tuple[int, ...]:
    """The shape that lines a scale up with its axis; one scale for the whole tensor has no axis."""
    if node.rank("scale") == 0:
        return ()
    axis, rank = node.axis(of="input"), node.rank("input")
    return tuple(-1 if index == axis else 1 for index in range(rank))
