"""WordPiece text, as BERT's: lower case, punctuation split, unknown words fall apart into letters. One JSON file.

`docs/bundle.md` gives the steps for second implementations; `tokenizers` does the work here.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from edgevl.apps.jetson.wordpiece import MAX_WORD, vocabulary_of
from edgevl.atomic import write_atomically
from edgevl.errors import EdgeVLError, InputError
from edgevl.reading import read_json

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL = (PAD, UNK, CLS, SEP, MASK)
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PUNCTUATION = ".,?!'-:;"
MAX_CHARACTERS, MAX_WORDS = 4096, 30_000  # that texts add to a vocabulary


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
        return cls._from_vocabulary({piece: i for i, piece in enumerate(dict.fromkeys([*SPECIAL, *pieces]))})

    def extended(self, texts: Iterable[str]) -> "Tokenizer":
        """Return a tokenizer that also has the words and the characters of these texts; itself if it has them all.

        What is new stands behind what was there, whose ids stay: characters first, then words, the frequent ones
        before the others, at most `MAX_CHARACTERS` and `MAX_WORDS` of them. The same texts give the same ids.
        """
        counts = Counter(word for text in texts for word in self.words(text) if len(word) <= MAX_WORD)
        alone, inside = Counter[str](), Counter[str]()
        for word, count in counts.items():
            alone.update(dict.fromkeys(word, count))
            inside.update(dict.fromkeys((f"##{c}" for c in word if len(word) > 1), count))
        characters = [*_frequent(alone, MAX_CHARACTERS), *_frequent(inside, MAX_CHARACTERS)]
        own = self.backend.get_vocab()
        known = sorted(own, key=lambda piece: own[piece])
        pieces = [*known, *characters, *_frequent(counts, MAX_WORDS)]
        vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
        return self if len(vocabulary) == len(known) else self._from_vocabulary(vocabulary)

    def words(self, text: str) -> list[str]:
        """Return the words of a text before they fall into pieces. Raises `InputError` for half a surrogate."""
        self.pieces(text)
        normal = self.backend.normalizer.normalize_str(text)
        return [word for word, _ in self.backend.pre_tokenizer.pre_tokenize_str(normal)]

    @classmethod
    def _from_vocabulary(cls, vocabulary: dict[str, int]) -> "Tokenizer":
        backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=UNK, max_input_chars_per_word=MAX_WORD))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)  # pyright: ignore[reportAttributeAccessIssue]
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
        return cls(backend)

    @classmethod
    def from_file(cls, path: Path | str) -> "Tokenizer":
        """Read a `tokenizer.json` as EdgeVL writes it; only the vocabulary may differ.

        Raises `InputError` when the file is missing, is not one, or has other settings.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"no tokenizer at {path}; expected a tokenizer.json")
        try:
            return cls._from_vocabulary(vocabulary_of(read_json(path)))
        except (EdgeVLError, ValueError) as error:
            raise InputError(f"{path} is not a tokenizer.json of EdgeVL: {error}") from None

    def save(self, path: Path | str) -> None:
        """Write a `tokenizer.json`, atomically."""
        write_atomically(Path(path), self.backend.to_str(pretty=True))

    @property
    def vocab_size(self) -> int:
        return self.backend.get_vocab_size()

    def pieces(self, text: str) -> list[int]:
        """Ids of the text alone, of any length, without [CLS] and [SEP]. Raises `InputError` for half a surrogate."""
        return pieces_of(self.backend, text)

    def is_truncated(self, text: str, length: int) -> bool:
        """Whether `encode(text, length)` would lose pieces."""
        return len(self.pieces(text)) > length - 2

    def unknown_words(self, text: str, characters: str | None = None) -> list[str]:
        """The words of `text` that are no piece of the vocabulary by themselves, in order, each once.

        They reach the model as [UNK] or in letters that it never saw together. Every letter and digit is a piece of
        every vocabulary: `characters` are those that training used as words; None takes all of them for known.
        """
        self.pieces(text)  # refuses what is no Unicode
        encoding = self.backend.encode(text, add_special_tokens=False)
        words: dict[Any, list[tuple[str, int, int]]] = {}
        for word, piece, (start, end) in zip(encoding.word_ids, encoding.tokens, encoding.offsets):
            words.setdefault(word, []).append((piece, start, end))
        unknown = [parts for parts in words.values() if not _is_known([piece for piece, *_ in parts], characters)]
        return list(dict.fromkeys(text[parts[0][1] : parts[-1][2]] for parts in unknown))

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


def _frequent(counts: Counter[str], most: int) -> list[str]:
    """The most frequent pieces, those of the same count in the order of their letters."""
    return sorted(counts, key=lambda piece: (-counts[piece], piece))[:most]


def _is_known(pieces: list[str], characters: str | None) -> bool:
    """Say if a word that fell into `pieces` is a word of the vocabulary."""
    if len(pieces) > 1 or pieces[0] == UNK:
        return False
    return characters is None or pieces[0] not in CHARACTERS or pieces[0] in characters


def pieces_of(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    """Return the ids of a text without special tokens. Raises `InputError` for half a surrogate."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # an argument of the command line that was not UTF-8
        raise InputError("the text is not valid Unicode: write it in UTF-8") from None
    return backend.encode(text, add_special_tokens=False).ids
