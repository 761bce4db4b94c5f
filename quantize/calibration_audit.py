"""Can a calibration set be trusted? What cannot is refused in one line; what is doubtful is a warning in the plan.

The thresholds were chosen by measurement on Scenes: docs/quantize.md has the numbers.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from edgevl.contracts import Sample
from edgevl.errors import InputError
from edgevl.opened import Opened
from edgevl.plans.plan import SAMPLES, Coverage, Range
from edgevl.tasks.metrics import several

ENOUGH = 64  # pictures that are no near copies of others
SAME = 4.0  # levels of 255: pictures closer than that are near copies
TEXTS = 8  # different ones
FEW = 8  # samples of one kind: fewer are a warning
ANSWERS = 0.1  # share of the model's answers that the samples have: less is a warning
GROWTH = 0.2  # of its width: by how much a range may move in the second half of the batches
GROWING = 0.05  # share of the values that may move by more
_CELLS = 8  # a side of a thumbnail
_NAMED = 3  # values in a message


def audit_samples(model: Opened, samples: Sequence[Sample], data: str) -> Coverage:
    """What samples cover, as the model sees them. Raises `InputError` for a set that is too small or too uniform.

    Only what the model reads is looked at: pictures, texts, or both.
    """
    assert model.runner, "a model that can answer"
    shown = [model.runner.read(sample.query, "picture").values() for sample in samples]
    pictures = distinct_pictures([pixels for each in shown for pixels in each])
    texts = len({text for sample in samples for text in sample.query.texts})
    reads_pictures, reads_texts = model.reads
    if reads_pictures and pictures < ENOUGH:
        raise InputError(_too_few_pictures(len(samples), data, pictures))
    if reads_texts and texts < TEXTS:
        raise InputError(
            f'the {len(samples)} samples of "{data}" have only {texts} different text{"s"[: texts - 1]}: '
            f"at least {TEXTS} are needed, or the ranges fit no other text"
        )
    labels = model.labels or ()
    kinds, answers = Counter(sample.kind for sample in samples), _answers(samples, labels)
    return Coverage(
        pictures=pictures,
        questions=texts,
        answers=answers,
        labels=len(labels),
        kinds=dict(sorted(kinds.items())),
        warnings=tuple(_warnings(kinds, answers, len(labels))),
    )


def _answers(samples: Sequence[Sample], labels: Sequence[str]) -> int:
    """How many labels are right for a sample."""
    right = {target for sample in samples for target in several(sample.target)} if labels else set()
    return len(right.intersection(labels))


def _too_few_pictures(count: int, data: str, pictures: int) -> str:
    said = f'{count} samples of "{data}" are too few to calibrate on'
    if pictures < count:
        those = f"{pictures} different pictures" if pictures > 1 else "1 picture"
        said = f'the {count} samples of "{data}" show only {those}, the others are near copies'
    return f"{said}: at least {ENOUGH} different pictures are needed, {SAMPLES} are usual"


def _warnings(kinds: Mapping[str, int], answers: int, labels: int) -> Iterator[str]:
    rare = [f"{count} of {kind}" for kind, count in sorted(kinds.items()) if count < FEW]
    if rare:
        yield f"few questions of some kinds ({', '.join(rare)}): {FEW} of each are better, take more --samples"
    if answers < ANSWERS * labels:
        yield f"the samples have only {answers} of the {labels} answers of the model"


def distinct_pictures(pictures: Sequence[np.ndarray]) -> int:
    """How many pictures, uint8 [S, S, 3] of any sides S, have no near copy in front of them.

    Two are near copies if their thumbnails of 8 x 8 cells differ by less than `SAME` levels on average, each channel
    less its mean: JPEG, noise, light and a shift by a pixel do not make another picture.
    """
    if not pictures:
        return 0
    small_NC = torch.cat([_thumbnail(pixels) for pixels in pictures])
    copies = 0
    for start in range(0, len(small_NC), 256):
        part_MC = small_NC[start : start + 256]
        near_MN = torch.cdist(part_MC, small_NC[: start + len(part_MC)], p=1) / small_NC.shape[1] < SAME
        copies += int(near_MN.tril(start - 1).any(1).sum())  # the part's first row is row `start` of all
    return len(small_NC) - copies


def _thumbnail(pixels_SS3: np.ndarray) -> torch.Tensor:
    """[1, 3 * cells], each channel less its mean."""
    image_13SS = torch.from_numpy(np.ascontiguousarray(pixels_SS3.transpose(2, 0, 1))).float()[None]
    small_13C = torch.nn.functional.adaptive_avg_pool2d(image_13SS, _CELLS).flatten(2)
    return (small_13C - small_13C.mean(2, keepdim=True)).flatten(1)


def audit_ranges(coverage: Coverage, early: Mapping[str, Range], values: Mapping[str, Range], samples: int) -> Coverage:
    """Compare the ranges after half of the batches with those after all. Raises `InputError` if too many still move."""
    moved = {name: movement(early[name], found) for name, found in values.items()}
    growing = sorted((name for name in moved if moved[name] > GROWTH), key=lambda name: -moved[name])
    share = len(growing) / max(len(moved), 1)
    if share > GROWING:
        named = ", ".join(f"{name} by {moved[name]:.0%}" for name in growing[:_NAMED])
        raise InputError(
            f"the ranges of {len(growing)} of {len(moved)} values still grow: the second half of {samples} samples "
            f"moved {named} of their width; at most {GROWING:.0%} of the values may move by {GROWTH:.0%}: "
            f"try --samples {4 * samples}"
        )
    return coverage.model_copy(update={"growing": share})


def movement(early: Range, late: Range) -> float:
    """How far the ends of a range moved, as a share of its width at the end."""
    width = late.high - late.low
    return (abs(late.low - early.low) + abs(late.high - early.high)) / width if width > 0 else 0.0
