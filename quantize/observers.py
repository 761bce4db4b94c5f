"""How the range of a value is found: observers by name, on torchao's classes.

`minmax` keeps everything, `moving` averages the ends over batches, `percentile` and `histogram` clip a few outliers
so that all the rest is rounded in finer steps. The last two look at at most `_SAMPLED` numbers of a value per batch.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchao.quantization.pt2e import MinMaxObserver, MovingAverageMinMaxObserver, ObserverBase

from edgevl.errors import InputError
from edgevl.plans.plan import Range

PERCENTILE = 99.99  # of the numbers of a value lie inside its range, with as many outside at each end
_BINS = 4096
_SAMPLED = 1 << 16
_TRIED = 128  # places where each end of a range is tried
_STEPS = 255  # of an 8-bit grid


class MovingObserver(MovingAverageMinMaxObserver):
    """Of 32 batches, torchao's constant of 0.01 would take three quarters from the first one."""

    def __init__(self, **options: Any):
        super().__init__(averaging_constant=0.1, **options)


class _Histogram(MinMaxObserver):
    """Minimum and maximum of all numbers, and a histogram of a sample of them over [-reach, reach].

    `reach` is a power of two: when it doubles, pairs of bins become one and nothing is lost.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.counts = torch.zeros(_BINS, dtype=torch.float64)
        self.zeros = 0.0  # exact zeros (of ReLU, of padding) are exact in int8 as well
        self.reach = 2.0**-20

    def forward(self, x_orig: Tensor) -> Tensor:
        super().forward(x_orig)
        seen = sample(x_orig.detach().float())
        self._make_room(float(seen.abs().max()))
        self.counts += torch.histc(seen, _BINS, -self.reach, self.reach)
        self.zeros += float(seen.numel() - torch.count_nonzero(seen))
        return x_orig

    def _make_room(self, largest: float) -> None:
        while math.isfinite(largest) and largest > self.reach:
            pairs = self.counts.reshape(-1, 2).sum(1)
            self.counts = torch.zeros_like(self.counts)
            self.counts[_BINS // 4 : 3 * _BINS // 4] = pairs
            self.reach *= 2

    def bounds(self) -> tuple[float, float]:
        """Both ends of the range to use, within minimum and maximum."""
        raise NotImplementedError


class PercentileObserver(_Histogram):
    """Leaves out the same share of numbers at both ends."""

    def bounds(self) -> tuple[float, float]:
        total, share = self.counts.cumsum(0), (1 - PERCENTILE / 100) / 2
        ends = torch.tensor([share, 1 - share], dtype=torch.float64) * total[-1]
        edges = torch.linspace(-self.reach, self.reach, _BINS + 1, dtype=torch.float64)
        low = edges[torch.searchsorted(total, ends[0], right=True).clamp(max=_BINS - 1)]
        high = edges[torch.searchsorted(total, ends[1]).clamp(max=_BINS - 1) + 1]
        return max(float(low), float(self.min_val)), min(float(high), float(self.max_val))


class MseObserver(_Histogram):
    """The range whose 8-bit grid has the smallest mean squared error: steps^2 / 12 inside, distance^2 outside."""

    def bounds(self) -> tuple[float, float]:
        least, most = min(float(self.min_val), 0.0), max(float(self.max_val), 0.0)
        lows = torch.linspace(least, 0.0, _TRIED, dtype=torch.float64)
        highs = torch.linspace(0.0, most, _TRIED, dtype=torch.float64)
        centers = self.reach * (2 * torch.arange(_BINS, dtype=torch.float64) + 1 - _BINS) / _BINS
        below, cut_low = _outside(-centers.flip(0), self.counts.flip(0), -lows)
        above, cut_high = _outside(centers, self.counts, highs)
        inside = float(self.counts.sum()) - self.zeros - below[:, None] - above[None]
        steps = (highs[None] - lows[:, None]) / _STEPS
        error = inside.clamp(min=0) * steps**2 / 12 + cut_low[:, None] + cut_high[None]
        low, high = divmod(int(error.argmin()), _TRIED)
        return float(lows[low]), float(highs[high])


def _outside(centers: Tensor, counts: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """For each end: how many numbers lie above it, and the sum of their squared distances to it."""
    moments = torch.stack([counts, counts * centers, counts * centers**2])
    above = torch.cat([moments.flip(1).cumsum(1).flip(1), torch.zeros(3, 1, dtype=moments.dtype)], dim=1)
    zeroth, first, second = above[:, torch.searchsorted(centers, ends)]
    return zeroth, (second - 2 * ends * first + ends**2 * zeroth).clamp(min=0)


def sample(values: Tensor) -> Tensor:
    """At most about `_SAMPLED` numbers in equal steps that share no factor with the shape: no channel is left out."""
    flat = values.reshape(-1)
    step = -(-flat.numel() // _SAMPLED)
    while math.gcd(step, flat.numel()) > 1:
        step += 1
    return flat[::step]


OBSERVERS: dict[str, Callable[..., ObserverBase]] = {
    "minmax": MinMaxObserver,
    "moving": MovingObserver,
    "histogram": MseObserver,
    "percentile": PercentileObserver,
}


def observed(observer: Any, value: str) -> Range:
    """What an observer has found so far. Raises `InputError` if `value` was infinite or no number."""
    low, high = float(observer.min_val), float(observer.max_val)
    if not math.isfinite(low + high):
        raise InputError(f'"{value}" of the model is not finite on the calibration data: it cannot be quantized')
    low, high = observer.bounds() if isinstance(observer, _Histogram) else (low, high)
    return Range(low=low, high=high)
