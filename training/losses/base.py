"""What all pretraining losses share: their call, their registry, and the classifier over names."""

import dataclasses
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from edgevl.config import ModelConfig
from edgevl.errors import InputError, unknown_name
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models.core import PAD_ID, TextEmbedding, VisionLanguageCore
from edgevl.registry import Registry
from edgevl.training.batch import trim

Batch = Mapping[str, Tensor]
M = TypeVar("M", bound=nn.Module)


@dataclasses.dataclass(frozen=True)
class LossContext:
    """What a loss may need to build its heads."""

    config: ModelConfig
    tokenizer: Tokenizer
    classes: Sequence[str]  # names of the object categories, in the order of their ids
    attributes: Mapping[str, Sequence[str]]  # attribute -> its values in the order of their ids


class Reading(NamedTuple):
    """What a loss reads of pretraining: the options that every loss has beside its weight."""

    after: int = 0  # steps before its first
    fraction: float = 1.0  # of the pictures of a batch, the first ones; at least one
    texts: int | None = None  # of the captions of a picture, the first ones; None: all

    def of(self, batch: Batch, visual_BVD: Tensor) -> tuple[Batch, Tensor]:
        """Return the part of a batch, and its visual tokens, that is read."""
        count = max(1, int(len(visual_BVD) * self.fraction))
        if count == len(visual_BVD) and self.texts is None:
            return batch, visual_BVD
        part = {key: values[:count] for key, values in batch.items()}
        captions = {key: part[key][:, : self.texts] for key in ("captions", "negatives")}
        return trim({**part, **captions}, *captions), visual_BVD[:count]


class PretrainingLoss(nn.Module):
    """Base of the losses. `forward` takes the core, the batch and the visual tokens before fusion [B, V, D]."""

    reading = Reading()  # of a class: what its losses read where a recipe does not say

    def __init__(self, context: LossContext):
        super().__init__()

    def forward(self, core: VisionLanguageCore, batch: Batch, visual_BVD: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError


_READING: dict[str, Any] = {
    "after": Annotated[int, Field(ge=0)],
    "fraction": Annotated[float, Field(gt=0, le=1)],
    "texts": Annotated[int, Field(ge=1)],
}
LOSSES: Registry[type[PretrainingLoss]] = Registry("loss")


def make_losses(options: Mapping[str, Mapping[str, Any]], registry: Registry[type[M]], *context: Any) -> dict[str, M]:
    """A recipe's losses by name, each built with `context` and its options; a weight of 0 switches one off.

    Those of pretraining also take the fields of `Reading`.

    Raises `InputError` for an unknown loss or option, or when none is left.
    """
    built: dict[str, M] = {}
    for name, given in options.items():
        kind = registry[name]
        parameters = [*inspect.signature(kind, eval_str=True).parameters.values()][len(context) :]
        reading = getattr(kind, "reading", None)
        common = {"weight": float} | (_READING if reading else {})
        known = common | {parameter.name: parameter.annotation for parameter in parameters}
        for key, value in given.items():
            if key not in known:
                raise unknown_name(f"option of losses.{name}", key, known)
            try:
                TypeAdapter(known[key]).validate_python(value)
            except ValidationError as error:
                message = error.errors()[0]["msg"]
                raise InputError(f"losses.{name}.{key}: {message} (given: {value!r})") from None
        if given.get("weight") == 0:
            continue
        try:
            built[name] = kind(*context, **{key: value for key, value in given.items() if key not in common})
        except TypeError as error:
            raise InputError(f"loss {name}: {error}") from None
        if reading:
            own = {key: value for key, value in given.items() if key in _READING}
            built[name].reading = reading._replace(**own)  # pyright: ignore[reportAttributeAccessIssue]
    if not built:
        raise InputError("the recipe has no losses; add at least one of: " + ", ".join(registry))
    return built


def loss_weights(recipe_losses: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Weight of each loss, 1 where none is given."""
    return {name: given.get("weight", 1.0) for name, given in recipe_losses.items()}


def check_weights(weights: Mapping[str, float], losses: Iterable[str]) -> None:
    """Raises `InputError` for a weight of a recipe that is of none of `losses`, nor of a part of one (`object.box`)."""
    known = [*losses]
    for name in weights:
        if name not in known and name.split(".")[0] not in known:
            raise unknown_name("loss in weights", name, known)


def special_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids in an encoded text that are no words."""
    return PAD_ID, tokenizer.cls_id, tokenizer.sep_id


def is_word(ids: Tensor, special: Iterable[int]) -> Tensor:
    """Which ids are words, bool of the same shape."""
    words = torch.ones_like(ids, dtype=torch.bool)
    for each in special:
        words &= ids != each
    return words


class NameClassifier(nn.Module):
    """Scores vectors against the word embeddings of names: one space for what is seen and what is said.

    A class is its name's mean word embedding, so a visual token that is recognized as a cat lies near the word "cat",
    and the transformer that follows can match the two at its first layer. A plain linear classifier here leaves that
    binding to be learned later, which was the slowest part of training (docs/log.md).

    Args:
        names: the C names. background: adds a first class without a name (id 0).
    """

    names_CW: Tensor
    words_CW: Tensor

    def __init__(self, tokenizer: Tokenizer, names: Sequence[str], width: int, background: bool = False):
        super().__init__()
        pieces = [tokenizer.pieces(name) for name in names]
        longest = max(map(len, pieces))
        padded = torch.tensor([piece + [0] * (longest - len(piece)) for piece in pieces])
        self.register_buffer("names_CW", padded, persistent=False)
        self.register_buffer("words_CW", (padded > 0).float(), persistent=False)
        self.background = nn.Parameter(torch.zeros(1, width)) if background else None
        self.bias = nn.Parameter(torch.zeros(len(names) + background))
        self.scale = nn.Parameter(torch.tensor(width**-0.5 * 2.0))

    def name_vectors(self, text: TextEmbedding) -> Tensor:
        """Mean embedding of each name's words, [C, D]."""
        vectors_CWD = text.norm(text.words(self.names_CW)) * self.words_CW[..., None]
        return vectors_CWD.sum(1) / self.words_CW.sum(1, keepdim=True)

    def forward(self, text: TextEmbedding, vectors: Tensor) -> Tensor:
        """Logits [..., C] (or [..., 1 + C]) of vectors [..., D]."""
        names_CD = self.name_vectors(text)
        if self.background is not None:
            names_CD = torch.cat([self.background, names_CD])
        return vectors @ (self.scale * names_CD).T + self.bias

    def loss(self, text: TextEmbedding, vectors_PD: Tensor, targets_P: Tensor) -> Tensor:
        """Mean cross entropy of P vectors, whose names are `targets_P`."""
        return mean(F.cross_entropy(self(text, vectors_PD).float(), targets_P, reduction="none"))


def mean(values: Tensor) -> Tensor:
    """The mean, and 0 of nothing: where a detector's boxes stand in for true ones, a whole batch may have none."""
    return values.sum() / max(1, values.numel())
