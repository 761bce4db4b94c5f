"""Percentiles, and a ratio with its interval. Everything takes plain sequences of numbers."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgevl.errors import InputError

RESAMPLES = 10_000
FEWEST = 5  # pairs that a bootstrap of the median is honest for: of three, its interval is (least, most), 75 %
# Student's t, two-sided 95 %, by number of values (degrees of freedom + 1).
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
MOST_VALUES = max(T95)


def percentile(samples: Sequence[float], q: float) -> float:
    """The q-th percentile (0..100), linear between the nearest samples (numpy's default)."""
    if not len(samples):
        raise InputError("a percentile needs at least one sample, got none: the run measured nothing")
    return float(np.percentile(np.asarray(samples, dtype=np.float64), q))


def variation(samples: Sequence[float]) -> float:
    """Coefficient of variation: standard deviation (n - 1) / mean; 0 for fewer than two samples."""
    values = np.asarray(samples, dtype=np.float64)
    return float(values.std(ddof=1) / values.mean()) if len(values) > 1 else 0.0


def pair_ratios(baseline: Sequence[Sequence[float]], candidate: Sequence[Sequence[float]]) -> list[float]:
    """One ratio per interleaved pair of blocks: median of the baseline's block / median of the candidate's."""
    if len(baseline) != len(candidate):
        raise InputError(f"{len(baseline)} blocks of the baseline against {len(candidate)} of the candidate: not pairs")
    return [float(np.median(base) / np.median(cand)) for base, cand in zip(baseline, candidate, strict=True)]


def ratio_interval(pairs: Sequence[float]) -> tuple[float, float]:
    """95 % interval of what `pairs` measure: by bootstrap, or of fewer than `FEWEST` Student's of their logarithms."""
    if len(pairs) >= FEWEST or len(pairs) not in T95:
        return bootstrap_interval(pairs)
    low, high = geometric_interval(pairs)["ci95"]
    return low, high


def t_interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean and Student's 95 % interval of it: `{"mean", "ci95", "n"}`; `ci95` is null for one value."""
    mean = statistics.fmean(values)
    if len(values) not in T95:
        return {"mean": mean, "ci95": None, "n": len(values)}
    half = T95[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": mean, "ci95": [mean - half, mean + half], "n": len(values)}


def geometric_interval(values: Sequence[float]) -> dict[str, Any]:
    """`t_interval` of factors, taken on their logarithms."""
    found = t_interval([math.log(value) for value in values])
    interval = found["ci95"]
    return found | {"mean": math.exp(found["mean"]), "ci95": interval and [math.exp(side) for side in interval]}


def bootstrap_interval(pairs: Sequence[float], seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Percentile-bootstrap interval of the median of `pairs`: the pairs are resampled, not the single queries.

    Queries inside a block share their moment (clocks, caches, neighbors); treating them as independent would make the
    interval too narrow.
    """
    values = np.asarray(pairs, dtype=np.float64)
    rng = np.random.default_rng(seed)
    medians = np.median(values[rng.integers(0, len(values), (RESAMPLES, len(values)))], axis=1)
    tail = 100 * (1 - level) / 2
    return float(np.percentile(medians, tail)), float(np.percentile(medians, 100 - tail))


def block_medians(samples: Sequence[float], blocks: Sequence[int]) -> list[float]:
    """The median of each block of a run; of every sample where the run does not say which block it was in."""
    if not blocks or sum(blocks) != len(samples):
        return list(samples)
    ends = np.cumsum(blocks)
    return [float(np.median(samples[end - size : end])) for end, size in zip(ends, blocks, strict=True) if size]


def unpaired_interval(
    old: Sequence[float], new: Sequence[float], seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile-bootstrap interval of median(new) / median(old), two runs resampled apart.

    It knows what varies inside a run, and not what varies between runs (where memory lies, who else is there): paired
    measurements say more.
    """
    rng = np.random.default_rng(seed)
    medians = []
    for values in (np.asarray(new, dtype=np.float64), np.asarray(old, dtype=np.float64)):
        medians.append([np.median(values[rng.integers(0, len(values), len(values))]) for _ in range(RESAMPLES // 5)])
    ratios = np.divide(*medians)
    tail = 100 * (1 - level) / 2
    return float(np.percentile(ratios, tail)), float(np.percentile(ratios, 100 - tail))
