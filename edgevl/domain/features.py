"""Twenty-eight numbers of a picture: how smooth, how bright and how colorful it is. docs/bundle.md has them in words.

All counts are of integers, so that an app in any language gets the same ones. Shapes: S side of the model's picture.
"""

import numpy as np

FEATURES = "smoothness-tone-color"  # the name of these numbers in a domain.json: others would have another name
COUNT = 28
MIN_SIDE = 8  # pixels; of a smaller picture the second halving leaves no neighbors
STEPS = (1, 2, 5, 12, 30, 70)  # between neighbors, in levels of 0 to 255
TONES = (32, 64, 96, 128, 160, 192, 224)  # mean of the three channels
COLORS = (8, 24, 48, 96, 150)  # largest minus smallest channel


def picture_features(pixels_SS3: np.ndarray) -> np.ndarray:
    """Return uint8 [28] of uint8 pixels [S, S, 3], S at least 8: 255 times the square roots of shares.

    The finest scale is left out on purpose. With it, scenes saved as JPEG or shown at another size were flagged in up
    to two thirds of cases, although the model answers them as well as before (docs/log.md).
    """
    half = _halve(pixels_SS3.astype(np.int64))  # sums of 4 pixels
    quarter = _halve(half)  # of 16
    return np.concatenate([
        _shares(_steps(half), STEPS, 4),
        _shares(_steps(quarter), STEPS, 16),
        _shares(half.sum(-1), TONES, 12),
        _shares(half.max(-1) - half.min(-1), COLORS, 4),
    ])  # fmt: skip


def _halve(values_HW3: np.ndarray) -> np.ndarray:
    """Sums of blocks of 2 x 2; a last row or column without a partner is dropped."""
    height, width = (side // 2 * 2 for side in values_HW3.shape[:2])
    even = values_HW3[:height, :width]
    return even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]


def _steps(values_HW3: np.ndarray) -> np.ndarray:
    """The largest difference of a channel between each value and its right and its lower neighbor."""
    right, down = (np.abs(np.diff(values_HW3, axis=axis)).max(-1) for axis in (1, 0))
    return np.concatenate([right.ravel(), down.ravel()])


def _shares(values: np.ndarray, edges: tuple[int, ...], scale: int) -> np.ndarray:
    """Square roots of the shares of values that reach exactly 0, 1, 2 … of the edges. The root evens out small ones."""
    reached = np.searchsorted(np.array(edges) * scale, values.ravel(), side="right")
    shares = np.bincount(reached, minlength=len(edges) + 1) / reached.size
    return np.floor(255 * np.sqrt(shares) + 0.5).astype(np.uint8)
