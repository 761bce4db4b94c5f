"""Accuracy of our answering models in PyTorch, in batches: for the study, rounded training and region models.

Shapes: N samples, S image side, T text tokens, A answers.
"""

import dataclasses
import functools
import random
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgevl.errors import InputError
from edgevl.progress import Progress
from edgevl.tasks.metrics import wilson

if TYPE_CHECKING:
    from edgevl.checkpoint import LoadedModel

_MIN_SIDE = 32  # the smallest scenes there are; a smaller model gets them squashed


@dataclasses.dataclass(frozen=True)
class Samples:
    """Pictures with one question each, drawn deterministically from a data specification."""

    data: str
    pixels_NSS3: np.ndarray  # uint8
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    kinds: tuple[str, ...]  # of question

    def __len__(self) -> int:
        return len(self.questions)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Answers of one model to `Samples`."""

    logits_NA: np.ndarray  # float32
    correct_N: np.ndarray  # bool
    kinds: tuple[str, ...]
    unknown: int  # samples whose right answer is not among the model's labels; they count as wrong

    @property
    def accuracy(self) -> float:
        return float(self.correct_N.mean())

    @property
    def ci95(self) -> tuple[float, float]:
        return wilson(int(self.correct_N.sum()), len(self.correct_N))

    @property
    def per_kind(self) -> dict[str, tuple[float, int]]:
        """Accuracy and number of samples of each kind of question."""
        groups: dict[str, list[bool]] = defaultdict(list)
        for kind, correct in zip(self.kinds, self.correct_N):
            groups[kind].append(bool(correct))
        return {kind: (sum(group) / len(group), len(group)) for kind, group in sorted(groups.items())}


@functools.lru_cache(maxsize=2)
def draw_samples(data: str, count: int, size: int, seed: int | None = None) -> Samples:
    """One question for each of `count` scenes of `data`, at S = `size`. Cached: two targets share them.

    Without a `seed` these are the first scenes, with one they are drawn at random, each at most once. Of finite data
    every question is a sample.

    Raises:
        InputError: an unknown data specification, or `count` below 1.
    """
    from edgevl.data import open_dataset
    from edgevl.data.order import in_portions
    from edgevl.inputs.preprocess import load_image, to_pixels

    if count < 1:
        raise InputError(f"at least 1 sample is needed, got {count}")
    dataset = in_portions(open_dataset(data, size=max(size, _MIN_SIDE)), 1)
    if len(dataset) < count:
        raise InputError(f'"{data}" has {len(dataset):,} questions, {count:,} were asked for: lower --samples')
    everything = range(len(dataset))
    chosen = everything[:count] if seed is None else random.Random(seed).sample(everything, count)
    pixels, asked = np.empty((count, size, size, 3), np.uint8), []
    for place, index in enumerate(chosen):
        record = dataset[index]
        picture = record.pictures[0]
        same = isinstance(picture, np.ndarray) and picture.shape[:2] == (size, size)
        pixels[place] = picture if same else to_pixels(load_image(picture), size)
        asked += (record.questions or [])[:1]
    pixels.flags.writeable = False
    return Samples(
        data, pixels, tuple(q.text for q in asked), tuple(q.answer for q in asked), tuple(q.kind for q in asked)
    )


def evaluate_model(
    loaded: "LoadedModel", samples: Samples, batch: int = 32, progress: Progress | None = None
) -> Evaluation:
    """Run the float PyTorch model over the samples in batches."""
    import torch

    ids_NT = loaded.tokenizer.encode_batch(list(samples.questions), loaded.config.text_length)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(samples), batch):
            chunk = samples.pixels_NSS3[start : start + batch]
            image = torch.from_numpy(np.ascontiguousarray(chunk.transpose(0, 3, 1, 2))).float()
            rows.append(loaded.model(image, torch.from_numpy(ids_NT[start : start + batch])).numpy())
            if progress:
                progress(start + len(chunk), len(samples), "running the PyTorch reference")
    return judge(np.concatenate(rows).astype(np.float32), samples, loaded.labels)


def judge(logits_NA: np.ndarray, samples: Samples, labels: Sequence[str]) -> Evaluation:
    """Compare the best answers with the right ones. A row that is not finite is wrong."""
    index = {label: position for position, label in enumerate(labels)}
    targets = np.array([index.get(answer, -1) for answer in samples.answers])
    finite = np.isfinite(logits_NA).all(axis=1)
    best = np.where(finite, np.nan_to_num(logits_NA).argmax(axis=1), -2)
    return Evaluation(logits_NA, best == targets, samples.kinds, int((targets < 0).sum()))
