"""Strict half precision: every step inside an operator is rounded, as plain fp16 code without wide sums would do it.

A program stored in half precision may run on hardware that also adds in half precision. These kernels show what then
happens. The rules:

- a value is rounded after each elementary step (subtract the mean, square, add up, divide, take the root, ...);
- a sum of products or of values runs in partial sums of at most `PARTIAL` terms, as the registers of a matrix unit hold
  them: one partial sum is added in float32 and rounded, then added to the running total, which is rounded again. A
  total beyond 65504 is `inf` from there on, and small terms get lost next to a large total;
- a convolution takes whole input channels into a partial sum, at least one;
- exponentials are taken of numbers that are not positive, as every softmax and sigmoid in use does it;
- there is no exemption: layer norm adds up squares in half precision, which is where real models break first.

Operators of one elementary step need no kernel here: rounding their result, which the executor does, is all.
Values are float32 tensors that hold half-precision numbers, as everywhere in the executor.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .linear import of_one_dtype
from .ops import OPS, STRICT, Kernel, Node, rounded

PARTIAL = 64  # terms added before the sum is rounded


@STRICT.register("linear")
def _linear(node: Node) -> Kernel:
    return of_one_dtype(node, ("x", "weight"), linear)


@STRICT.register("matmul")
def _matmul(node: Node) -> Kernel:
    transpose_x, transpose_y = node.param("transpose_x", False), node.param("transpose_y", False)

    def matmul(x: Tensor, y: Tensor) -> Tensor:
        return multiply(x.mT if transpose_x else x, y.mT if transpose_y else y)

    return of_one_dtype(node, ("x", "y"), matmul)


@STRICT.register("einsum")
def _einsum(node: Node) -> Kernel:
    """Cut along the first letter that is summed over; MIL's equations have two operands and one such letter."""
    equation = node.param("equation")
    left, right, out = equation.replace("->", ",").split(",")
    letter = next((name for name in left if name in right and name not in out), None)
    if letter is None:
        return OPS["einsum"].build(node)

    def einsum(x: Tensor, y: Tensor) -> Tensor:
        parts = zip(x.split(PARTIAL, left.index(letter)), y.split(PARTIAL, right.index(letter)))
        return _running_total(torch.einsum(equation, a, b) for a, b in parts)

    return einsum


@STRICT.register("scaled_dot_product_attention")
def _attention(node: Node) -> Kernel:
    def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        scores = rounded(multiply(query, key.mT) * rounded(torch.tensor(query.shape[-1] ** -0.5)))
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else rounded(scores + mask)
        return multiply(softmax(scores, -1), value)

    return attention


@STRICT.register("conv")
def _conv(node: Node) -> Kernel:
    """One partial sum for each slice of a group's input channels."""
    plain, groups = OPS["conv"].build(node), node.param("groups", 1)
    step = max(1, PARTIAL // math.prod(node.shape("weight")[2:]))

    def conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        grouped = x.unflatten(1, (groups, -1))
        parts = zip(grouped.split(step, 2), weight.split(step, 1))
        return _biased(_running_total(plain(a.flatten(1, 2), w, None) for a, w in parts), bias, axis=1)

    return conv


@STRICT.register("conv_transpose")
def _conv_transpose(node: Node) -> Kernel:
    plain, groups = OPS["conv_transpose"].build(node), node.param("groups", 1)
    step = max(1, PARTIAL // math.prod(node.shape("weight")[2:]))

    def conv_transpose(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        slices = zip(x.unflatten(1, (groups, -1)).split(step, 2), weight.unflatten(0, (groups, -1)).split(step, 1))
        return _biased(_running_total(plain(a.flatten(1, 2), w.flatten(0, 1), None) for a, w in slices), bias, axis=1)

    return conv_transpose


@STRICT.register("softmax")
def _softmax(node: Node) -> Kernel:
    axis = node.param("axis", -1)
    return lambda x: softmax(x, axis)


@STRICT.register("cumsum")
def _cumsum(node: Node) -> Kernel:
    """The running total is rounded after each term; MIL's `exclusive` shifts it by one place."""
    axis, exclusive, reverse = node.axis(), node.param("exclusive", False), node.param("reverse", False)

    def cumsum(x: Tensor) -> Tensor:
        terms = list(x.flip(axis).unbind(axis) if reverse else x.unbind(axis))
        totals = [torch.zeros_like(terms[0])]
        for term in terms:
            totals.append(rounded(totals[-1] + term))
        total = torch.stack(totals[:-1] if exclusive else totals[1:], axis)
        return total.flip(axis) if reverse else total

    return cumsum


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [..., K] times weight [M, K], and the bias added to the rounded sum."""
    return _biased(multiply(x, weight.T), bias)


def multiply(x: Tensor, y: Tensor) -> Tensor:
    """Matrix product with partial sums. x: [..., N, K] or [K], y: [..., K, M]; the result is rounded."""
    parts = zip(x.split(PARTIAL, -1), y.split(PARTIAL, -2))
    return _running_total(torch.matmul(a, b) for a, b in parts)


def add_up(x: Tensor, axes: Sequence[int], keep: bool = False) -> Tensor:
    """Sum over `axes` with partial sums, in the order of the tensor's memory; the result is rounded."""
    axes = sorted(axis % x.dim() for axis in axes)
    kept = [axis for axis in range(x.dim()) if axis not in axes]
    flat = x.permute(*kept, *axes).reshape(*(x.shape[axis] for axis in kept), -1)
    total = _running_total(part.sum(-1) for part in flat.split(PARTIAL, -1))
    if not keep:
        return total
    return total.reshape([1 if axis in axes else side for axis, side in enumerate(x.shape)])


def mean(x: Tensor, axes: Sequence[int], keep: bool = False) -> Tensor:
    """The sum, in half precision, divided by the count: it overflows where the mean itself would not."""
    return rounded(add_up(x, axes, keep) / math.prod(x.shape[axis] for axis in axes))


def softmax(x: Tensor, axis: int) -> Tensor:
    powers = rounded(torch.exp(rounded(x - x.amax(axis, keepdim=True))))
    return rounded(powers / add_up(powers, [axis], keep=True))


def _running_total(parts) -> Tensor:
    """Add tensors one after the other, each rounded, and the total rounded after each."""
    parts = iter(parts)
    total = rounded(next(parts))
    for part in parts:
        total = rounded(total + rounded(part))
    return total


def _biased(x: Tensor, bias: Tensor | None, axis: int = -1) -> Tensor:
    if bias is None:
        return x
    return rounded(x + (bias if axis == -1 else bias.reshape(-1, *(1,) * (x.dim() - axis - 1))))
