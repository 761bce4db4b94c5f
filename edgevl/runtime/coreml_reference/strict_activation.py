"""Strict half precision, third part: activation functions and other elementwise operators of several steps.

Rules: `strict.py`.
"""

import math

import torch
from torch import Tensor

from .ops import Kernel, Node, rounded
from .strict import STRICT
from .strict_norm import rsqrt, square


def _gelu_exact(x: Tensor) -> Tensor:
    return rounded(rounded(x * 0.5) * rounded(1 + rounded(torch.erf(rounded(x * math.sqrt(0.5))))))


def _gelu_tanh(x: Tensor) -> Tensor:
    cube = rounded(rounded(square(x) * x) * 0.044715)
    inner = rounded(rounded(x + cube) * math.sqrt(2 / math.pi))
    return rounded(rounded(x * 0.5) * rounded(1 + rounded(torch.tanh(inner))))


_GELU = {
    "EXACT": _gelu_exact,
    "TANH_APPROXIMATION": _gelu_tanh,
    "SIGMOID_APPROXIMATION": lambda x: rounded(x * _sigmoid(rounded(x * 1.702))),
}


@STRICT.register("gelu")
def _gelu(node: Node) -> Kernel:
    return _GELU[node.param("mode", "EXACT")]


def _sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-|x|), or its complement's form for negative x, so that no exponential overflows."""
    power = rounded(torch.exp(-x.abs()))
    return rounded(torch.where(x >= 0, torch.ones(()), power) / rounded(1 + power))


def _softplus(x: Tensor) -> Tensor:
    return rounded(x.clamp(min=0) + rounded(torch.log(rounded(1 + rounded(torch.exp(-x.abs()))))))


STRICT.register("sigmoid")(lambda node: _sigmoid)
STRICT.register("silu")(lambda node: lambda x: rounded(x * _sigmoid(x)))
STRICT.register("softplus")(lambda node: _softplus)
STRICT.register("softsign")(lambda node: lambda x: rounded(x / rounded(1 + x.abs())))


@STRICT.register("softplus_parametric")
def _softplus_parametric(node: Node) -> Kernel:
    over = (-1,) + (1,) * (node.rank() - 2)
    alpha, beta = (node.required(name).reshape(over) for name in ("alpha", "beta"))
    return lambda x: rounded(alpha * _softplus(rounded(x * beta)))


@STRICT.register("sigmoid_hard")
def _sigmoid_hard(node: Node) -> Kernel:
    alpha, beta = node.param("alpha", 0.2), node.param("beta", 0.5)
    return lambda x: rounded(rounded(x * alpha) + beta).clamp(0, 1)


@STRICT.register("elu")
def _elu(node: Node) -> Kernel:
    alpha = node.param("alpha", 1.0)
    return lambda x: torch.where(x > 0, x, rounded(alpha * rounded(rounded(torch.exp(x.clamp(max=0))) - 1)))


@STRICT.register("linear_activation")
def _linear_activation(node: Node) -> Kernel:
    alpha, beta = node.param("alpha"), node.param("beta", 0.0)
    return lambda x: rounded(rounded(x * alpha) + beta)


@STRICT.register("scaled_tanh")
def _scaled_tanh(node: Node) -> Kernel:
    alpha, beta = node.param("alpha", 1.0), node.param("beta", 1.0)
    return lambda x: rounded(alpha * rounded(torch.tanh(rounded(x * beta))))


@STRICT.register("inverse")
def _inverse(node: Node) -> Kernel:
    epsilon = node.param("epsilon", 1e-4)
    return lambda x: rounded(1 / rounded(x + epsilon))


@STRICT.register("log")
def _log(node: Node) -> Kernel:
    epsilon = node.param("epsilon", 1e-45)
    return lambda x: rounded(torch.log(rounded(x + epsilon)))


@STRICT.register("rsqrt")
def _reciprocal_root(node: Node) -> Kernel:
    epsilon = node.param("epsilon", 1e-12)
    return lambda x: rsqrt(x + epsilon)
