"""A model for other words and other answers: what it has learned stays, rows are added for what it has not.

New words start as the mean of the pieces that they fell apart into; a new head has the old rows of the answers that it
still gives, and fresh ones for the others.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from edgevl.contracts import Dataset
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import DualEncoder
from edgevl.models.checkpoint import save_dual_encoder, save_model
from edgevl.models.core import TextEmbedding

ROUND = 32  # rows of the word embedding: a multiple of this


class Start(NamedTuple):
    """What a training begins with."""

    model: Any  # of ours, with its config
    tokenizer: Tokenizer
    labels: Sequence[str] = ()  # in the order of the logits


def labels_for(dataset: Dataset, task: str) -> Sequence[str]:
    """Return the answers of a data set. Raises `InputError` where it has none for the task."""
    if task not in dataset.labels:
        known = ", ".join(dataset.labels) or "captions only: fine-tune for retrieval"
        raise InputError(f"{dataset.name} has no answers for the task {task}; it has {known}")
    return dataset.labels[task]


def adapted(start: Start, dataset: Dataset, task: str) -> Start:
    """Return a model that reads the words of the data and gives its answers; the same one where it does already."""
    wanted = labels_for(dataset, task)
    labels = start.labels if set(wanted) <= set(start.labels) else wanted
    return with_words(start, dataset.texts(), labels)


def with_words(start: Start, texts: Iterable[str], labels: Sequence[str] | None = None) -> Start:
    """Return a model that reads the words of these texts, too, and gives these answers, where it gives any.

    Where it does already it is the same one.
    """
    tokenizer, labels = start.tokenizer.extended(texts), start.labels if labels is None else labels
    if tokenizer is start.tokenizer and labels is start.labels:
        return start
    config = start.model.config
    changes = {"vocab_size": max(config.vocab_size, rounded(tokenizer.vocab_size))}
    changes |= {"num_answers": len(labels)} if labels else {}
    model = type(start.model)(config.replace(**changes)).eval()
    table, rows = f"{_texts_of(model)[0]}.words.weight", "head.3."
    kept = {
        name: value for name, value in start.model.state_dict().items() if name != table and not name.startswith(rows)
    }
    model.load_state_dict(kept, strict=False)
    _copy_words(_texts_of(start.model)[1].words, start.tokenizer, _texts_of(model)[1].words, tokenizer)
    if labels:
        _copy_answers(start, model, labels)
    return Start(model, tokenizer, labels)


def save_start(folder: Path, start: Start) -> None:
    """Write a model folder."""
    if isinstance(start.model, DualEncoder):
        save_dual_encoder(folder, start.model, start.tokenizer)
    else:
        save_model(folder, start.model, start.tokenizer, list(start.labels))


def rounded(words: int) -> int:
    return -(-words // ROUND) * ROUND


def _texts_of(model: nn.Module) -> tuple[str, TextEmbedding]:
    """Return the text embedding of a model, with its path."""
    return next((name, each) for name, each in model.named_modules() if isinstance(each, TextEmbedding))


@torch.no_grad()
def _copy_words(old: nn.Embedding, before: Tokenizer, new: nn.Embedding, after: Tokenizer) -> None:
    """Copy the rows of words; one that `before` lacks gets the mean of the pieces that it falls into there."""
    new.weight[: len(old.weight)] = old.weight
    for index in range(before.vocab_size, after.vocab_size):
        word = (after.backend.id_to_token(index) or "").removeprefix("##")
        pieces = [piece for piece in before.pieces(word) if piece != before.unk_id]
        if pieces:
            new.weight[index] = old.weight[torch.tensor(pieces)].mean(0)


@torch.no_grad()
def _copy_answers(start: Start, model: Any, labels: Sequence[str]) -> None:
    old, new = start.model.head[-1], model.head[-1]
    places = {label: place for place, label in enumerate(start.labels)}
    for row, label in enumerate(labels):
        if label in places:
            new.weight[row], new.bias[row] = old.weight[places[label]], old.bias[places[label]]
