"""What a `domain.json` needs of statistics: limits, a temperature, and how right a confidence is.

Shapes: N samples, A answers.
"""

import numpy as np

SHARE = 0.005  # of held-out samples beyond each of the two limits, so at most 1 % beyond either
TEMPERATURES = np.geomspace(1 / 8, 8, 769)
BINS = 15  # of confidence


def best_temperature(logits_NA: np.ndarray, targets_N: np.ndarray) -> float:
    """The temperature with the least cross entropy of the right answers (Guo et al. 2017, arXiv 1706.04599)."""
    losses = [_cross_entropy(logits_NA / temperature, targets_N) for temperature in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def _cross_entropy(logits_NA: np.ndarray, targets_N: np.ndarray) -> float:
    shifted = logits_NA - logits_NA.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets_N)), targets_N]).mean())


def calibration_error(confidence_N: np.ndarray, correct_N: np.ndarray) -> float:
    """Expected calibration error: |confidence - share right|, averaged over bins of equal width by their samples."""
    bins = np.minimum((confidence_N * BINS).astype(int), BINS - 1)
    chosen = [bins == number for number in np.unique(bins)]
    return float(sum(mask.mean() * abs(confidence_N[mask].mean() - correct_N[mask].mean()) for mask in chosen))
