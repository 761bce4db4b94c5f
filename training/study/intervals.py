"""Statistics of the study. Plain numbers in, plain numbers out.

Shapes: S seeds, N test samples.
"""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 4000

Curve = Sequence[tuple[float, float]]  # (step, accuracy), steps rising


def bootstrap_difference(ours_SN: np.ndarray, theirs_SN: np.ndarray, seed: int = 0) -> list[float]:
    """Percentile-bootstrap 95 % interval of the difference of accuracies, over test samples: seeds stay as they are.

    It says how far other test pictures could move the difference, not how far other seeds could.
    """
    gain_N = (ours_SN.astype(float) - theirs_SN.astype(float)).mean(0)
    rng = np.random.default_rng(seed)
    means = [gain_N[rng.integers(0, len(gain_N), len(gain_N))].mean() for _ in range(RESAMPLES)]
    return [float(value) for value in np.percentile(means, [2.5, 97.5])]


def calibration_error(confidence_N: np.ndarray, correct_N: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017): mean gap of confidence and accuracy over bins of equal width."""
    place_N = np.minimum((confidence_N * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence_N[place_N == b].mean() - correct_N[place_N == b].mean()) * (place_N == b).mean()
        for b in np.unique(place_N)
    ]
    return float(sum(gaps))


def crossing(curve: Curve, level: float) -> float | None:
    """The step at which a curve first reaches `level`, linear between its points; None when it never does.

    Where it is there at its first point already, that point's step: an upper bound.
    """
    before: tuple[float, float] | None = None
    for step, value in curve:
        if value >= level:
            if before is None:
                return step
            return before[0] + (step - before[0]) * (level - before[1]) / (value - before[1])
        before = step, value
    return None


def latest(curve: Curve, step: float) -> float:
    """The value of a curve at a step, or at its last one before."""
    return next(value for at, value in reversed(curve) if at <= step)
