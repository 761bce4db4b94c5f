"""Pictures by docs/bundle.md alone, against EdgeVL: every geometry and kernel, and the numbers of domain.json."""

import io
import json
import zlib

import numpy as np
import pytest
import second_domain
import second_resize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations_files import png
from PIL import Image
from second_pictures import read_picture

from edgevl.bundle.specs import ImageProcessing
from edgevl.domain import Domain, parse_domain, picture_features
from edgevl.errors import InputError
from edgevl.inputs.images import to_tensor
from edgevl.inputs.preprocess import to_pixels
from edgevl.models.checkpoint import EMBEDDED

BUDGET = settings(deadline=None, max_examples=300, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
PROCESSINGS = [
    {"geometry": geometry, "kernel": kernel}
    for geometry in second_resize.GEOMETRIES
    for kernel in second_resize.KERNELS
]


@pytest.mark.parametrize("processing", PROCESSINGS, ids=["-".join(each.values()) for each in PROCESSINGS])
@settings(BUDGET, max_examples=100)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.integers(0, 9), st.integers(0, 2**32 - 1),
    st.booleans(),
)  # fmt: skip
def test_random_pictures(processing, width, height, size, more, seed, hard):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels = (pixels // 128 * 255).astype(np.uint8) if hard else pixels
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    rows = read_picture(file.getvalue())
    assert np.array_equal(np.array(rows), pixels)
    edge = {"shortest_edge": size + more} if processing["geometry"] == "shortest-edge" and more else {}
    declared = {"size": size, **processing, **edge}
    ours = to_tensor(pixels, ImageProcessing(**declared))
    assert np.array_equal(np.array(second_resize.to_square(rows, declared)), ours)


def test_the_longest_picture_that_is_cut():
    """200 times as long as it is wide is taken, one pixel more is refused."""
    declared = {"size": 2, "geometry": "shortest-edge", "kernel": "cubic"}
    for length in (200, 201):
        pixels = np.random.default_rng(length).integers(0, 256, (length, 1, 3), dtype=np.uint8)
        rows = [[tuple(map(int, pixel)) for pixel in row] for row in pixels]
        if length == 200:
            ours = to_tensor(pixels, ImageProcessing(**declared))
            assert np.array_equal(np.array(second_resize.to_square(rows, declared)), ours)
            continue
        with pytest.raises(InputError, match="too long"):
            to_tensor(pixels, ImageProcessing(**declared))
        with pytest.raises(ValueError, match="too long"):
            second_resize.to_square(rows, declared)


def test_every_filter_of_png():
    """Rows of random bytes, each said to be filtered in another way: Pillow and the second decoder undo them alike."""
    lines = [bytes([row % 5]) + np.random.default_rng(row).bytes(3 * 7) for row in range(15)]
    data = png(7, 15, zlib.compress(b"".join(lines)))
    assert np.array_equal(np.array(read_picture(data)), np.asarray(Image.open(io.BytesIO(data))))


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
    assert second_domain.domain_numbers(rows) == picture_features(pixels).tolist()
    assert second_domain.domain_score(DOMAIN, rows) == pytest.approx(domain.score(pixels), rel=1e-12)


def test_scores_have_the_same_confidence(domain):
    for seed in range(20):
        scores = np.random.default_rng(seed).normal(0, 6, 167).astype(np.float32)
        assert second_domain.domain_confidence(DOMAIN, scores.tolist()) == pytest.approx(
            domain.confidence(scores), rel=1e-9
        )
