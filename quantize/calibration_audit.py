"""Can a calibration set be trusted? What cannot is refused in one line; what is doubtful is a warning in the plan.

The thresholds were chosen by measurement on Scenes: docs/quantize.md has the numbers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from edgevl.errors import InputError
from edgevl.evaluate import Samples
from edgevl.quantize.plan import Coverage, Range

ENOUGH = 64  # pictures that are no near copies of others
SAME = 4.0  # levels of 255: pictures closer than that are near copies
GROWTH = 0.1  # of its width that a range may move by in the second half of the batches
GROWING = 0.1  # share of the values that may move by more
_CELLS = 8  # a side of a thumbnail
_NAMED = 3  # values in a message


def audit_samples(samples: Samples, labels: Sequence[str]) -> Coverage:
    """What a set covers. Raises `InputError` for one that is too small or too uniform."""
    pictures = distinct_pictures(samples.pixels_NSS3)
    if pictures < ENOUGH:
        raise InputError(_too_few(samples, pictures))
    return Coverage(
        pictures=pictures,
        questions=len(set(samples.questions)),
        answers=len(set(samples.answers) & set(labels)),
        labels=len(labels),
        kinds=dict(sorted(Counter(samples.kinds).items())),
    )


def _too_few(samples: Samples, pictures: int) -> str:
    count = len(samples)
    said = f'{count} samples of "{samples.data}" are too few to calibrate on'
    if pictures < count:
        said = f'the {count} samples of "{samples.data}" hold only {pictures} different pictures'
        said += ", the others are near copies of these" if pictures > 1 else ", all are near copies of it"
    return f"{said}: at least {ENOUGH} different ones are needed"


def distinct_pictures(pixels_NSS3: np.ndarray) -> int:
    """How many pictures have no near copy in front of them.

    Two are near copies if their thumbnails of 8 x 8 cells differ by less than `SAME` levels on average, each channel
    less its mean: JPEG, noise, light and a shift by a pixel do not make another picture.
    """
    small_NC = torch.cat([_thumbnails(part) for part in np.array_split(pixels_NSS3, -(-len(pixels_NSS3) // 64))])
    copies = 0
    for start in range(0, len(small_NC), 256):
        part_MC = small_NC[start : start + 256]
        near_MN = torch.cdist(part_MC, small_NC[: start + len(part_MC)], p=1) / small_NC.shape[1] < SAME
        copies += int(near_MN.tril(start - 1).any(1).sum())  # the part's first row is row `start` of all
    return len(small_NC) - copies


def _thumbnails(pixels_NSS3: np.ndarray) -> torch.Tensor:
    """[N, 3 * cells], each channel less its mean."""
    image_N3SS = torch.from_numpy(np.ascontiguousarray(pixels_NSS3.transpose(0, 3, 1, 2))).float()
    small_N3C = torch.nn.functional.adaptive_avg_pool2d(image_N3SS, _CELLS).flatten(2)
    return (small_N3C - small_N3C.mean(2, keepdim=True)).flatten(1)


def audit_ranges(coverage: Coverage, early: Mapping[str, Range], values: Mapping[str, Range], samples: int) -> Coverage:
    """Compare the ranges after half of the batches with those after all. Raises `InputError` if too many still move."""
    moved = {name: movement(early[name], found) for name, found in values.items()}
    growing = sorted((name for name in moved if moved[name] > GROWTH), key=lambda name: -moved[name])
    share = len(growing) / max(len(moved), 1)
    if share > GROWING:
        named = ", ".join(f"{name} by {moved[name]:.0%}" for name in growing[:_NAMED])
        raise InputError(
            f"the ranges of {len(growing)} of {len(moved)} values still move after {samples} samples ({named}): "
            f"try --samples {4 * samples}"
        )
    return coverage.model_copy(update={"growing": share})


def movement(early: Range, late: Range) -> float:
    """How far the ends of a range moved, as a share of its width at the end."""
    width = late.high - late.low
    return (abs(late.low - early.low) + abs(late.high - early.high)) / width if width > 0 else 0.0
