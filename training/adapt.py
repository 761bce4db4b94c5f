"""A model for other words and other answers: what it has learned stays, rows are added for what it has not.

New words start as the mean of the pieces that they fell apart into; a new head has the old rows of the answers that it
still gives, and fresh ones for the others.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from edgevl.contracts import Dataset
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import VqaModel, build_model

ROUND = 32  # rows of the word embedding: a multiple of this


class Start(NamedTuple):
    """What a training begins with."""

    model: VqaModel
    tokenizer: Tokenizer
    labels: Sequence[str]  # in the order of the logits


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
    tokenizer = start.tokenizer.extended(dataset.texts())
    if tokenizer is start.tokenizer and labels is start.labels:
        return start
    config = start.model.config
    rows = max(config.vocab_size, rounded(tokenizer.vocab_size))
    model = build_model(config.replace(vocab_size=rows, num_answers=len(labels)))
    kept = {
        name: value
        for name, value in start.model.state_dict().items()
        if name != "core.text.words.weight" and not name.startswith("head.3.")
    }
    model.load_state_dict(kept, strict=False)
    with torch.no_grad():
        copy_words(start.model.core.text.words, start.tokenizer, model.core.text.words, tokenizer)
        _copy_answers(start, model, labels)
    return Start(model, tokenizer, labels)


def rounded(words: int) -> int:
    return -(-words // ROUND) * ROUND


@torch.no_grad()
def copy_words(old: nn.Embedding, before: Tokenizer, new: nn.Embedding, after: Tokenizer) -> None:
    """Copy the rows of words; one that `before` lacks gets the mean of the pieces that it falls into there."""
    new.weight[: len(old.weight)] = old.weight
    for index in range(before.vocab_size, after.vocab_size):
        word = (after.backend.id_to_token(index) or "").removeprefix("##")
        pieces = [piece for piece in before.pieces(word) if piece != before.unk_id]
        if pieces:
            new.weight[index] = old.weight[torch.tensor(pieces)].mean(0)


def _copy_answers(start: Start, model: VqaModel, labels: Sequence[str]) -> None:
    old, new = start.model.head[-1], model.head[-1]
    assert isinstance(old, nn.Linear) and isinstance(new, nn.Linear)
    places = {label: place for place, label in enumerate(start.labels)}
    for row, label in enumerate(labels):
        if label in places:
            new.weight[row], new.bias[row] = old.weight[places[label]], old.bias[places[label]]
