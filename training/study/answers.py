"""Answers of our models and of region-feature models, which are no Deployable, to the same samples.

Shapes: N samples, S image side, T text tokens, A answers.
"""

import dataclasses
import functools
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgevl.data import open_scenes
from edgevl.inputs.preprocess import load_image, to_pixels
from edgevl.progress import Progress
from edgevl.tasks.metrics import is_right, wilson
from edgevl.verify.measure import draw

if TYPE_CHECKING:
    from edgevl.models.checkpoint import LoadedModel


@dataclasses.dataclass(frozen=True)
class Samples:
    """Pictures with one question or statement each, drawn deterministically from a data specification."""

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


@functools.lru_cache(maxsize=8)
def draw_samples(data: str, count: int, size: int, task: str = "vqa") -> Samples:
    """Return the first `count` samples of a task at S = `size`. Raises as `edgevl.verify.measure.draw` does."""
    drawn = draw(data, task, count, size)
    pixels_NSS3 = np.stack([_at(each.query.pictures[0], size) for each in drawn])
    pixels_NSS3.flags.writeable = False
    texts, answers, kinds = zip(*((each.query.texts[0], each.target[0], each.kind) for each in drawn), strict=True)
    return Samples(data, pixels_NSS3, texts, answers, kinds)


@functools.lru_cache(maxsize=2)
def draw_kinds(data: str, count: int, size: int, kinds: tuple[str, ...]) -> Samples:
    """Return the first `count` pictures of Scenes with one question each, of these kinds."""
    drawn = open_scenes(data, size=size)
    scenes = [drawn.scene(index) for index in range(count)]
    asked = [scene.questions(1, kinds)[0] for scene in scenes]
    texts, answers, names = zip(*((each.text, each.answer, each.kind) for each in asked), strict=True)
    return Samples(data, np.stack([scene.image for scene in scenes]), texts, answers, names)


def _at(picture: np.ndarray, size: int) -> np.ndarray:
    return picture if picture.shape[:2] == (size, size) else to_pixels(load_image(picture), size)


def evaluate_model(
    loaded: "LoadedModel", samples: Samples, batch: int = 32, progress: Progress | None = None
) -> Evaluation:
    """Run the float model over the samples in batches."""
    ids_NT = loaded.tokenizer.encode_batch(list(samples.questions), loaded.config.text_length)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(samples), batch):
            chunk = samples.pixels_NSS3[start : start + batch]
            image = torch.from_numpy(np.ascontiguousarray(chunk.transpose(0, 3, 1, 2))).float()
            rows.append(loaded.model(image, torch.from_numpy(ids_NT[start : start + batch])).numpy())
            if progress:
                progress(start + len(chunk), len(samples), "running the PyTorch reference")
    logits_NA = np.concatenate(rows).astype(np.float32)
    said = [loaded.labels[best] for best in logits_NA.argmax(axis=1)]
    correct = [is_right([each], answer)[0] for each, answer in zip(said, samples.answers)]
    return Evaluation(logits_NA, np.array(correct), samples.kinds)
