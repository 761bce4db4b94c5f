"""Records as training samples: fixed shapes, a pure function of the index, so that a data position is one number.

Shapes: K texts a picture, T text tokens, V cells of the visual grid, N objects a picture at most.
"""

import dataclasses
import itertools
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils import data as torch_data
from torch.utils.data import DataLoader

from edgevl.config import ModelConfig
from edgevl.contracts import Dataset, Record
from edgevl.contracts import Sample as TaskSample
from edgevl.data import scenes_of
from edgevl.data.annotations import MAX_OBJECTS, Annotations
from edgevl.data.order import View
from edgevl.data.scenes import QUESTION_KINDS, Scene, Scenes
from edgevl.errors import InputError, unknown_name
from edgevl.inputs.preprocess import load_image, to_pixels
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.limits import shown
from edgevl.tasks.metrics import is_right, several
from edgevl.tasks.statement import Statement
from edgevl.tasks.vqa import Vqa
from edgevl.training.recipe import Recipe

T = TypeVar("T")
Sample = dict[str, np.ndarray]
Batch = dict[str, torch.Tensor]
OUTSIDE = -1  # the number of an answer that is no label
IGNORED = -100  # of one that stands for none: `torch.nn.functional.cross_entropy` leaves it out
KEPT_BYTES = 256 * 2**20  # of decoded pictures, in each process that draws samples


def repeated(items: Sequence[T], count: int) -> list[T]:
    """Return `count` items, from the first again after the last."""
    return list(itertools.islice(itertools.cycle(items), count))


def encoded(texts: Sequence[str], tokenizer: Tokenizer, length: int) -> np.ndarray:
    """Return token ids int64 [K, T] with T = `length`."""
    return tokenizer.encode_batch(list(texts), length).astype(np.int64)


class PretrainSamples(torch_data.Dataset[Sample]):
    """`samples[i]`: image uint8 [3, S, S]; captions, negatives int64 [K, T]; grids int64 [V]; boxes [N, 4] in 0..1.

    annotations: where grids and boxes come from, if not from the scenes themselves.
    """

    def __init__(
        self,
        scenes: Scenes,
        tokenizer: Tokenizer,
        config: ModelConfig,
        texts: int = 2,
        annotations: Annotations | None = None,
    ):
        self.scenes, self.tokenizer, self.config, self.texts = scenes, tokenizer, config, texts
        self.annotations = annotations

    def __getitem__(self, index: int) -> Sample:
        scene = self.scenes.scene(index)
        seen = self.annotations.scene(scene) if self.annotations else scene
        grid = seen.grid(self.config.grid)
        captions, negatives = zip(*self.pairs(scene), strict=True)
        return {
            "image": channels_first(scene.image),
            "captions": self._encode(captions),
            "negatives": self._encode(negatives),
            "class_grid": grid["class_ids"].reshape(-1).astype(np.int64),
            "color_grid": grid["color_ids"].reshape(-1).astype(np.int64),
            "size_grid": grid["size_ids"].reshape(-1).astype(np.int64),
            "object_grid": grid["objects"].reshape(-1).astype(np.int64),
            **padded_boxes(seen),
        }

    def pairs(self, scene: Scene) -> list[tuple[str, str]]:
        """Up to `texts` pairs of a caption and the same made false."""
        return scene.caption_pairs(self.texts)

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        return encoded(repeated(texts, self.texts), self.tokenizer, self.config.text_length)


class RetrievalSamples(PretrainSamples):
    """The most specific captions: of eight the longest, for "exactly two objects" finds no picture."""

    def pairs(self, scene: Scene) -> list[tuple[str, str]]:
        return sorted(scene.caption_pairs(8), key=lambda pair: -len(pair[0]))[: self.texts]


class VqaSamples(torch_data.Dataset[Sample]):
    """`samples[i]`: image uint8 [3, S, S]; questions int64 [K, T]; answers int64 [K] (an index into the labels).

    Of several right answers `answers` holds the first that is a label: the most frequent one. side: S, that of the
    model if it is 0. Where a record of finite data has fewer than K questions, the others repeat them and have the
    answer `IGNORED`.

    training: refuse a question without an answer that is a label. In validation its number is `OUTSIDE`, which no model
    gives, and samples hold `right`, too: bool [K, A], the labels that the task counts as right.
    """

    task: Vqa = Vqa()

    def __init__(
        self,
        dataset: Dataset,
        tokenizer: Tokenizer,
        config: ModelConfig,
        labels: Sequence[str],
        texts: int = 4,
        focus: Sequence[str] = (),
        focus_texts: int = 0,
        side: int = 0,
        training: bool = True,
        kinds: Sequence[str] = (),
    ):
        self.dataset, self.tokenizer, self.config, self.texts = dataset, tokenizer, config, texts
        self.kinds = kinds
        self.side, self.training, self.labels = side or config.image_size, training, labels
        self._masked = dataset.finite or isinstance(dataset, View)
        self._pixels: dict[str, np.ndarray] = {}  # of files, which take long to decode
        self.focus, self.focus_texts = focus, focus_texts if focus else 0
        self.label_ids = {label: index for index, label in enumerate(labels)}

    def __getitem__(self, index: int) -> Sample:
        record = self.dataset[index]
        asked = self._asked(record)
        questions = repeated(asked, self.texts)
        texts = [each.query.texts[0] for each in questions]
        sample = {
            "image": channels_first(self._picture(record)),
            "questions": encoded(texts, self.tokenizer, self.config.text_length),
            "answers": np.array([self._target(each, record) for each in questions], np.int64),
        }
        if self._masked:
            sample["answers"][len(asked) :] = IGNORED
        if not self.training:
            sample["right"] = np.array([is_right(self.labels, each.target) for each in questions])
        return sample

    def __len__(self) -> int:
        return len(self.dataset)

    def _target(self, asked: TaskSample, record: Record) -> int:
        known = [self.label_ids[answer] for answer in several(asked.target) if answer in self.label_ids]
        if not known and self.training:
            raise InputError(
                f"{self.dataset.name}: the answer {shown(several(asked.target)[0])} of {record.key} is none of the "
                f"model's {len(self.labels)} labels: remove the question, or train a model with the labels of this data"
            )
        return known[0] if known else OUTSIDE

    def _picture(self, record: Record) -> np.ndarray:
        """Pixels [S, S, 3]; those of files are kept, as many as fit into `KEPT_BYTES`."""
        if isinstance(record.pictures[0], np.ndarray):
            return pixels_of(record, self.side)
        if record.key not in self._pixels and len(self._pixels) * 3 * self.side**2 < KEPT_BYTES:
            self._pixels[record.key] = pixels_of(record, self.side)
        return self._pixels[record.key] if record.key in self._pixels else pixels_of(record, self.side)

    def _asked(self, record: Record) -> list[TaskSample]:
        """Return up to `texts` samples of the task. Raises `InputError` for a record without any."""
        if self.kinds or self.focus_texts:
            record = dataclasses.replace(record, questions=self._chosen(record.questions))
        found = self.task.samples(record, self.texts)
        if not found:
            raise InputError(f"{self.dataset.name}: {record.key} has nothing to train {self.task.name} on")
        return found

    def _chosen(self, questions: Any) -> list[Any]:
        """Return up to `texts` questions: of `kinds` alone, or up to `focus_texts` of them of the kinds in `focus`."""
        if self.kinds:
            return questions.of_kinds(self.kinds)[: self.texts]
        focused = questions.of_kinds(self.focus)[: self.focus_texts]
        return focused + list(questions[: self.texts - len(focused)])


class OtherLight(torch_data.Dataset[Sample]):
    """`samples[i]` with its picture in other light, the same each time."""

    def __init__(self, samples: torch_data.Dataset[Sample], most: float):
        self.samples, self.most = samples, most

    def __getitem__(self, index: int) -> Sample:
        sample = self.samples[index]
        return {**sample, "image": relit(sample["image"], self.most, random.Random(f"light/{index}"))}

    def __len__(self) -> int:
        return len(self.samples)  # pyright: ignore[reportArgumentType]


def relit(pixels_3SS: np.ndarray, most: float, rng: random.Random) -> np.ndarray:
    """Return pixels, uint8, of other brightness, contrast and saturation: each by a factor within 1 - most to 1 + most.

    Hues stay, since colors have names. A model that learned from one artist's objects knows another's better by it
    (docs/log.md).
    """
    brightness, contrast, saturation = (rng.uniform(1 - most, 1 + most) for _ in range(3))
    bright = pixels_3SS * np.float32(brightness)
    mean = bright.mean()
    contrasted = (bright - mean) * np.float32(contrast) + mean
    gray = contrasted.mean(0, keepdims=True)
    return ((contrasted - gray) * np.float32(saturation) + gray).clip(0, 255).round().astype(np.uint8)


def in_other_light(samples: Any, most: float, region_model: bool = False) -> Any:
    """Return samples whose pictures are in other light, where a recipe asks for it.

    Raises `InputError` for a region-feature model, which sees what a detector found in pictures as they are.
    """
    if most and region_model:
        raise InputError("data.light is for a model that sees pixels, not regions: remove it")
    return OtherLight(samples, most) if most else samples


class StatementSamples(VqaSamples):
    """Sentences that are true or false of the picture, answered by yes or no."""

    task = Statement()


def make_samples(
    recipe: Recipe,
    dataset: Dataset,
    tokenizer: Tokenizer,
    config: ModelConfig,
    labels: Sequence[str],
    focus: Sequence[str] = (),
    side: int = 0,
    training: bool = True,
) -> Any:
    """Return what the recipe's task asks of the pictures; `focus` are kinds of question.

    Raises `InputError` for data that does not know what the task needs.
    """
    data = recipe.data
    if recipe.task == "retrieval":
        return RetrievalSamples(scenes_of(dataset), tokenizer, config, data.texts)
    for key, names in {"data.focus": focus, "data.kinds": data.kinds}.items():
        _check_kinds(key, names, dataset)
    kind = StatementSamples if recipe.task == "statement" else VqaSamples
    return kind(dataset, tokenizer, config, labels, data.texts, focus, data.focus_texts, side, training, data.kinds)


def _check_kinds(key: str, names: Sequence[str], dataset: Dataset) -> None:
    if names and not isinstance(dataset, Scenes):
        raise InputError(f"{key} names kinds of question of Scenes: remove it for {dataset.name}")
    if unknown := [kind for kind in names if kind not in QUESTION_KINDS]:
        raise unknown_name(f"kind of question in {key}", unknown[0], QUESTION_KINDS)


def in_order(count: int, batch_size: int) -> list[list[int]]:
    """The first `count` indices in batches; the last one may be smaller."""
    return [[*range(start, min(start + batch_size, count))] for start in range(0, count, batch_size)]


class Positions:
    """Batches of consecutive indices from a step on: what makes training resume at exactly the next sample."""

    def __init__(self, batch_size: int, first_step: int, last_step: int):
        self.batch_size, self.first_step, self.last_step = batch_size, first_step, last_step

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.last_step):
            yield list(range(step * self.batch_size, (step + 1) * self.batch_size))

    def __len__(self) -> int:
        return self.last_step - self.first_step


def batches(samples: torch_data.Dataset[Sample], positions: Iterable[list[int]], workers: int) -> DataLoader[Sample]:
    """A loader over the batches of `positions`, in order, whatever the number of workers."""
    return DataLoader(
        samples,
        batch_sampler=positions,  # pyright: ignore[reportArgumentType]
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_single_thread if workers else None,
    )


def errors_in_one_line(loader: Iterable[Batch]) -> Iterator[Batch]:
    """The batches of a loader. What a worker process could not use is one line here, too: torch adds its traceback."""
    try:
        yield from loader
    except InputError as error:
        raise InputError(str(error).strip().splitlines()[-1].removeprefix("edgevl.errors.InputError: ")) from None
    except RuntimeError as error:
        raise _worker_problem(error) from error


def _worker_problem(error: RuntimeError) -> Exception:
    """The error to raise for what a machine denies to worker processes, else `error` itself."""
    text = str(error)
    if "shared memory" in text:  # also in what torch says of a worker that died of a bus error
        return InputError(
            "shared memory (/dev/shm) is full, through which workers hand over batches: set data.workers=0, or make it "
            "larger (docker run --shm-size=1g)"
        )
    if re.search(r"DataLoader worker.*(killed by signal|exited unexpectedly)", text):
        return InputError(
            "a worker that draws the samples was killed, most likely because memory ran out: lower data.workers or "
            "batch_size"
        )
    return error


def pixels_of(record: Record, side: int) -> np.ndarray:
    """Return the picture of a record, uint8 [S, S, 3]."""
    picture = record.pictures[0]
    if isinstance(picture, np.ndarray) and picture.shape == (side, side, 3):
        return picture
    return to_pixels(load_image(picture), side)


def channels_first(pixels_SS3: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels_SS3.transpose(2, 0, 1))


def padded_boxes(scene: Scene) -> Sample:
    """Boxes as fractions of the side, (x0, y0, x1, y1), padded with zeros, and how many are real."""
    boxes = np.zeros((MAX_OBJECTS, 4), np.float32)
    for row, o in zip(boxes, scene.objects):
        row[:] = [side / scene.image.shape[0] for side in o.box]
    return {"boxes": boxes, "box_count": np.array(len(scene.objects), np.int64)}


def _single_thread(_worker: int) -> None:
    torch.set_num_threads(1)
