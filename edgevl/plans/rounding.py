"""A float program whose products can be computed a second time as int8 would: what modules lose is measured on it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from edgevl.plans.plan import Range
from edgevl.plans.quantizer import WEIGHT_AXIS, is_constant
from edgevl.plans.spec import PRODUCTS, get_dialect
from edgevl.plans.values import operator_name


class Rounding(Interpreter):
    """Runs a program that holds observers as if it held none.

    Operands are rounded to the 8-bit grid of their ranges, as the dialect `x86` does, and weights to int8 with a scale
    for each output channel.
    """

    def __init__(self, program: GraphModule, ranges: Mapping[str, Range]):
        super().__init__(program)
        self.ranges = ranges  # node -> range
        self._weights: dict[str, Tensor] = {}  # rounded, by node

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[0]  # an observer

    def rounded_product(self, node: Node) -> Tensor:
        """The result of a product with its operands rounded."""
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        operands = [self._rounded(source, value) for source, value in zip(operands_of(node), args)]
        if has_weight(node):
            operands[1] = self._weight(node, args[1])
        return self.call_function(node.target, (*operands, *args[2:]), kwargs)  # pyright: ignore[reportArgumentType]

    def _rounded(self, source: Node, value: Tensor) -> Tensor:
        if source.name not in self.ranges:
            return value
        scale, zero_point = get_dialect("x86").parameters(self.ranges[source.name])
        return torch.fake_quantize_per_tensor_affine(value, scale, zero_point, 0, 255)

    def _weight(self, node: Node, weight: Tensor) -> Tensor:
        if node.name not in self._weights:
            self._weights[node.name] = round_weight(weight, WEIGHT_AXIS[operator_name(node)])
        return self._weights[node.name]


def is_product(node: Node) -> bool:
    return operator_name(node) in PRODUCTS


def has_weight(node: Node) -> bool:
    """Is it a product with a weight, not of two values?"""
    return operator_name(node) in WEIGHT_AXIS and is_constant(operands_of(node)[1])


def operands_of(node: Node) -> list[Node]:
    """The two factors of a product, behind their observers."""
    return [behind_observer(source) for source in node.args[:2]]


def behind_observer(node: Any) -> Any:
    return node.args[0] if isinstance(node, Node) and node.op == "call_module" else node


def channel_means(node: Node, value: Tensor) -> Tensor:
    """The mean of each output channel of a convolution or a linear layer, float64."""
    axis = 1 if operator_name(node) == "conv" else value.ndim - 1
    return value.double().mean([dim for dim in range(value.ndim) if dim != axis])


def round_weight(weight: Tensor, axis: int, levels: int = 127) -> Tensor:
    """Symmetric, with a scale for each slice along `axis`, back in float."""
    others = [dim for dim in range(weight.ndim) if dim != axis]
    scale = (weight.abs().amax(others, keepdim=True) / levels).clamp(min=1e-12)
    return (weight / scale).round() * scale
