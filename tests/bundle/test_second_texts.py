"""Texts by docs/bundle.md alone, against EdgeVL: both kinds of text processing, and words that training never saw."""

import json
import unicodedata

import pytest
import second_domain
import second_texts
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgevl.errors import InputError
from edgevl.inputs.byte_bpe import START, STOP, ByteBPE
from edgevl.inputs.texts import WordPiece
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models.checkpoint import EMBEDDED

LENGTH = 24
FILE = json.loads((EMBEDDED / "tokenizer.json").read_text(encoding="utf-8"))
VOCABULARY = FILE["model"]["vocab"]
DOMAIN = json.loads((EMBEDDED / "domain.json").read_text(encoding="utf-8"))
BUDGET = settings(deadline=None, max_examples=300, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def tokenizer() -> WordPiece:
    return WordPiece.of(Tokenizer.from_file(EMBEDDED / "tokenizer.json"), LENGTH)


def same_ids(codec: WordPiece | ByteBPE, file: dict, text: str) -> None:
    processing = codec.spec.model_dump()
    try:
        expected = codec.encode(text).tolist()
    except InputError:
        with pytest.raises(ValueError, match="without a single piece"):
            second_texts.encode(text, processing, file)
        return
    assert second_texts.encode(text, processing, file) == expected, ascii(text)


# Words that the vocabulary knows, with everything that may stand between and on top of letters.
TEXT = st.lists(
    st.one_of(
        st.sampled_from(["what", "color", "is", "the", "Car", "zebra", "[MASK]", "[UNK]", "##s", "x" * 100, "x" * 101]),
        st.characters(exclude_categories=["Cs"]),
        st.characters(categories=["Mn", "P", "S", "Z", "Cc", "Cf", "Lu", "Co"]),
        st.sampled_from(list("éÅÇİKſßﬁ車한\u0301\u0345\u1734\ufffd\u2028\u00ad\t\r\n\x0b\x85 ")),
    ),
    max_size=30,
).map("".join)


@BUDGET
@given(TEXT)
@example("what color is the car?")
@example("a" * 99 + "é b")
@example("\u037e\u1fef\u212a\u212b")
@example("\U00011938a")
def test_random_questions(tokenizer, text):
    same_ids(tokenizer, FILE, text)


def test_code_points_around_every_edge(tokenizer):
    """Each end of each range of the document, and its neighbors, between two letters and alone."""
    sets = (second_texts.REMOVED, second_texts.BLANK, second_texts.CJK, second_texts.MARKS, second_texts.PUNCTUATION)
    edges = {point + step for points in sets for point in points for step in (-1, 0, 1)}
    near = {p for p in edges if 0 <= p < 0x110000 and not 0xD800 <= p < 0xE000}
    ends = [p for p in near if any((p in points) != (p + step in points) for points in sets for step in (-1, 1))]
    assert len(ends) > 1400
    for point in sorted(ends):
        same_ids(tokenizer, FILE, f"a{chr(point)}b {chr(point)} the")


@pytest.mark.slow
def test_every_code_point(tokenizer):
    for point in range(0x110000):
        if not 0xD800 <= point < 0xE000:
            same_ids(tokenizer, FILE, f"a{chr(point)}b {chr(point)} the")


def test_the_sets_are_what_the_document_says_they_are():
    """General categories of Unicode 8 are those of today for every character that Unicode 8 had, but for a few."""
    known = [point for point in second_texts.PUNCTUATION if unicodedata.category(chr(point))[0] != "P"]
    assert {chr(point) for point in known} - set("$+<=>^`|~") <= {"\u166d", "\U000111c9"}
    assert {p for p in second_texts.MARKS if unicodedata.category(chr(p)) != "Mn"} <= {0x1734}
    assert {unicodedata.category(chr(p)) for p in second_texts.REMOVED - {0xFFFD}} == {"Cc", "Cf", "Co"}


def byte_pieces() -> dict:
    """A tokenizer.json of the kind `byte-bpe`: every byte, some words, and merges that meet in them."""
    symbols = [symbol + end for end in ("", "</w>") for symbol in second_texts.SYMBOLS]
    merges = [("t", "h"), ("th", "e</w>"), ("a", "b</w>"), ("a", "b"), ("ab", "ab"), ("c", "a"), ("ca", "r</w>")]
    merges += [("Ã", "©</w>"), ("Ã", "©"), ("'", "s</w>"), ("a", "a"), ("aa", "aa"), ("1", "2</w>"), ("!", "!")]
    pieces = [*symbols, *dict.fromkeys(a + b for a, b in merges), START, STOP]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    space = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    split = {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": vocabulary[name], "content": name, **added} for name in (START, STOP)],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, space, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": None, "decoder": level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": STOP, "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": False, "vocab": vocabulary, "merges": merges,
        },
    }  # fmt: skip


BYTES = byte_pieces()


@pytest.fixture(scope="module")
def byte_codec(tmp_path_factory) -> ByteBPE:
    path = tmp_path_factory.mktemp("bytes") / "tokenizer.json"
    path.write_text(json.dumps(BYTES), encoding="utf-8")
    return ByteBPE.from_file(path, LENGTH)


BYTE_TEXT = st.lists(
    st.one_of(
        TEXT,
        st.text("abcthe12é'’!. ", max_size=12),
        st.sampled_from(["it's", "we'll'd", "!'s", "'S", START, STOP, "<|ENDOFTEXT|>", "é", "\u2028", "ab\u3000ab"]),
    ),
    max_size=5,
).map("".join)


def known(text: str) -> bool:
    """Is every character one that this Python has heard of? Others may compose and change case otherwise."""
    return all(unicodedata.category(c) != "Cn" for c in text)


@BUDGET
@given(BYTE_TEXT.filter(known))
@example("")
@example("abababab aaaaa the car's 1212 !!!")
@example("don't <|endoftext|>stop<|startoftext|>")
def test_random_texts_in_bytes(byte_codec, text):
    same_ids(byte_codec, BYTES, text)


def test_a_pad_that_is_start(byte_codec, tmp_path):
    """Padding is what the manifest says: `<|endoftext|>` for CLIP, another piece for others."""
    path = tmp_path / "tokenizer.json"
    path.write_text(byte_codec.to_text(), encoding="utf-8")
    codec = ByteBPE.from_file(path, LENGTH, START)
    assert codec.encode("the")[-1] != byte_codec.encode("the")[-1]
    same_ids(codec, json.loads(codec.to_text()), "the car")  # the file as EdgeVL writes it again


def test_letters_numbers_and_space_around_every_edge(byte_codec):
    sets = (second_texts.LETTERS, second_texts.NUMBERS, second_texts.SPACE)
    near = {point + step for points in sets for point in points for step in (-1, 0, 1)}
    ends = [p for p in near if any((p in points) != (p + step in points) for points in sets for step in (-1, 1))]
    chosen = [p for p in sorted(ends) if 0 <= p < 0x110000 and not 0xD800 <= p < 0xE000 and known(chr(p))]
    assert len(chosen) > 1400
    for point in chosen:
        same_ids(byte_codec, BYTES, f"a{chr(point)}b 1{chr(point)}!")


@pytest.mark.slow
def test_every_code_point_in_bytes(byte_codec):
    for point in range(0x110000):
        if not 0xD800 <= point < 0xE000 and known(chr(point)):
            same_ids(byte_codec, BYTES, f"a{chr(point)}b 1{chr(point)}!")


@BUDGET
@given(st.lists(st.integers(0, 453), max_size=8), st.lists(st.integers(0, len(BYTES["model"]["vocab"]) - 1)))
def test_ids_back_to_text(tokenizer, byte_codec, words, pieces):
    assert second_texts.decode(words, tokenizer.spec.model_dump(), FILE) == tokenizer.decode(words)
    assert second_texts.decode(pieces, byte_codec.spec.model_dump(), BYTES) == byte_codec.decode(pieces)


@settings(BUDGET, max_examples=100)
@given(TEXT)
@example("is there a b or a 7?")
def test_random_questions_have_the_same_strange_words(tokenizer, text):
    try:
        tokenizer.encode(text)
    except InputError:
        return
    ours = tokenizer.unknown_words(text, DOMAIN["characters"])
    assert bool(ours) == bool(second_domain.strange_words(DOMAIN, text, VOCABULARY)), ascii(text)
