"""docs/bundle.md is enough: a reader written from it alone agrees with EdgeVL, bit for bit."""

import io
import json
import re
import subprocess
import sys
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
import second_implementation as second
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mutations_files import png
from PIL import Image

from edgevl.checkpoint import EMBEDDED
from edgevl.domain import Domain, parse_domain, picture_features
from edgevl.errors import InputError
from edgevl.preprocess import load_image, to_pixels
from edgevl.tokenizer import Tokenizer

LENGTH = 24
VOCABULARY = json.loads((EMBEDDED / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
BUDGET = settings(deadline=None, max_examples=300, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(EMBEDDED / "tokenizer.json")


def test_it_is_independent():
    """In a process of its own it loads nothing of EdgeVL, nor what EdgeVL's preprocessing is made of."""
    code = "import sys, second_implementation; print(sorted({name.split('.')[0] for name in sys.modules}))"
    folder = Path(__file__).parent
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert not set(json.loads(run.stdout.replace("'", '"'))) & {"edgevl", "tokenizers", "PIL", "torch", "transformers"}


SPLIT = pytest.param({"layout": "split"}, id="split", marks=pytest.mark.slow)
BATCH = pytest.param({"batch": 2}, id="batch", marks=pytest.mark.slow)


@pytest.mark.parametrize("options", [pytest.param({}, id="single"), SPLIT, BATCH])
def test_the_golden_cases_of_the_embedded_model(tmp_path, options):
    from edgevl.export.bundle_export import export_bundle

    bundle = second.SecondBundle(export_bundle(None, "onnx", out=tmp_path / "x.edgevl", **options))
    assert bundle.replay() == 6


def test_a_damaged_golden_case_is_noticed(bundles, tmp_path):
    """The replay can fail: other pixels, other ids, other logits."""
    import shutil

    for number, change in enumerate(("pixels_sha256", "input_ids", "logits")):
        path = shutil.copytree(bundles["onnx"], tmp_path / str(number))
        bundle = second.SecondBundle(path)
        golden = json.loads((path / "golden.json").read_text(encoding="utf-8"))
        wrong = {"pixels_sha256": "0" * 64, "input_ids": [0] * LENGTH, "logits": [0.0] * 167}
        golden["cases"][3][change] = wrong[change]
        (path / "golden.json").write_text(json.dumps(golden), encoding="utf-8")
        with pytest.raises(AssertionError):
            bundle.replay()


def same_ids(tokenizer: Tokenizer, text: str) -> None:
    try:
        expected = tokenizer.encode(text, LENGTH).tolist()
    except InputError:
        with pytest.raises(ValueError, match="without a single piece"):
            second.encode(text, VOCABULARY, LENGTH)
        return
    assert second.encode(text, VOCABULARY, LENGTH) == expected, ascii(text)


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
    same_ids(tokenizer, text)


def test_code_points_around_every_edge(tokenizer):
    """Each end of each range of the document, and its neighbors, between two letters and alone."""
    sets = (second.REMOVED, second.BLANK, second.CJK, second.MARKS, second.PUNCTUATION)
    edges = {point + step for points in sets for point in points for step in (-1, 0, 1)}
    near = {p for p in edges if 0 <= p < 0x110000 and not 0xD800 <= p < 0xE000}
    ends = [p for p in near if any((p in points) != (p + step in points) for points in sets for step in (-1, 1))]
    assert len(ends) > 1400
    for point in sorted(ends):
        same_ids(tokenizer, f"a{chr(point)}b {chr(point)} the")


@pytest.mark.slow
def test_every_code_point(tokenizer):
    for point in range(0x110000):
        if not 0xD800 <= point < 0xE000:
            same_ids(tokenizer, f"a{chr(point)}b {chr(point)} the")


def test_the_sets_are_what_the_document_says_they_are():
    """General categories of Unicode 8 are those of today for every character that Unicode 8 had, but for a few."""
    known = [point for point in second.PUNCTUATION if unicodedata.category(chr(point))[0] != "P"]
    assert {chr(point) for point in known} - set("$+<=>^`|~") <= {"\u166d", "\U000111c9"}
    assert {p for p in second.MARKS if unicodedata.category(chr(p)) != "Mn"} <= {0x1734}
    assert {unicodedata.category(chr(p)) for p in second.REMOVED - {0xFFFD}} == {"Cc", "Cf", "Co"}


@BUDGET
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.integers(0, 2**32 - 1), st.booleans())
def test_random_pictures(width, height, size, seed, hard):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels = (pixels // 128 * 255).astype(np.uint8) if hard else pixels
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    rows = second.read_picture(file.getvalue())
    assert np.array_equal(np.array(rows), pixels)
    ours = to_pixels(load_image(pixels), size)
    assert np.array_equal(np.array(second.resize(rows, size)), ours)


def test_every_filter_of_png():
    """Rows of random bytes, each said to be filtered in another way: Pillow and the second decoder undo them alike."""
    lines = [bytes([row % 5]) + np.random.default_rng(row).bytes(3 * 7) for row in range(15)]
    data = png(7, 15, zlib.compress(b"".join(lines)))
    assert np.array_equal(np.array(second.read_picture(data)), np.asarray(Image.open(io.BytesIO(data))))


DOMAIN = json.loads((EMBEDDED / "domain.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def domain() -> Domain:
    return parse_domain((EMBEDDED / "domain.json").read_text(encoding="utf-8"), DOMAIN["checkpoint_sha256"], 128)


@settings(BUDGET, max_examples=30)
@given(st.integers(8, 40), st.integers(1, 9), st.integers(0, 2**32 - 1), st.booleans())
def test_random_pictures_have_the_same_score(domain, size, side, seed, hard):
    """From single colors (`side` of 1) to noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    pixels = to_pixels(Image.fromarray((pixels // 128 * 255).astype(np.uint8) if hard else pixels), size)
    rows = [[tuple(map(int, pixel)) for pixel in row] for row in pixels]
    assert second.domain_numbers(rows) == picture_features(pixels).tolist()
    assert second.domain_score(DOMAIN, rows) == pytest.approx(domain.score(pixels), rel=1e-12)


@settings(BUDGET, max_examples=100)
@given(TEXT)
@example("is there a b or a 7?")
def test_random_questions_have_the_same_strange_words(tokenizer, text):
    try:
        tokenizer.encode(text, LENGTH)
    except InputError:
        return
    ours = tokenizer.unknown_words(text, DOMAIN["characters"])
    assert bool(ours) == bool(second.strange_words(DOMAIN, text, VOCABULARY)), ascii(text)


def test_logits_have_the_same_confidence(domain):
    for seed in range(20):
        logits = np.random.default_rng(seed).normal(0, 6, 167).astype(np.float32)
        assert second.domain_confidence(DOMAIN, logits.tolist()) == pytest.approx(domain.confidence(logits), rel=1e-9)


def test_the_document_names_every_field():
    from edgevl.golden import GoldenCase, GoldenFile
    from edgevl.manifest import LabelsSpec, Manifest, ProgramSpec, TensorSpec, TokenizerSpec

    for part in (Manifest, TensorSpec, ProgramSpec, TokenizerSpec, LabelsSpec, GoldenFile, GoldenCase, Domain):
        for field in part.model_fields:
            assert re.search(rf"`(cases\[\]\.)?{field}`", second.DOCUMENT), f"{part.__name__}.{field}"
