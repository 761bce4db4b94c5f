"""Activation functions. Definitions: coremltools' MIL operator reference (`ops/defs/iOS15/activation.py`)."""

import torch
import torch.nn.functional as F

from .ops import OPS, Kernel, Node, OpDef, mil_op

_PLAIN = {
    "relu": (torch.relu, True),
    "relu6": (F.relu6, True),
    "sigmoid": (torch.sigmoid, False),
    "silu": (F.silu, False),
    "softplus": (F.softplus, False),
    "softsign": (F.softsign, False),
}
for _name, (_function, _exact) in _PLAIN.items():
    OPS.register(_name)(OpDef(lambda node, f=_function: f, ("x",), exact=_exact))


@mil_op("gelu")
def _gelu(node: Node) -> Kernel:
    mode = node.param("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return lambda x: x * torch.sigmoid(1.702 * x)
    approximate = "tanh" if mode == "TANH_APPROXIMATION" else "none"
    return lambda x: F.gelu(x, approximate=approximate)


@mil_op("softmax")
def _softmax(node: Node) -> Kernel:
    axis = node.param("axis", -1)
    return lambda x: torch.softmax(x, dim=axis)


@mil_op("sigmoid_hard")
def _sigmoid_hard(node: Node) -> Kernel:
    alpha, beta = node.param("alpha", 0.2), node.param("beta", 0.5)
    return lambda x: torch.clamp(x * alpha + beta, 0.0, 1.0)


@mil_op("thresholded_relu", exact=True)
def _thresholded_relu(node: Node) -> Kernel:
    alpha = node.param("alpha", 1.0)
    return lambda x: torch.where(x >= alpha, x, torch.zeros((), dtype=x.dtype))


@mil_op("clamped_relu")
def _clamped_relu(node: Node) -> Kernel:
    alpha, beta = node.param("alpha"), node.param("beta")
    return lambda x: torch.clamp(torch.where(x >= 0, x, alpha * x), max=beta)


@mil_op("leaky_relu")
def _leaky_relu(node: Node) -> Kernel:
    alpha = node.param("alpha", 0.01)
    return lambda x: F.leaky_relu(x, alpha)


@mil_op("elu")
def _elu(node: Node) -> Kernel:
    alpha = node.param("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


@mil_op("prelu")
def _prelu(node: Node) -> Kernel:
    alpha = node.required("alpha")
    return lambda x: F.prelu(x, alpha)


@mil_op("linear_activation")
def _linear_activation(node: Node) -> Kernel:
    alpha, beta = node.param("alpha"), node.param("beta", 0.0)
    return lambda x: x * alpha + beta


@mil_op("scaled_tanh")
def _scaled_tanh(node: Node) -> Kernel:
    alpha, beta = node.param("alpha", 1.0), node.param("beta", 1.0)
    return lambda x: alpha * torch.tanh(x * beta)


@mil_op("softplus_parametric")
def _softplus_parametric(node: Node) -> Kernel:
    channels = (1, -1) + (1,) * (node.rank() - 2)
    alpha, beta = (node.required(name).reshape(channels) for name in ("alpha", "beta"))
    return lambda x: alpha * F.softplus(x * beta)
