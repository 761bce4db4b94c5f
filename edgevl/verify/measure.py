"""Ask a model the samples of a task, score what it answers, and compare values with those of the float reference.

Shapes: N samples, R rows of a value over all samples.
"""

import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevl.bundle.manifest import OutputParity, Parity
from edgevl.contracts import Answer, Described, Metric, Sample
from edgevl.errors import InputError
from edgevl.progress import Progress
from edgevl.tasks.metrics import several

if TYPE_CHECKING:
    from edgevl.opened import Opened
MAX_DB = 300.0  # reported for values that are equal, where the ratio is infinite
_LARGEST = 1e12  # what the manifest can hold
_CHUNK = 32  # samples that are asked at a time


@dataclass(frozen=True)
class Measured:
    """What one model answered to samples, and how good that was."""

    answers: list[Answer[Any]]
    metrics: list[Metric]


@functools.lru_cache(maxsize=2)
def draw(
    data: str, task: str, count: int, side: int, seed: int | None = None, least: int | None = None
) -> tuple[Sample, ...]:
    """Return `count` samples of a task, one of each record; of finite data all that a record has. Cached, for targets.

    Args:
        data: a data specification such as "scenes:test".
        task: its name.
        count: how many; records that cannot be asked are passed over.
        side: pixels that pictures should have at least, where the data set is drawn for it.
        seed: without one these are the first records, with one they are drawn at random, each at most once.
        least: with fewer than `count`, but so many, be content.
    Raises:
        InputError: an unknown data specification, `count` below 1, or fewer records that can be asked.
    """
    from edgevl.data import open_dataset
    from edgevl.data.order import in_portions
    from edgevl.tasks import task_named

    if count < 1:
        raise InputError(f"at least 1 sample is needed, got {count}")
    dataset, asked = in_portions(open_dataset(data, size=side), 1), task_named(task)
    everything = range(len(dataset))
    order = everything if seed is None else random.Random(seed).sample(everything, min(len(dataset), 4 * count))
    samples = list[Sample]()
    for index in order:
        samples += asked.samples(dataset[index], 1)
        if len(samples) == count:
            return tuple(samples)
    if least and len(samples) >= least:
        return tuple(samples)
    raise InputError(f'"{data}" has {len(samples):,} samples for {task}, {count:,} were asked for: lower --samples')


def side_of(model: Described) -> int:
    """Return the largest side of the pictures that a model takes, in pixels."""
    return max((processing.size for processing in model.images.values()), default=1)


def ask(
    model: "Opened",
    samples: Sequence[Sample],
    along: Sequence[Answer[Any]] | None = None,
    progress: Progress | None = None,
    text: str = "running the artifact",
) -> list[Answer[Any]]:
    """Answer samples, some at a time. `along`: decide as these answers did."""
    answers = list[Answer[Any]]()
    for start in range(0, len(samples), _CHUNK):
        queries = [sample.query for sample in samples[start : start + _CHUNK]]
        answers += model.answer(queries, along[start : start + len(queries)] if along else None)
        if progress:
            progress(len(answers), len(samples), text)
    return answers


def measure(
    model: "Opened", samples: Sequence[Sample], progress: Progress | None = None, text: str = "running the artifact"
) -> Measured:
    """Answer samples and score the answers as the model's task does."""
    answers = ask(model, samples, progress=progress, text=text)
    return Measured(answers, model.task.score(answers, samples, model.decoder))


def unknown_targets(model: "Opened", samples: Sequence[Sample]) -> int:
    """Return how many samples have no right answer among the labels of a model that chooses from labels."""
    if model.labels is None or model.decoder.kind != "classify":
        return 0
    labels = set(model.labels)
    return sum(labels.isdisjoint(several(sample.target)) for sample in samples)


def compare(
    model: "Opened", own: Sequence[Answer[Any]], reference: Sequence[Answer[Any]], data: str, runtime: str
) -> Parity:
    """Compare the values of answers with those of the float model; `own` were decided along `reference`.

    Raises `InputError` for values of other shapes.
    """
    outputs = {name: compare_output(stacked(own, name), stacked(reference, name)) for name in reference[0].values}
    snrs = [each.snr_db for each in outputs.values() if each.snr_db is not None]
    return Parity(
        max_abs=max(each.max_abs for each in outputs.values()),
        psnr_db=min(each.psnr_db for each in outputs.values()),
        cosine=min(each.cosine for each in outputs.values()),
        snr_db=min(snrs) if snrs else None,
        outputs=outputs,
        top1_agreement=model.decoder.agreement(own, reference),
        samples=len(own),
        data=data,
        runtime=runtime,
    )


def stacked(answers: Sequence[Answer[Any]], name: str) -> np.ndarray:
    """Return one value of all answers, [R, ...]."""
    rows = [answer.values.get(name) for answer in answers]
    if any(row is None for row in rows) or len({row.shape[1:] for row in rows if row is not None}) != 1:
        raise InputError(f"the answers do not all have the value {name} in one shape")
    return np.concatenate([row for row in rows if row is not None])


def compare_output(own: np.ndarray, reference: np.ndarray) -> OutputParity:
    """Compare [R, ...] arrays: the signal is what the reference does beside always giving its mean over rows."""
    if own.shape != reference.shape:
        raise InputError(f"the artifact gives {list(own.shape)} values, the checkpoint {list(reference.shape)}")
    rows = len(own)
    own_RA, reference_RA = (array.reshape(rows, -1).astype(np.float64) for array in (own, reference))
    error_RA = own_RA - reference_RA
    noise, signal = float((error_RA**2).sum()), float(((reference_RA - reference_RA.mean(axis=0)) ** 2).sum())
    norms = np.linalg.norm(own_RA, axis=1) * np.linalg.norm(reference_RA, axis=1)
    cosine = (own_RA * reference_RA).sum(axis=1) / np.maximum(norms, 1e-12)
    return OutputParity(
        snr_db=decibels(signal, noise) if rows > 1 else None,
        psnr_db=decibels(float(np.abs(reference_RA).max()) ** 2 * error_RA.size, noise),
        cosine=float(cosine.mean()),
        max_abs=min(_LARGEST, float(np.abs(error_RA).max())),
    )


def decibels(signal: float, noise: float) -> float:
    """Return 10 log10(signal / noise), at most `MAX_DB` either way; without noise `MAX_DB`."""
    if noise == 0:
        return MAX_DB
    return float(np.clip(10 * np.log10(max(signal, 1e-300) / noise), -MAX_DB, MAX_DB))


def per_kind(metrics: Sequence[Metric]) -> Mapping[str, tuple[float, int]]:
    """Return what the first metric is for each kind of sample: (value, samples)."""
    return metrics[0].per_kind if metrics else {}
