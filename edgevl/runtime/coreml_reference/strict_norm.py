"""Strict half precision, second part: reductions, normalizations and pools. Rules: `strict.py`."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .conv_pool import pool_windows
from .ops import Kernel, Node, rounded
from .reduce_norm import lrn_params
from .strict import STRICT, add_up, mean

Axes = Sequence[int]

_REDUCTIONS: dict[str, Callable[[Tensor, Axes, bool], Tensor]] = {
    "reduce_l1_norm": lambda x, axes, keep: add_up(x.abs(), axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: rounded(add_up(square(x), axes, keep).sqrt()),
    "reduce_log_sum": lambda x, axes, keep: rounded(add_up(x, axes, keep).log()),
    "reduce_log_sum_exp": lambda x, axes, keep: _log_sum_exp(x, axes, keep),
    "reduce_mean": mean,
    "reduce_sum": add_up,
    "reduce_sum_square": lambda x, axes, keep: add_up(square(x), axes, keep),
    "reduce_prod": lambda x, axes, keep: _product(x, axes, keep),
}


def _build_reduction(node: Node) -> Kernel:
    function, axes, keep = _REDUCTIONS[node.type], node.axes(), node.param("keep_dims", False)
    return lambda x: function(x, axes, keep)


for _name in _REDUCTIONS:
    STRICT.register(_name)(_build_reduction)


@STRICT.register("layer_norm")
def _layer_norm(node: Node) -> Kernel:
    axes = node.axes()
    if not node.has("gamma") and not node.has("beta"):
        return _build_norm(node, axes, [])
    over = [side if axis in axes else 1 for axis, side in enumerate(node.shape())]
    return _build_norm(node, axes, over)


@STRICT.register("instance_norm")
def _instance_norm(node: Node) -> Kernel:
    return _build_norm(node, list(range(2, node.rank())), [1, -1] + [1] * (node.rank() - 2))


def _build_norm(node: Node, axes: Axes, over: Sequence[int]) -> Kernel:
    """Normalize over `axes`; scale and shift have the shape `over`."""
    gamma, beta = node.tensor("gamma"), node.tensor("beta")
    epsilon = rounded(torch.tensor(node.param("epsilon", 1e-5)))

    def norm(x: Tensor) -> Tensor:
        away = rounded(x - mean(x, axes, keep=True))
        variance = mean(square(away), axes, keep=True)
        out = rounded(away * rsqrt(variance + epsilon))
        out = out if gamma is None else rounded(out * gamma.reshape(over))
        return out if beta is None else rounded(out + beta.reshape(over))

    return norm


@STRICT.register("batch_norm")
def _batch_norm(node: Node) -> Kernel:
    """(x - mean) / root of the variance, then scale and shift, each step rounded."""
    over = (-1,) + (1,) * (node.rank() - 2)
    center = node.required("mean").reshape(over)
    scale = rsqrt(node.required("variance") + rounded(torch.tensor(node.param("epsilon", 1e-5)))).reshape(over)
    gamma, beta = node.tensor("gamma"), node.tensor("beta")

    def batch_norm(x: Tensor) -> Tensor:
        out = rounded(rounded(x - center) * scale)
        out = out if gamma is None else rounded(out * gamma.reshape(over))
        return out if beta is None else rounded(out + beta.reshape(over))

    return batch_norm


@STRICT.register("l2_norm")
def _l2_norm(node: Node) -> Kernel:
    epsilon = rounded(torch.tensor(node.param("epsilon", 1e-6)))
    return lambda x: rounded(x * rsqrt(add_up(square(x), (-3, -2, -1), keep=True) + epsilon))


@STRICT.register("local_response_norm")
def _local_response_norm(node: Node) -> Kernel:
    """x / (k + alpha * mean of the squares of the channels around) ** beta."""
    size, alpha, beta, k = lrn_params(node)

    def local_response_norm(x: Tensor) -> Tensor:
        squares = F.pad(square(x).movedim(1, -1), (size // 2, size // 2)).unfold(-1, size, 1)
        average = mean(squares, [-1]).movedim(-1, 1)
        return rounded(x / rounded(rounded(k + rounded(alpha * average)) ** beta))

    return local_response_norm


@STRICT.register("avg_pool")
def _avg_pool(node: Node) -> Kernel:
    cells, counts = pool_windows(node)
    return lambda x: rounded(add_up(cells(x), [-1]) / counts)


@STRICT.register("l2_pool")
def _l2_pool(node: Node) -> Kernel:
    cells, _ = pool_windows(node)
    return lambda x: rounded(add_up(square(cells(x)), [-1]).sqrt())


def square(x: Tensor) -> Tensor:
    return rounded(x * x)


def rsqrt(x: Tensor) -> Tensor:
    """The argument is rounded first: an epsilon below 6e-8 is lost here, and the root of 0 is infinite."""
    return rounded(torch.rsqrt(rounded(x)))


def _log_sum_exp(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    top = x.amax(list(axes), keepdim=True)
    total = add_up(rounded(torch.exp(rounded(x - top))), axes, keep)
    return rounded(rounded(total.log()) + (top if keep else top.amax(list(axes))))


def _product(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        total = x.select(axis, 0)
        for index in range(1, x.shape[axis]):
            total = rounded(total * x.select(axis, index))
        x = total.unsqueeze(axis) if keep else total
    return x
