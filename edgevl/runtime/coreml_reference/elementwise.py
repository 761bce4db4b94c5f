"""Elementwise arithmetic, comparison, logic, casts. Definitions: coremltools' MIL operator reference."""

from collections.abc import Callable

import torch
from torch import Tensor

from .ops import OPS, TORCH_DTYPES, Kernel, Node, OpDef, mil_op


def _real_div(x: Tensor, y: Tensor) -> Tensor:
    return torch.true_divide(x, y) if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "real_div": _real_div,
    "floor_div": torch.floor_divide,
    "mod": torch.remainder,
    "pow": torch.pow,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}
_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "floor": torch.floor,
    "logical_not": torch.logical_not,
    "round": torch.round,
    "sign": torch.sign,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
    "tanh": torch.tanh,
}
_PICKS_A_VALUE = {"maximum", "minimum", "abs", "ceil", "floor", "round", "sign"}  # exact in half precision

for _name, _function in _BINARY.items():
    OPS.register(_name)(OpDef(lambda node, f=_function: f, ("x", "y"), exact=_name in _PICKS_A_VALUE))
for _name, _function in _UNARY.items():
    OPS.register(_name)(OpDef(lambda node, f=_function: f, ("x",), exact=_name in _PICKS_A_VALUE))


@mil_op("inverse")
def _inverse(node: Node) -> Kernel:
    epsilon = node.param("epsilon", 1e-4)
    return lambda x: torch.reciprocal(x + epsilon)


@mil_op("log")
def _log(node: Node) -> Kernel:
    epsilon = node.param("epsilon", 1e-45)
    return lambda x: torch.log(x + epsilon)


@mil_op("rsqrt")
def _rsqrt(node: Node) -> Kernel:
    epsilon = node.param("epsilon", 1e-12)
    return lambda x: torch.rsqrt(x + epsilon)


@mil_op("clip", exact=True)
def _clip(node: Node) -> Kernel:
    low, high = node.param("alpha"), node.param("beta")
    return lambda x: torch.clamp(x, low, high)


@mil_op("threshold", exact=True)
def _threshold(node: Node) -> Kernel:
    low = node.param("alpha")
    return lambda x: torch.clamp(x, min=low)


@mil_op("cast")
def _cast(node: Node) -> Kernel:
    dtype = TORCH_DTYPES[node.choice("dtype", TORCH_DTYPES)]
    return lambda x: x.to(dtype)


@mil_op("select", operands=("cond", "a", "b"), exact=True)
def _select(node: Node) -> Kernel:
    return torch.where


@mil_op("identity", exact=True)
def _identity(node: Node) -> Kernel:
    return lambda x: x
