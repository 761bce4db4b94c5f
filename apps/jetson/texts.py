"""Texts to token ids and back, as a manifest's `text_processing` declares. Python 3.8 and numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from problems import BAD_INPUT, REFUSED, Problem
from wordpiece import SPECIAL, split_words, vocabulary_of, word_pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

PAD, _, START, STOP, _ = SPECIAL


class WordPiece:
    """BERT's pieces between [CLS] and [SEP]."""

    def __init__(self, spec: dict[str, Any], values: Any):
        """`values`: the parsed file. Raises ValueError where it is no such tokenizer, or not the one declared."""
        self.spec, self.length = spec, spec["length"]
        self.vocabulary = vocabulary_of(values)
        found = {
            "vocab_size": len(self.vocabulary), "pad_id": self.vocabulary[PAD], "start_id": self.vocabulary[START],
            "stop_id": self.vocabulary[STOP], "empty": "refuse",
        }  # fmt: skip
        for name, own in found.items():
            said = spec.get(name, "refuse" if name == "empty" else None)
            if said != own:
                raise ValueError(f"{name} is {own}, the manifest says {said}")

    def encode(self, text: str) -> np.ndarray:
        """Return token ids int32 [T]. Raises `Problem` for a text without a single piece."""
        pieces = [index for word in split_words(text) for index in word_pieces(word, self.vocabulary)]
        if not pieces:
            raise Problem(BAD_INPUT, "the question is empty")
        framed = [self.spec["start_id"], *pieces[: self.length - 2], self.spec["stop_id"]]
        return np.array(framed + [self.spec["pad_id"]] * (self.length - len(framed)), np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        """Return words separated by blanks; special tokens are left out."""
        special = {self.spec[name] for name in ("pad_id", "start_id", "stop_id")}
        pieces = {index: piece for piece, index in self.vocabulary.items()}
        found = [pieces[index] for index in ids if index not in special and index in pieces]
        return " ".join(found).replace(" ##", "")

    def part(self, text: str, part: str) -> np.ndarray:
        """Return int32 [T]: the "ids", or their "mask", 1 for a token and 0 for padding."""
        ids = self.encode(text)
        return ids if part == "ids" else (ids != self.spec["pad_id"]).astype(np.int32)


KINDS = {"wordpiece": WordPiece}


def open_text(spec: dict[str, Any], values: Any) -> WordPiece:
    """Open a tokenizer from its parsed file. Raises `Problem` for a kind that is not read here, or another file."""
    if spec["kind"] not in KINDS:
        known = ", ".join(KINDS)
        raise Problem(REFUSED, f'the text processing "{spec["kind"]}" is not read by this script, which knows {known}')
    try:
        return KINDS[spec["kind"]](spec, values)
    except ValueError as error:
        raise Problem(REFUSED, f"{spec['file']} cannot be read as a tokenizer: {error}") from None
