"""Byte-level byte-pair encoding, as CLIP's: lower case, letters and digits apart, words end in `</w>`.

docs/bundle.md gives the steps for second implementations; `tokenizers` does the work here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from edgevl.bundle.specs import TextProcessing
from edgevl.errors import EdgeVLError, InputError
from edgevl.inputs.settings import MISSING, Anything, OneOf, check_settings
from edgevl.inputs.tokenizer import pieces_of
from edgevl.reading import read_json

START, STOP = "<|startoftext|>", "<|endoftext|>"
SUFFIX = "</w>"
MAX_PIECES = 2**20
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_SPECIAL = r"<\|startoftext\|>|<\|endoftext\|>|"  # newer files name them here, too; added tokens are taken out before
_BYTES = {"type": "ByteLevel", "add_prefix_space": Anything(), "trim_offsets": Anything(), "use_regex": Anything()}
# All of a tokenizer.json but vocabulary and merges. Other settings would be other steps than docs/bundle.md gives apps.
_FORMAT = {
    "version": "1.0",
    "truncation": Anything(),  # length and padding are the manifest's
    "padding": Anything(),
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ],
    },
    "post_processor": Anything(),  # start and stop are the manifest's
    "decoder": _BYTES,
}
_SPLIT = {
    "type": "Split",
    "behavior": "Removed",
    "invert": True,
    "pattern": {"Regex": OneOf((_WORDS, _SPECIAL + _WORDS))},
}
_MODEL = {
    "type": "BPE",
    "dropout": OneOf((None, MISSING)),
    "unk_token": STOP,
    "continuing_subword_prefix": OneOf(("", None)),
    "end_of_word_suffix": SUFFIX,
    "fuse_unk": False,
    "byte_fallback": OneOf((False, MISSING)),
    "ignore_merges": OneOf((False, MISSING)),
}


@dataclass(frozen=True)
class ByteBPE:
    """Pieces between `<|startoftext|>` and `<|endoftext|>`. The file is written with our settings, whatever it said."""

    backend: tokenizers.Tokenizer
    spec: TextProcessing

    @classmethod
    def from_file(cls, path: Path, length: int, pad: str = STOP) -> "ByteBPE":
        """Read a `tokenizer.json` of CLIP's kind, for T = `length` tokens.

        Raises `InputError` when it is missing, is not one, or has a setting that we do not declare; it is named.
        """
        if not path.is_file():
            raise InputError(f"no tokenizer at {path}; expected a tokenizer.json")
        try:
            backend = _backend(*_pieces(read_json(path)))
            spec = _spec(backend, path.name, length, pad)
        except EdgeVLError as error:
            raise InputError(f"{path} is not a tokenizer.json that can be carried over: {error}") from None
        return cls(backend, spec)

    @classmethod
    def declared(cls, path: Path, spec: TextProcessing) -> "ByteBPE":
        """Read the `tokenizer.json` of a bundle. Raises `InputError` if it does not fit what the manifest declares."""
        pad = next((name for name in (START, STOP) if spec.pad_id == _id(path, name)), STOP)
        found = cls.from_file(path, spec.length, pad)
        if found.spec.model_copy(update={"file": spec.file}) != spec:
            raise InputError(
                f"{path} has {found.spec.vocab_size} pieces and other special tokens than the manifest says"
            )
        return cls(found.backend, spec)

    def to_text(self) -> str:
        return self.backend.to_str(pretty=True)

    def encode(self, text: str) -> np.ndarray:
        """Return int32 ids [T]: start, pieces, stop, padding. A text that is too long loses its end; stop stays."""
        pieces = pieces_of(self.backend, text)[: self.spec.room]
        ids = np.full(self.spec.length, self.spec.pad_id, np.int32)
        ids[: len(pieces) + 2] = [self.spec.start_id, *pieces, self.spec.stop_id]
        return ids

    def mask(self, text: str) -> np.ndarray:
        """Return int32 [T]: 1 for start, pieces and the first stop behind them. CLIP pads with its stop token."""
        tokens = min(len(pieces_of(self.backend, text)), self.spec.room) + 2
        return (np.arange(self.spec.length) < tokens).astype(np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, lower-cased and with one blank between words; special tokens are left out."""
        special = {self.spec.start_id, self.spec.stop_id}
        text = self.backend.decode([int(index) for index in ids if int(index) not in special])
        return text.replace(SUFFIX, " ").strip(" ")

    def is_truncated(self, text: str) -> bool:
        return len(pieces_of(self.backend, text)) > self.spec.room

    def unknown_words(self, text: str, characters: str | None = None) -> list[str]:
        """Every text is made of bytes, and each of them is a piece."""
        return []


def _pieces(values: dict[str, Any]) -> tuple[dict[str, int], list[tuple[str, str]], list[dict[str, Any]]]:
    """Vocabulary, merges and added tokens of a parsed file whose settings are those that we declare."""
    model = values.get("model")
    if not isinstance(model, dict):
        raise InputError("it has no model")
    model, rest = dict(model), {key: value for key, value in values.items() if key != "model"}
    added = rest.pop("added_tokens", [])
    _check_splits(rest.pop("pre_tokenizer", None))
    vocabulary, merges = model.pop("vocab", None), model.pop("merges", None)
    check_settings(rest, _FORMAT)
    check_settings(model, _MODEL, "model.")
    if not isinstance(vocabulary, dict) or not 0 < len(vocabulary) <= MAX_PIECES:
        raise InputError(f"model.vocab must map 1 to {MAX_PIECES:,} pieces to ids")
    ids = list(vocabulary.values())
    if not all(type(index) is int for index in ids) or sorted(ids) != list(range(len(ids))):
        raise InputError(f"the ids of model.vocab must be the numbers from 0 to {len(ids) - 1}, each once")
    if lacking := [symbol for symbol in _symbols() if symbol not in vocabulary]:
        raise InputError(f"model.vocab lacks {len(lacking)} of the 512 symbols of bytes, the first is {lacking[0]!r}")
    return vocabulary, _merges(merges, vocabulary), _added(added, vocabulary)


def _symbols() -> list[str]:
    """The pieces that every text can be made of: a symbol for each byte, inside a word and at its end."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    return symbols + [symbol + SUFFIX for symbol in symbols]


def _check_splits(value: Any) -> None:
    parts = value.get("pretokenizers") if isinstance(value, dict) and value.get("type") == "Sequence" else None
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, dict) for part in parts):
        raise InputError("pre_tokenizer must be a Sequence of Split and ByteLevel")
    check_settings(parts[0], _SPLIT, "pre_tokenizer.pretokenizers.0.")
    check_settings(parts[1], _BYTES | {"add_prefix_space": False}, "pre_tokenizer.pretokenizers.1.")


def _merges(values: Any, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Older files write a pair as one text with a blank."""
    if not isinstance(values, list) or len(values) > MAX_PIECES:
        raise InputError("model.merges must be a list of pairs")
    pairs = [tuple(value.split(" ")) if isinstance(value, str) else value for value in values]
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(part, str) for part in pair) or "".join(pair) not in vocabulary:
            raise InputError(f"model.merges has a pair that makes no piece of the vocabulary: {str(pair)[:80]}")
        if not all(part in vocabulary for part in pair):
            raise InputError(f"model.merges has a pair of what are no pieces of the vocabulary: {str(pair)[:80]}")
    merges = [(str(a), str(b)) for a, b in pairs]
    if len(set(merges)) < len(merges):
        twice = next(pair for pair, count in Counter(merges).items() if count > 1)
        raise InputError(f"model.merges has the pair {str(twice)[:80]} twice: readers would differ in its rank")
    return merges


def _added(values: Any, vocabulary: dict[str, int]) -> list[dict[str, Any]]:
    """Only the two special tokens may be added, and what a text holds of them is taken as they are."""
    for number, value in enumerate(values if isinstance(values, list) else [values]):
        settings = {"content": OneOf((START, STOP)), "id": Anything(), "special": True, "single_word": False}
        settings |= {"lstrip": False, "rstrip": False, "normalized": Anything()}
        check_settings(value if isinstance(value, dict) else {"content": value}, settings, f"added_tokens.{number}.")
        if vocabulary.get(value["content"]) != value["id"]:
            raise InputError(f"added_tokens.{number}.id is {value['id']}, the vocabulary says otherwise")
    return values


def _backend(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], added: list[dict[str, Any]]
) -> tokenizers.Tokenizer:
    backend: Any = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token=STOP, end_of_word_suffix=SUFFIX))
    steps = [normalizers.NFC(), normalizers.Replace(tokenizers.Regex(r"\s+"), " "), normalizers.Lowercase()]
    backend.normalizer = normalizers.Sequence(steps)
    words = pre_tokenizers.Split(tokenizers.Regex(_WORDS), "removed", invert=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    names = [value["content"] for value in added]
    backend.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in names])
    return backend


def _spec(backend: tokenizers.Tokenizer, file: str, length: int, pad: str) -> TextProcessing:
    ids: dict[str, int] = {}
    for name in (START, STOP, pad):
        index = backend.token_to_id(name)
        if index is None:
            raise InputError(f"the vocabulary has no {name}")
        ids[name] = index
    return TextProcessing(
        kind="byte-bpe",
        file=file,
        length=length,
        vocab_size=backend.get_vocab_size(),
        pad_id=ids[pad],
        start_id=ids[START],
        stop_id=ids[STOP],
        empty="allow",
    )


def _id(path: Path, name: str) -> int | None:
    vocabulary = read_json(path).get("model", {}).get("vocab", {})
    return vocabulary.get(name) if isinstance(vocabulary, dict) else None
