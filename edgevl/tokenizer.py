"""WordPiece text, as BERT's: lower case, punctuation split, unknown words fall apart into letters. One JSON file.

`docs/bundle.md` gives the steps for second implementations; `tokenizers` does the work here.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from edgevl.errors import InputError

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL = (PAD, UNK, CLS, SEP, MASK)
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PUNCTUATION = ".,?!'-:;"


class Tokenizer:
    """Text to a fixed number of token ids: [CLS] pieces [SEP] [PAD]…; [PAD] has the id 0."""

    def __init__(self, backend: tokenizers.Tokenizer):
        self.backend = backend
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (self._special_id(name) for name in SPECIAL)
        if self.pad_id != 0:
            raise InputError(
                f"the tokenizer's {PAD} has id {self.pad_id}; it must be 0 (the model derives its mask from it)"
            )

    def _special_id(self, token: str) -> int:
        index = self.backend.token_to_id(token)
        if index is None:
            raise InputError(f"the tokenizer has no {token} token; use one written by EdgeVL")
        return index

    @classmethod
    def from_words(cls, words: Iterable[str]) -> "Tokenizer":
        """A vocabulary of whole words plus every letter and digit, alone and as a continuation."""
        pieces = [*PUNCTUATION, *CHARACTERS, *(f"##{c}" for c in CHARACTERS), *sorted(set(words))]
        vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys([*SPECIAL, *pieces]))}
        backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=UNK, max_input_chars_per_word=100))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)  # pyright: ignore[reportAttributeAccessIssue]
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
        return cls(backend)

    @classmethod
    def from_file(cls, path: Path | str) -> "Tokenizer":
        """Read a `tokenizer.json`. Raises `InputError` when the file is missing or is not one."""
        if not Path(path).is_file():
            raise InputError(f"no tokenizer at {path}; expected a tokenizer.json")
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except InputError:
            raise
        except Exception as error:  # tokenizers raises bare Exception
            raise InputError(f"{path} is not a tokenizer.json: {error}") from None

    def save(self, path: Path | str) -> None:
        self.backend.save(str(path))

    @property
    def vocab_size(self) -> int:
        return self.backend.get_vocab_size()

    def pieces(self, text: str) -> list[int]:
        """Ids of the text alone, without [CLS] and [SEP], of any length."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def is_truncated(self, text: str, length: int) -> bool:
        """Whether `encode(text, length)` would lose pieces."""
        return len(self.pieces(text)) > length - 2

    def encode(self, text: str, length: int) -> np.ndarray:
        """Return int32 ids [length]. Text that is too long loses its end; [SEP] stays.

        Raises `InputError` for text without a single piece (empty, or white space only).
        """
        pieces = self.pieces(text)[: length - 2]
        if not pieces:
            raise InputError('the text is empty; ask something, for example "what color is the car?"')
        ids = np.zeros(length, np.int32)
        ids[: len(pieces) + 2] = [self.cls_id, *pieces, self.sep_id]
        return ids

    def encode_batch(self, texts: list[str], length: int) -> np.ndarray:
        """Return int32 ids [len(texts), length]."""
        return np.stack([self.encode(text, length) for text in texts])
