"""Reductions and normalizations. Sums run in float32 whatever the stored precision, as Apple's hardware does."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .ops import OPS, Kernel, Node, OpDef, mil_op

_REDUCTIONS = {
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep, dtype=x.dtype),
    "reduce_l2_norm": lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt(),
    "reduce_log_sum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "reduce_log_sum_exp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
    "reduce_max": lambda x, axes, keep: torch.amax(x, axes, keepdim=keep),
    "reduce_mean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "reduce_min": lambda x, axes, keep: torch.amin(x, axes, keepdim=keep),
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keepdim=keep, dtype=x.dtype),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keepdim=keep, dtype=x.dtype),
}
_IN_FLOATS = ("reduce_l2_norm", "reduce_log_sum", "reduce_log_sum_exp", "reduce_mean")  # what no integer holds


def _build_reduction(node: Node) -> Kernel:
    """Of integers, a mean, a root or a logarithm is computed in floats and cut off, as a cast to an integer does."""
    function = _REDUCTIONS[node.type]
    axes, keep = node.axes(), node.param("keep_dims", False)
    if node.type in _IN_FLOATS and node.dtype() not in ("fp16", "fp32"):
        return lambda x: function(x.double(), axes, keep).to(x.dtype)
    return lambda x: function(x, axes, keep)


for _name in _REDUCTIONS:
    OPS.register(_name)(OpDef(_build_reduction, ("x",), exact=_name in ("reduce_max", "reduce_min")))


@mil_op("reduce_prod")
def _reduce_prod(node: Node) -> Kernel:
    axes, keep = sorted(node.axes(), reverse=True), node.param("keep_dims", False)

    def reduce_prod(x: Tensor) -> Tensor:
        for axis in axes:  # from the back, so that the axes in front keep their numbers
            x = x.prod(axis, keepdim=keep, dtype=x.dtype)
        return x

    return reduce_prod


@mil_op("reduce_argmax", "reduce_argmin", exact=True)
def _reduce_arg(node: Node) -> Kernel:
    axis, keep = node.axis(default=-1), node.param("keep_dims", False)
    pick = torch.argmax if node.type == "reduce_argmax" else torch.argmin
    return lambda x: pick(x, axis, keepdim=keep).to(torch.int32)


@mil_op("cumsum")
def _cumsum(node: Node) -> Kernel:
    axis, exclusive, reverse = node.axis(default=0), node.param("exclusive", False), node.param("reverse", False)

    def cumsum(x: Tensor) -> Tensor:
        x = x.flip(axis) if reverse else x
        total = x.cumsum(axis, dtype=x.dtype)
        total = total - x if exclusive else total
        return total.flip(axis) if reverse else total

    return cumsum


@mil_op("batch_norm")
def _batch_norm(node: Node) -> Kernel:
    mean, variance = node.required("mean"), node.required("variance")
    gamma, beta, epsilon = node.tensor("gamma"), node.tensor("beta"), node.param("epsilon", 1e-5)
    scale = torch.rsqrt(variance + epsilon) * (1.0 if gamma is None else gamma)
    shift = (0.0 if beta is None else beta) - mean * scale
    channels = (1, -1) + (1,) * (node.rank() - 2)
    scale, shift = scale.reshape(channels), shift.reshape(channels)
    return lambda x: torch.addcmul(shift, x, scale)


@mil_op("instance_norm")
def _instance_norm(node: Node) -> Kernel:
    gamma, beta, epsilon = node.tensor("gamma"), node.tensor("beta"), node.param("epsilon", 1e-5)

    def instance_norm(x: Tensor) -> Tensor:
        if math.prod(x.shape[2:]) != 1:
            return F.instance_norm(x, weight=gamma, bias=beta, eps=epsilon)
        # torch refuses what has no variance; the norm of one value is 0
        shift = torch.zeros(1) if beta is None else beta
        return torch.zeros_like(x) + shift.reshape(1, -1, *[1] * (x.dim() - 2)).to(x.dtype)

    return instance_norm


@mil_op("layer_norm")
def _layer_norm(node: Node) -> Kernel:
    axes, rank = sorted(node.axes()), node.rank()
    gamma, beta, epsilon = node.tensor("gamma"), node.tensor("beta"), node.param("epsilon", 1e-5)
    if axes == list(range(rank - len(axes), rank)):
        return lambda x: F.layer_norm(x, x.shape[-len(axes) :], gamma, beta, epsilon)
    if gamma is None and beta is None:
        broadcast = [1] * rank
    else:
        broadcast = [node.shape()[axis] if axis in axes else 1 for axis in range(rank)]
    scale = torch.ones(broadcast) if gamma is None else gamma.reshape(broadcast)
    shift = torch.zeros(broadcast) if beta is None else beta.reshape(broadcast)

    def layer_norm(x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + epsilon) * scale + shift

    return layer_norm


@mil_op("l2_norm")
def _l2_norm(node: Node) -> Kernel:
    epsilon = node.param("epsilon", 1e-6)
    return lambda x: x * torch.rsqrt(x.square().sum((-3, -2, -1), keepdim=True) + epsilon)


@mil_op("local_response_norm")
def _local_response_norm(node: Node) -> Kernel:
    size, alpha, beta, k = lrn_params(node)
    return lambda x: F.local_response_norm(x, size, alpha, beta, k)


def lrn_params(node: Node) -> tuple[int, float, float, float]:
    """Return size, alpha, beta and k of a local response norm, x / (k + alpha * mean of squares) ** beta.

    Of an even size Core ML takes as many channels on each side as of the odd one below, and divides by the even one:
    the numbers of coremltools' test, which Apple runs on Macs (`test_normalization.py`), say so.
    """
    size, alpha = node.param("size"), node.param("alpha", 1e-4)
    window = size - 1 + size % 2
    return window, alpha * window / size, node.param("beta", 0.75), node.param("k", 1.0)
