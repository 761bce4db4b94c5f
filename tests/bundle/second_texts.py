"""Texts to token ids, from docs/bundle.md alone: no `tokenizers`. The sets of code points are read from that page.

A processing is its entry in the manifest, which says T, the length; a file is a parsed tokenizer.json.
"""

import itertools
import re
import unicodedata
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text(encoding="utf-8")


def code_points(name: str) -> set[int]:
    """A set of the appendix."""
    found = re.search(rf"\*{name}\*\n\n```\n(.*?)```", PAGE, re.DOTALL)
    assert found, name
    ranges = [part.split("-") for part in found.group(1).split()]
    return {point for part in ranges for point in range(int(part[0], 16), int(part[-1], 16) + 1)}


REMOVED, BLANK, CJK, MARKS, PUNCTUATION = map(code_points, ("removed", "blank", "cjk", "marks", "punctuation"))
LETTERS, NUMBERS, SPACE = map(code_points, ("letters", "numbers", "white space"))


def encode(text: str, processing: dict[str, Any], file: dict[str, Any]) -> list[int]:
    """T ids. Raises ValueError for a text without a piece where the processing refuses it."""
    kinds = {"wordpiece": wordpiece, "byte-bpe": byte_bpe}
    found = kinds[processing["kind"]](text, file)
    if not found and processing.get("empty", "refuse") == "refuse":
        raise ValueError("a text without a single piece")
    start, stop = processing["start_id"], processing["stop_id"]
    before, after = [[] if token is None else [token] for token in (start, stop)]
    ids = [*before, *found[: processing["length"] - len(before) - len(after)], *after]
    return ids + [processing["pad_id"]] * (processing["length"] - len(ids))


def mask(ids: list[int], processing: dict[str, Any]) -> list[int]:
    """1 for tokens, 0 for padding: what is behind the last stop token, or where that pads, behind the first of them."""
    stop, pad = processing["stop_id"], processing["pad_id"]
    tokens = len(ids)
    while tokens and ids[tokens - 1] == pad:
        tokens -= 1
    tokens = min(len(ids), tokens + 1) if stop == pad else tokens
    return [1] * tokens + [0] * (len(ids) - tokens)


def decode(ids: list[int], processing: dict[str, Any], file: dict[str, Any]) -> str:
    """The words of token ids."""
    pieces = {index: piece for piece, index in file["model"]["vocab"].items()}
    left_out = {processing["start_id"], processing["stop_id"]}
    if processing["kind"] == "wordpiece":
        words = [pieces[index] for index in ids if index not in {*left_out, processing["pad_id"]}]
        return " ".join(words).replace(" ##", "")
    symbols = "".join(pieces[index] for index in ids if index not in left_out)
    data = bytes(SYMBOLS.index(symbol) for symbol in symbols)
    return data.decode("utf-8", "replace").replace("</w>", " ").strip(" ")


# wordpiece


def normalize(text: str) -> str:
    cleaned = "".join(" " if ord(c) in BLANK else c for c in text if ord(c) not in REMOVED)
    spaced = "".join(f" {c} " if ord(c) in CJK else c for c in cleaned)
    plain = "".join(c for c in unicodedata.normalize("NFD", spaced) if ord(c) not in MARKS)
    return "".join(c.lower() for c in plain)


def words(text: str) -> list[str]:
    spaced = "".join(f" {c} " if ord(c) in PUNCTUATION else c for c in normalize(text))
    return [word for word in spaced.split(" ") if word]


def pieces(word: str, vocabulary: dict[str, int]) -> list[int]:
    found, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in vocabulary)
        end = next(ends, None)
        if end is None or len(word) > 100:
            return [vocabulary["[UNK]"]]
        found.append(vocabulary[prefix + word[start:end]])
        start = end
    return found


def wordpiece(text: str, file: dict[str, Any]) -> list[int]:
    return [piece for word in words(text) for piece in pieces(word, file["model"]["vocab"])]


# byte-bpe


def byte_symbols() -> list[str]:
    """The symbol of each byte."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return [chr(byte) if byte in own else chr(256 + others.index(byte)) for byte in range(256)]


SYMBOLS = byte_symbols()
ENDINGS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


def kind_of(character: str) -> str:
    """Letter, number, space or other."""
    point = ord(character)
    sets = {"letter": LETTERS, "number": NUMBERS, "space": SPACE}
    return next((name for name, points in sets.items() if point in points), "other")


def runs(text: str) -> list[str]:
    """Words of byte-bpe."""
    found, at = [], 0
    while at < len(text):
        kind = kind_of(text[at])
        end = at + 1
        ending = next((each for each in ENDINGS if text.startswith(each, at)), "")
        if ending:
            end = at + len(ending)
        elif kind in ("letter", "other"):
            while end < len(text) and kind_of(text[end]) == kind:
                end += 1
        if kind != "space":
            found.append(text[at:end])
        at = end
    return found


def merged(word: str, vocabulary: dict[str, int], ranks: dict[tuple[str, str], int]) -> list[int]:
    """Merge the pair that stands first among the merges, of equal ones the leftmost, until there is none."""
    parts = [SYMBOLS[byte] for byte in word.encode("utf-8")]
    parts[-1] += "</w>"
    while True:
        pairs = [(ranks[pair], at) for at, pair in enumerate(itertools.pairwise(parts)) if pair in ranks]
        if not pairs:
            return [vocabulary.get(part, vocabulary["<|endoftext|>"]) for part in parts]
        at = min(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def byte_bpe(text: str, file: dict[str, Any]) -> list[int]:
    vocabulary = file["model"]["vocab"]
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in file["model"]["merges"])
    ranks = {(pair[0], pair[1]): rank for rank, pair in enumerate(pairs)}
    special = [each["content"] for each in file["added_tokens"]]
    parts = re.split("(" + "|".join(map(re.escape, special)) + ")", text) if special else [text]
    found = []
    for part in parts:
        if part in special:
            found.append(vocabulary[part])
        else:
            lower = "".join(c.lower() for c in unicodedata.normalize("NFC", part))
            found += [index for word in runs(lower) for index in merged(word, vocabulary, ranks)]
    return found
