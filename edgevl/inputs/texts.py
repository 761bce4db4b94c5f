"""Text processings: a tokenizer with the length, start, stop and padding that a manifest declares."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgevl.specs import TextProcessing
from edgevl.tokenizer import Tokenizer


@dataclass(frozen=True)
class WordPiece:
    """BERT's pieces between [CLS] and [SEP]."""

    tokenizer: Tokenizer
    spec: TextProcessing

    @classmethod
    def of(cls, tokenizer: Tokenizer, length: int, file: str = "tokenizer.json") -> "WordPiece":
        """Declare a tokenizer with T = `length`."""
        spec = TextProcessing(
            kind="wordpiece",
            file=file,
            length=length,
            vocab_size=tokenizer.vocab_size,
            pad_id=tokenizer.pad_id,
            start_id=tokenizer.cls_id,
            stop_id=tokenizer.sep_id,
        )
        return cls(tokenizer, spec)

    def encode(self, text: str) -> np.ndarray:
        """Return int32 ids [T]. Raises `InputError` for a text without a piece."""
        return self.tokenizer.encode(text, self.spec.length)

    def decode(self, ids: Sequence[int]) -> str:
        """Return words separated by blanks; special tokens are left out."""
        special = {self.spec.pad_id, self.spec.start_id, self.spec.stop_id}
        pieces = (self.tokenizer.backend.id_to_token(int(index)) for index in ids if int(index) not in special)
        return " ".join(piece for piece in pieces if piece is not None).replace(" ##", "")

    def is_truncated(self, text: str) -> bool:
        return self.tokenizer.is_truncated(text, self.spec.length)
