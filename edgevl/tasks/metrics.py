"""Shares with intervals, in all and for each kind of sample."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgevl.contracts import Metric, Sample

_DRAWS = 2000  # of the bootstrap over groups


def several(target: Any) -> Sequence[Any]:
    """Return the right answers of a sample: its target may hold several, or be the one."""
    return target if isinstance(target, tuple | list) else (target,)


def is_right(said: Sequence[str], target: Any) -> list[bool]:
    """Say of each answer if it is right: any of the right ones is, however many people gave it."""
    return [each in several(target) for each in said]


def share(name: str, right: Sequence[bool], samples: Sequence[Sample]) -> Metric:
    """Return the share of samples that are right, with a 95 % interval and the share of each kind.

    The interval is Wilson's; where samples share a group (a picture, say) it is a bootstrap over groups.
    """
    kinds: dict[str, list[bool]] = defaultdict(list)
    for sample, good in zip(samples, right):
        kinds[sample.kind].append(bool(good))
    per_kind = {kind: (sum(each) / len(each), len(each)) for kind, each in sorted(kinds.items())}
    value = sum(map(bool, right)) / len(right) if right else 0.0
    return Metric(name, value, _interval(right, [sample.group for sample in samples]), len(right), per_kind)


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (E. B. Wilson 1927): unlike the normal one, right near 0 and 1."""
    if total == 0:
        return 0.0, 1.0
    z, p = 1.959964, correct / total
    middle = p + z * z / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def _interval(right: Sequence[bool], groups: Sequence[str]) -> tuple[float, float]:
    named = [group for group in groups if group]
    if len(set(named)) == len(named):
        return wilson(sum(map(bool, right)), len(right))
    return bootstrap(np.asarray(right, float), groups)


def bootstrap(values_N: np.ndarray, groups: Sequence[str]) -> tuple[float, float]:
    """Return the 95 % interval of a mean by drawing whole groups anew; a sample without a group is one of its own."""
    keys = [group or f"\0{index}" for index, group in enumerate(groups)]
    index = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    number_N = np.array([index[key] for key in keys])
    sums, counts = np.bincount(number_N, values_N), np.bincount(number_N)
    drawn = np.random.default_rng(0).integers(0, len(sums), (_DRAWS, len(sums)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), (2.5, 97.5))
    return float(low), float(high)
