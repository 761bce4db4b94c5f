"""Texts that go wrong in tokenizers, and a byte-level tokenizer with merges of all of them."""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import pre_tokenizers

from edgevl.inputs.byte_bpe import START, STOP

MERGES = 600
# A text, and merges of which the one that stands first there comes second.
RANKED_TEXT, RANKED_MERGES = "jqzj zqj", [("q", "z"), ("j", "q")]
LONG = 10_000  # letters

QUESTIONS = ("what color is the car?", "Is the ZEBRA left of the red cat?", "how many things are there?", "the red car")
SCRIPTS = {
    "latin": "Ça coûte 12€ — naïve façade, smørrebrød, İstanbul, straße, ﬁn",
    "vietnamese": "Con mèo nào ngồi cạnh chiếc xe đỏ?",
    "greek": "Ποιο είναι το χρώμα του αυτοκινήτου; ΣΊΣΥΦΟΣ",
    "cyrillic": "Какого цвета машина? Їжак, ЁЛКА",
    "arabic": "ما لون السيارة؟ ٱلْعَرَبِيَّةُ",
    "hebrew": "מה צבע המכונית? שָׁלוֹם",
    "hindi": "कार का रंग क्या है? क्षत्रिय",
    "bengali": "গাড়ির রঙ কী?",
    "tamil": "காரின் நிறம் என்ன?",
    "thai": "รถสีอะไร น้ำ",
    "chinese": "这辆车是什么颜色？漢字",
    "japanese": "車は何色ですか？ガギグ ｶﾞ",
    "korean": "자동차는 무슨 색인가요? \u1112\u1161\u11ab",
    "georgian": "რა ფერისაა მანქანა? ᲗᲑᲘᲚᲘᲡᲘ",
    "amharic": "መኪናው ምን ዓይነት ቀለም ነው?",
    "astral": "𝓬𝓪𝓻 𐐀𐐨 𠀀𪛖 𝟙𝟚",
}
ODD = {
    "combining": "e\u0301 é Å \u212b a\u0323\u0307 a\u0307\u0323 Z̷͎͓a̸l̶g̴o q\u0307\u0323",
    "emoji": "🚗 👩‍👩‍👧‍👦 👍🏽 🇩🇪 ❤️ 1️⃣ 🏴\U000e0067\U000e0062\U000e007f what?",
    "controls": "what\x00 col\x07or\x1b[31m \x7f is \x9b the\x85car",
    "invisible": "what\u200b co\u00adlor \u2060is\ufeff the \u200fcar\u202e?",
    "spaces": "\u00a0what\u2003color\u3000is\tthe\r\ncar\u2028now\u2029?\u1680\x0b\x0c",
    "special": f"[MASK] [CLS] [UNK] ##s {START} the {STOP}car <|ENDOFTEXT|>",
    "punctuation": "it's we'll'd don't!!! ... ?!? 'S \"x\" a-b_c/d\\e ~`^ «¿que?» 、。",
    "digits": "12 345 ٣٤ ½ ² 1e5 4.5,6 Ⅷ ①",
    "case": "ǅ ẞ ﬀ ΌΣΟΣ ŉ K Å İ ı ſ",
    "replacement": "a\ufffdb \ufffe\uffff \U0010ffff \ue000",
    "quotes": "“what’s” ‘this’ ＂full＂ ｗｉｄｅ",
    "hundred": "x" * 100 + " " + "y" * 101,
    "hundred-and-one": "y" * 101 + " the",
    "one": "a",
    "mark": "\u0301",
    "empty": "",
    "blank": " \t\n\u3000 ",
    "nothing": "\u200b\u00ad\x00",
}


def every_text() -> dict[str, str]:
    """Return name -> text."""
    questions = {f"question{number}": text for number, text in enumerate(QUESTIONS)}
    long = {
        "long": ("ab" * LONG)[:LONG],
        "long-words": "the red car " * (LONG // 12),
        "long-marks": "a" + "\u0301" * LONG,
        "long-cjk": "漢" * LONG,
    }
    return {**questions, **SCRIPTS, **ODD, "ranks": RANKED_TEXT, **long}


def byte_tokenizer(path: Path) -> None:
    """Write a `tokenizer.json` of the kind byte-bpe whose merges come from these texts."""
    symbols = [symbol + end for end in ("", "</w>") for symbol in sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = RANKED_MERGES + merges_of([*QUESTIONS, *SCRIPTS.values(), *ODD.values(), "ab" * 50, "the red car " * 5])
    pieces = dict.fromkeys([*symbols, *(a + b for a, b in merges), START, STOP])
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    path.write_text(json.dumps(settings(vocabulary, merges), ensure_ascii=False), encoding="utf-8")


def merges_of(texts: list[str]) -> list[tuple[str, str]]:
    """Return the pairs that byte-pair encoding joins, the most frequent first, of equal ones the first in order."""
    words = Counter(word for text in texts for word in words_of(text))
    splits = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < MERGES:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in splits.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        splits = {word: joined(parts, best) for word, parts in splits.items()}
    return merges


def words_of(text: str) -> list[str]:
    """Split a text into words in the symbols of bytes."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = re.findall(r"\w+|[^\s\w]+", text.lower())
    return [level.pre_tokenize_str(word)[0][0] for word in words]


def joined(parts: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def settings(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> dict[str, Any]:
    """Return a tokenizer.json with the settings of CLIP's."""
    model = {"type": "BPE", "dropout": None, "unk_token": STOP, "continuing_subword_prefix": "",
             "end_of_word_suffix": "</w>", "fuse_unk": False, "vocab": vocabulary, "merges": merges}  # fmt: skip
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    split = {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": True}
    space = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": vocabulary[name], "content": name, **flags} for name in (START, STOP)],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, space, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": None, "decoder": level, "model": model,
    }  # fmt: skip
