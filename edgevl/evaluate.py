"""Accuracy on real samples: of any session, one sample at a time, or of a PyTorch model in batches.

Shapes: N samples, S image side, T text tokens, A answers.
"""

import dataclasses
import functools
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgevl.errors import InputError
from edgevl.progress import Progress
from edgevl.runtime.session import batch_size
from edgevl.tasks.metrics import wilson

if TYPE_CHECKING:
    from edgevl.checkpoint import LoadedModel
    from edgevl.inputs.tokenizer import Tokenizer
    from edgevl.runtime.session import Session

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


def evaluate_session(
    session: "Session",
    samples: Samples,
    tokenizer: "Tokenizer",
    length: int,
    labels: Sequence[str],
    progress: Progress | None = None,
) -> Evaluation:
    """Run every sample through `session`, as many at a time as the artifact takes, most often one, as an app would.

    `length` is T, `labels` the A answers. A last batch that is not full is filled up with its last sample.
    """
    ids_NT = tokenizer.encode_batch(list(samples.questions), length)
    rows, count, batch = [], len(samples), batch_size(session)
    for start in range(0, count, batch):
        chosen = np.arange(start, start + batch).clip(max=count - 1)
        feeds = {"image": samples.pixels_NSS3[chosen], "input_ids": ids_NT[chosen]}
        rows.append(session.run(feeds)["logits"][: count - start])
        if progress:
            progress(min(start + batch, count), count, "running the artifact")
    return judge(np.concatenate(rows).astype(np.float32), samples, labels)


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


@functools.lru_cache(maxsize=4)
def reference_evaluation(path: Path | None, sha256: str, data: str, count: int) -> Evaluation:
    """`evaluate_model` of a model folder (None: the embedded one). Cached: two targets share one reference.

    Raises:
        InputError: the folder cannot be loaded, or its weights do not have the digest `sha256`.
    """
    from edgevl.checkpoint import load_model

    loaded = load_model(path)
    if loaded.sha256 != sha256:
        raise InputError(f"the weights in {loaded.path} are not those that the bundle was made from")
    return evaluate_model(loaded, draw_samples(data, count, loaded.config.image_size))
