"""Weights as a few bits each, from the weights alone: integers with a scale for each group, or palettes of 16 values.

Three things cost accuracy at 4 bits, and two of them have their remedy here; docs/log.md has the measurements.

- One large weight coarsens a whole block: the scale of a block is searched for the smallest squared error.
- What a convolution reads comes from a ReLU or the like and is mostly positive, so the errors of one filter add up
  instead of canceling out. They are balanced: some weights are rounded to the other side until the errors sum to about
  zero. The idea is that of SQuant (arXiv 2202.07471, read as an abstract only), which needs no data either.
- Some weights are more sensitive than others: a format decides which get more bits (see `coreml_weights`).

O output channels, I input channels, G groups, n weights of a group. A weight is [O, I, kernel...] or [O, I].
"""

import math
from collections.abc import Callable

import numpy as np

# Tried for the scale of a block, times (largest weight / 7). The last ones find the grid of weights that are rounded
# already (`edgevl.quantize.weights`), whatever the largest integer among them is.
_SHRINK = np.concatenate([np.arange(0.5, 1.11, 0.02), 7 / np.arange(8, 2, -1)])

SMALLEST = 2048  # weights; fewer are not worth an operator and stay float
BLOCK = 32  # input channels that share a scale in int4
SHORTEST_BLOCK = 8  # depthwise filters and first convolutions have fewer input channels: int8 instead
LARGEST_KEPT = 0.1  # share of all weights that embedding or head may have and still get 8 bits
_LEVELS = 127  # symmetric int8: -127 to 127, so that zero is exact

Groups = tuple[int, ...]  # number of groups along each axis of a weight


def block_groups(shape: Groups) -> Groups | None:
    """Groups of at most 32 input channels, for each output channel and place in the kernel. None: no good divisor."""
    block = next(size for size in range(min(BLOCK, shape[1]), 0, -1) if shape[1] % size == 0)
    return (shape[0], shape[1] // block, *shape[2:]) if block >= SHORTEST_BLOCK else None


def quantize_channels(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Round to int8 with one scale for each index of `axis`, the largest magnitude at 127.

    Returns (int8 of the same shape, float32 [weight.shape[axis]]); weight is about int8 * scale.
    """
    others = tuple(other for other in range(weight.ndim) if other != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True).astype(np.float32) / _LEVELS
    scale[scale == 0] = 1.0
    return np.rint(weight / scale).clip(-_LEVELS, _LEVELS).astype(np.int8), scale.reshape(-1)


def quantize(weight: np.ndarray, groups: Groups, bits: int, balanced: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Round to signed integers with one scale for each group: weight is about integers * scale.

    Args:
        weight: float [O, I, ...].
        groups: number of groups along each axis, each a divisor of it.
        bits: 8 (-127 to 127) or 4 (-8 to 7, the scale of each group searched for the smallest squared error).
        balanced: let the errors of each filter cancel out.
    Returns:
        int8 of the shape of `weight`, and float16 [groups]: nothing is rounded after the choice.
    """
    top = 2 ** (bits - 1) - 1
    low = -top if bits == 8 else -top - 1
    rows = _rows(weight, groups)
    largest = np.abs(rows).max(axis=1, keepdims=True) / top
    scale, least = largest, np.full_like(largest, np.inf)
    for shrink in _SHRINK if bits < 8 else (1.0,):
        tried = _half(largest * shrink)
        error = np.square(rows - np.rint(rows / tried).clip(low, top) * tried).sum(axis=1, keepdims=True)
        scale, least = np.where(error < least, tried, scale), np.minimum(error, least)
    codes = _whole(np.rint(rows / scale).clip(low, top), weight.shape, groups)
    scales = _whole(np.broadcast_to(scale, rows.shape), weight.shape, groups)
    if balanced:
        codes = _balance(weight.astype(np.float32), codes, (low, top), lambda codes: codes * scales)
    return codes.astype(np.int8), scale.reshape(groups).astype(np.float16)


def palettize(weight: np.ndarray, balanced: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Replace each weight by the nearest of 16 values, found by k-means.

    Palettes for groups of output channels, which iOS 18 has, gained less here than one rounding differs from the next.

    Returns indices, uint8 of the shape of `weight`, and the values, float16 [16] in rising order.
    """
    table = cluster(weight.reshape(-1))
    codes = np.searchsorted((table[1:] + table[:-1]) / 2, weight.astype(np.float32))
    if balanced:
        codes = _balance(weight.astype(np.float32), codes, (0, 15), lambda codes: table[codes.astype(np.int64)])
    return codes.astype(np.uint8), table.astype(np.float16)


def cluster(values: np.ndarray, count: int = 16, rounds: int = 100) -> np.ndarray:
    """k-means in one dimension: `count` rising float32 that float16 holds exactly. No chance is involved.

    Lloyd's algorithm on sorted values, where a cluster is a slice and its sum the difference of two running sums. It
    starts from quantiles and again from equal steps, and the better result stays.
    """
    ordered = np.sort(values.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    best, least = np.empty(0), np.inf
    for centers in (
        np.quantile(ordered, (np.arange(count) + 0.5) / count),
        np.linspace(ordered[0], ordered[-1], count),
    ):
        for _ in range(rounds):
            edges = np.concatenate([[0], np.searchsorted(ordered, (centers[1:] + centers[:-1]) / 2), [len(ordered)]])
            members = np.diff(edges)
            moved = np.where(members > 0, np.diff(sums[edges]) / np.maximum(members, 1), centers)
            if np.array_equal(moved, centers):
                break
            centers = moved
        centers = centers.astype(np.float16).astype(np.float64)
        error = np.square(ordered - centers[np.searchsorted((centers[1:] + centers[:-1]) / 2, ordered)]).sum()
        best, least = (centers, error) if error < least else (best, least)
    return best.astype(np.float32)


def _balance(
    weight: np.ndarray, codes: np.ndarray, limits: tuple[int, int], decode: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Move some codes by one, so that the errors of each kernel, and then of each filter, sum to about zero.

    `decode` gives the weights that codes stand for; a higher code is a larger weight.
    """
    for groups in (
        (*weight.shape[:2], *(1 for _ in weight.shape[2:])),
        (weight.shape[0], *(1 for _ in weight.shape[1:])),
    ):
        error = weight - decode(codes)
        other = (codes + np.sign(error)).clip(*limits)
        flips = _flips(_rows(error, groups), _rows(weight - decode(other), groups))
        codes = np.where(_whole(flips, weight.shape, groups), other, codes)
    return codes


def _flips(error: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which weights of each group [G, n] to round to the other side, where the error is `other`: bool [G, n].

    Those that add the least squared error for what they take from the sum, as many as bring the sum closest to zero.
    """
    total = error.sum(axis=1, keepdims=True)
    step = np.where(np.sign(error) == np.sign(total), np.abs(error - other), 0)
    cost = np.where(step > 0, (other**2 - error**2) / np.where(step > 0, step, 1), np.inf)
    order = np.argsort(cost, axis=1, kind="stable")
    taken = np.cumsum(np.take_along_axis(step, order, 1), axis=1)
    remaining = np.abs(np.abs(total) - np.concatenate([np.zeros_like(total), taken], axis=1))
    count = remaining.argmin(axis=1)[:, None]  # the first of equals, so never one that changes nothing
    flips = np.zeros(error.shape, bool)
    np.put_along_axis(flips, order, np.arange(error.shape[1]) < count, 1)
    return flips


def _split(shape: Groups, groups: Groups) -> tuple[list[int], list[int]]:
    """[groups0, size0, groups1, size1, ...], and the order of the axes that has all the groups first."""
    sides = [side for whole, count in zip(shape, groups) for side in (count, whole // count)]
    return sides, [*range(0, len(sides), 2), *range(1, len(sides), 2)]


def _rows(weight: np.ndarray, groups: Groups) -> np.ndarray:
    """[O, I, ...] -> float32 [G, n], one row for each group."""
    sides, order = _split(weight.shape, groups)
    return weight.astype(np.float32).reshape(sides).transpose(order).reshape(math.prod(groups), -1)


def _whole(rows: np.ndarray, shape: Groups, groups: Groups) -> np.ndarray:
    """[G, n] -> `shape`: undoes `_rows`."""
    sides, order = _split(shape, groups)
    return rows.reshape([sides[axis] for axis in order]).transpose(np.argsort(order)).reshape(shape)


def _half(scale: np.ndarray) -> np.ndarray:
    """Round a scale to what float16 holds; a group of zeros gets 1."""
    rounded = scale.astype(np.float16).astype(np.float32)
    return np.where(rounded > 0, rounded, np.float32(1))
