"""Training a dual encoder by contrast: a picture's embedding is nearer to its captions' than to those of the batch.

Shapes: B pictures, K captions of each, T text tokens, S side, E channels of an embedding.
"""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import data as torch_data

from edgevl.config import DualEncoderConfig, named_config
from edgevl.contracts import Dataset, Deployable, Metric, Record
from edgevl.data import open_dataset
from edgevl.decodings import decoding_of
from edgevl.decodings.runner import Runner
from edgevl.errors import InputError, unknown_name
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models.checkpoint import Loaded, LoadedDualEncoder, LoadedModel, open_model, save_dual_encoder
from edgevl.models.dual_encoder import PICTURES, TEXTS, DualEncoder, dual_encoder
from edgevl.models.pooling import unit_length
from edgevl.runtime.eager_session import eager_runner
from edgevl.tasks.retrieval import Retrieval
from edgevl.training.adapt import Start, rounded
from edgevl.training.batch import trim
from edgevl.training.data import Sample, channels_first, encoded, pixels_of, repeated
from edgevl.training.embedding_teacher import Teacher
from edgevl.training.recipe import Recipe

OTHER_SIDE = {"left": "right", "right": "left"}
_SIDE = re.compile(r"\b(left|right)\b")
_TASK = Retrieval()
# What a dual encoder has in common with the model whose eyes and words it begins with.
_INHERITED = (
    "backbone", "backbone_options", "out_index", "stride", "image_size", "mean", "std", "text_length", "vocab_size",
    "width",
)  # fmt: skip


class ContrastSamples(torch_data.Dataset[Sample]):
    """`samples[i]`: image uint8 [3, S, S]; captions int64 [K, T], the longest that the record has.

    mirror: half of the pictures are mirrored, and their captions say "right" for "left". teacher: samples also hold
    what it reads.
    """

    def __init__(
        self,
        dataset: Dataset,
        tokenizer: Tokenizer,
        config: DualEncoderConfig,
        texts: int,
        mirror: bool,
        teacher: Teacher | None = None,
    ):
        self.dataset, self.tokenizer, self.config = dataset, tokenizer, config
        self.texts, self.mirror, self.teacher = texts, mirror, teacher

    def __getitem__(self, index: int) -> Sample:
        record = self.dataset[index]
        pixels, captions = pixels_of(record, self.config.image_size), self.captions(record)
        turned = self.mirror and random.Random(f"mirror/{index}").random() < 0.5
        if turned:
            pixels, captions = pixels[:, ::-1], [mirrored(text) for text in captions]
        captions = repeated(captions, self.texts)
        ids = encoded(captions, self.tokenizer, self.config.text_length)
        read = self.teacher.read(record.pictures[0], captions, turned) if self.teacher else {}
        return {"image": channels_first(pixels), "captions": ids, **read}

    def captions(self, record: Record) -> list[str]:
        """Return up to `texts` captions. Raises `InputError` for a record without any."""
        found = [sample.query.texts[0] for sample in _TASK.samples(record, self.texts)]
        if not found:
            raise InputError(f"{self.dataset.name}: {record.key} has no caption to train on")
        return found


def mirrored(text: str) -> str:
    """Return what a text says of the mirrored picture: left and right change places."""
    return _SIDE.sub(lambda match: OTHER_SIDE[match[0]], text)


class ContrastObjective(nn.Module):
    """The loss of a batch, recall on the validation data, and the model folder at the end."""

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, validation: Dataset, recipe: Recipe):
        super().__init__()
        self.model: Any = model
        self._tokenizer, self._validation, self._pictures = tokenizer, validation, recipe.eval_samples
        self._frozen = [part_of(model, name) for name in recipe.freeze]
        for part in self._frozen:
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> "ContrastObjective":
        """Frozen parts stay in eval mode: the statistics of their norms are part of what is frozen."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def embeddings(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the embeddings of B pictures, [B, E], of their captions, [B * K, E], and the scale of products, []."""
        ids_NT = trim(batch, "captions")["captions"].flatten(0, 1)
        image = batch["image"].float().contiguous(memory_format=torch.channels_last)
        pictures_BE = unit_length(self.model.picture_vectors(image).float())
        texts_NE = unit_length(self.model.text_vectors(ids_NT).float())
        return {PICTURES: pictures_BE, TEXTS: texts_NE, "scale": self.model.scale}

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.task_losses(self.embeddings(batch), batch)

    def task_losses(self, values: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses of the task, the mean over the captions of a picture."""
        return mean_of([_TASK.losses(each, batch) for each in by_caption(values)])

    def answering(self) -> tuple[Deployable, Runner | None]:
        """Return what recall is measured of, and the runner over its programs if these are not the float ones."""
        return dual_encoder(LoadedDualEncoder(self.model, self.model.config, self._tokenizer, Path(), "")), None

    def evaluate(self) -> dict[str, float]:
        """Return recall with its 95 % intervals, in float32: in bf16 it moves by the way pictures are batched."""
        if not self._pictures:
            return {}
        model, runner = self.answering()
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            metrics = recall_of(model, self._validation, self._pictures, runner)
        found = {f"val_{metric.name}": metric.value for metric in metrics}
        for metric in metrics:
            found |= {f"{end}_val_{metric.name}": limit for end, limit in zip(("low", "high"), metric.ci95)}
        return found

    def save(self, folder: Path, tokenizer: Tokenizer) -> None:
        save_dual_encoder(folder, self.model, tokenizer)


def by_caption(values: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the values of each caption with its own picture: texts [B * K, E] become K times [B, E]."""
    texts_BKE = values[TEXTS].unflatten(0, (len(values[PICTURES]), -1))
    return [{**values, TEXTS: texts_BE} for texts_BE in texts_BKE.unbind(1)]


def mean_of(each: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the means of losses that have the same names."""
    return {name: torch.stack([losses[name] for losses in each]).mean() for name in each[0]}


def recall_of(model: Deployable, dataset: Dataset, pictures: int, runner: Runner | None = None) -> list[Metric]:
    """Return recall among the first pictures of a data set, each asked for by its longest caption.

    runner: over the programs of `model`, or over its artifacts; default: the float programs.
    """
    samples = [each for index in range(min(pictures, len(dataset))) for each in _TASK.samples(dataset[index])]
    decoding = decoding_of(model)
    answers = decoding.run(runner or eager_runner(model), [sample.query for sample in samples])
    return _TASK.score(answers, samples, decoding)


def part_of(model: nn.Module, name: str) -> nn.Module:
    """Return a module by its path. Raises `InputError` for an unknown one, with the nearest name."""
    parts = dict(model.named_modules())
    if not name or name not in parts:
        raise unknown_name(
            "part of the model in freeze", name, [each for each in parts if each.count(".") < 2 and each]
        )
    return parts[name]


def starting_encoder(recipe: Recipe, folder: Path | None) -> Start:
    """Return the dual encoder of `folder`; or one with the eyes and words of the model there; or a fresh one.

    Raises `InputError` where the recipe asks for another model than the folder holds.
    """
    asked = {key: value for key, value in recipe.model.items() if key != "config"}
    if folder is None:
        tokenizer = Tokenizer.from_words(()).extended(open_dataset(recipe.data.train).texts())
        words = {"vocab_size": rounded(tokenizer.vocab_size)}
        base = named_config(recipe.model.get("config", "nano"))
        return Start(DualEncoder(DualEncoderConfig.like(base, **words | asked)), tokenizer)
    loaded = open_model(folder)
    if isinstance(loaded, LoadedDualEncoder):
        _check_same(DualEncoderConfig.from_dict(loaded.config.to_dict() | asked), loaded, loaded.config.to_dict())
        return Start(loaded.model, loaded.tokenizer)
    assert isinstance(loaded, LoadedModel)
    core, config = loaded.model.core, DualEncoderConfig.like(loaded.config, **asked)
    _check_same(config, loaded, _INHERITED)
    model = DualEncoder(config)
    model.vision.load_state_dict(core.vision.state_dict())
    model.text.load_state_dict(core.text.state_dict())
    return Start(model, loaded.tokenizer)


def _check_same(wanted: DualEncoderConfig, loaded: Loaded, keys: Iterable[str]) -> None:
    for key in keys:
        own, asked = getattr(loaded.config, key), getattr(wanted, key)
        if own != asked:
            raise InputError(f"model.{key} is {asked}, but {loaded.path} has {own}: remove it, or remove init")
