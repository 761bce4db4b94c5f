"""How far a program's outputs are from those of another run: of PyTorch, or of a Mac."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .seam import InputError, plain


def compare(outputs: Mapping[str, Any], expected: Mapping[str, np.ndarray], min_snr_db: float) -> bool:
    """Print a line for each expected output. Returns whether all have a signal-to-noise ratio of `min_snr_db` or more.

    Raises `InputError` for names or shapes that the program does not give.
    """
    verdicts = [_line(name, outputs, np.asarray(want), min_snr_db) for name, want in expected.items()]
    return all(verdicts)


def _line(name: str, outputs: Mapping[str, Any], want: np.ndarray, min_snr_db: float) -> bool:
    if name not in outputs:
        raise InputError(f'there is no output "{name}"; the program gives {", ".join(outputs)}')
    found = as_array(outputs[name])
    if found.shape != want.shape:
        raise InputError(f'output "{name}" has shape {list(found.shape)}, the expected one {list(want.shape)}')
    if found.dtype.kind in "US" or want.dtype.kind in "US":
        same = bool((found.astype(str) == want.astype(str)).all())
        print(plain(f"compare: {name} {'is' if same else 'is not'} {want}"))
        return same
    ratio, difference = snr_db(found, want), _largest_difference(found, want)
    verdict = "" if ratio >= min_snr_db else f", below {min_snr_db:g} dB"
    print(plain(f"compare: {name} {list(want.shape)}: {ratio:.1f} dB, largest difference {difference:.4g}{verdict}"))
    return ratio >= min_snr_db


def as_array(value: Any) -> np.ndarray:
    """An output as an array: of a classifier's dictionary the probabilities, in the order of the labels."""
    return np.array(list(value.values())) if isinstance(value, dict) else np.asarray(value)


def snr_db(found: np.ndarray, expected: np.ndarray) -> float:
    """10 log10(mean square of the expected values / mean square of the error), in dB; `inf` without an error. Values
    that are not finite must be the same in both, else it is `-inf`."""
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(found[~finite], expected[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return -math.inf
    noise = float(np.square(found[finite] - expected[finite]).sum())
    signal = float(np.square(expected[finite]).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _largest_difference(found: np.ndarray, expected: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):
        difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    return float(np.nan_to_num(difference, nan=0.0).max(initial=0.0))
