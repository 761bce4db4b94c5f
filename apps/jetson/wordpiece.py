"""Text to pieces, as docs/bundle.md of EdgeVL writes it down, and what a tokenizer.json must say.

`vocabulary_of` is shared by EdgeVL, whose own steps are those of a library. Python 3.8, the standard library only.
A code point newer than Unicode 8 may be judged otherwise here than by EdgeVL, whose sets are fixed.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD_ID = 0
MAX_PIECES = 2**20
MAX_WORD = 100  # characters
# All of a tokenizer.json but the vocabulary. Other settings would be other steps than those that docs/bundle.md gives
# to apps; and the library that reads them aborts the process for some (a table of 8 GiB, padding to 10^9 tokens).
_FORMAT = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": None,
    "decoder": None,
}
_MODEL = {
    "type": "WordPiece",
    "unk_token": "[UNK]",
    "continuing_subword_prefix": "##",
    "max_input_chars_per_word": MAX_WORD,
}


def vocabulary_of(values: Any) -> dict[str, int]:
    """The vocabulary of a parsed tokenizer.json. Raises ValueError unless everything in it is as it must be."""
    if not isinstance(values, dict) or not isinstance(values.get("model"), dict):
        raise ValueError("it is no object with a model")
    model = dict(values["model"])
    vocabulary = model.pop("vocab", None)
    _compare({key: value for key, value in values.items() if key != "model"}, _FORMAT, "")
    _compare(model, _MODEL, "model.")
    if not isinstance(vocabulary, dict) or not 0 < len(vocabulary) <= MAX_PIECES:
        raise ValueError(f"model.vocab must map 1 to {MAX_PIECES:,} pieces to ids")
    ids = list(vocabulary.values())
    if not all(type(index) is int for index in ids) or sorted(ids) != list(range(len(ids))):
        raise ValueError(f"the ids of model.vocab must be the numbers from 0 to {len(ids) - 1}, each once")
    missing = [piece for piece in SPECIAL if piece not in vocabulary]
    if missing:
        raise ValueError(f"it has no {missing[0]} token; use one written by EdgeVL")
    if vocabulary[SPECIAL[0]] != PAD_ID:
        raise ValueError(
            f"{SPECIAL[0]} has id {vocabulary[SPECIAL[0]]}; it must be {PAD_ID} (the mask is made from it)"
        )
    return vocabulary


def _compare(found: dict[str, Any], wanted: dict[str, Any], where: str) -> None:
    for key in sorted(wanted.keys() | found.keys()):
        texts = [json.dumps(each[key], sort_keys=True) if key in each else "missing" for each in (found, wanted)]
        if texts[0] != texts[1]:
            raise ValueError(f"{where}{ascii(key)[1:-1][:80]} is {texts[0][:80]}, it must be {texts[1]}")


def split_words(text: str) -> list[str]:
    """Clean, part CJK, drop accents, lower, split at blanks and punctuation."""
    spaced = []
    for char in text:
        kind = unicodedata.category(char)
        if char in "\t\n\r" or kind == "Zs" or char in "\u2028\u2029":
            spaced.append(" ")
        elif kind not in ("Cc", "Cf", "Co") and char != "\ufffd":
            spaced.append(f" {char} " if _is_cjk(ord(char)) else char)
    plain = [c for c in unicodedata.normalize("NFD", "".join(spaced)) if unicodedata.category(c) != "Mn"]
    lower = "".join(c.lower() for c in plain)
    return "".join(f" {c} " if _is_punctuation(c) else c for c in lower).split(" ")


def _is_cjk(point: int) -> bool:
    blocks = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B81F),
              (0x2B920, 0x2CEAF), (0x2F800, 0x2FA1F))  # fmt: skip
    return any(low <= point <= high for low, high in blocks)


def _is_punctuation(char: str) -> bool:
    symbol = "!" <= char <= "~" and not char.isalnum()  # of ASCII, also those that Unicode calls symbols: $ + < = > ^
    return symbol or unicodedata.category(char)[0] == "P"


def word_pieces(word: str, vocabulary: dict[str, int]) -> list[int]:
    """The longest known prefix, again and again; [UNK] for the whole word if one part is unknown."""
    if len(word) > MAX_WORD:  # first: every prefix of a long one would be looked up
        return [vocabulary["[UNK]"]]
    found: list[int] = []
    start = 0
    while start < len(word):
        prefix = "##" if start else ""
        ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in vocabulary)
        end = next(ends, None)
        if end is None:
            return [vocabulary["[UNK]"]]
        found.append(vocabulary[prefix + word[start:end]])
        start = end
    return found
