"""Camera frames become the RGB pictures of the contract: the Kotlin library's arithmetic, to the last bit."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevl.inputs.preprocess import load_image
from edgevl.pictures import Frame, PictureError, frame_of, rgb_of_nv12
from edgevl.pictures.frames import COLORS, planes

KOTLIN = Path(__file__).parents[1] / "apps/android/edgevl-core/src/test/kotlin/edgevl/YuvFrameTest.kt"
SHAPES = [(1, 1), (1, 2), (2, 1), (3, 5), (5, 7), (2, 2), (64, 33), (65, 64), (97, 130)]


def contract(luma: np.ndarray, chroma: np.ndarray, colors: str) -> np.ndarray:
    """docs/bundle.md, pixel by pixel, as apps/android's YuvFrame.kt has it: integers of 16 bits behind the point."""
    red, blue, limited = COLORS[colors]
    one, scale, black = 1 << 16, 255 / 224 if limited else 1.0, 16 if limited else 0

    def fixed(value: float) -> int:
        return int(np.floor(value * one + 0.5))

    of_luma, green = fixed(255 / 219 if limited else 1.0), 1 - red - blue
    red_of_v, blue_of_u = fixed(2 * (1 - red) * scale), fixed(2 * (1 - blue) * scale)
    green_of_u, green_of_v = fixed(2 * blue * (1 - blue) / green * scale), fixed(2 * red * (1 - red) / green * scale)
    rgb = np.zeros((*luma.shape, 3), np.uint8)
    for y, x in np.ndindex(*luma.shape):
        bright = (int(luma[y, x]) - black) * of_luma + one // 2
        u, v = (int(each) - 128 for each in chroma[y // 2, x // 2])
        values = bright + v * red_of_v, bright - u * green_of_u - v * green_of_v, bright + u * blue_of_u
        rgb[y, x] = [min(max(value >> 16, 0), 255) for value in values]
    return rgb


def random_planes(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(height * 1000 + width)
    chroma = random.integers(0, 256, ((height + 1) // 2, (width + 1) // 2, 2), np.uint8)
    return random.integers(0, 256, (height, width), np.uint8), chroma


@pytest.mark.parametrize("colors", COLORS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_pixel_is_that_of_the_contract(colors, shape):
    luma, chroma = random_planes(*shape)
    assert np.array_equal(np.asarray(rgb_of_nv12(luma, chroma, colors)), contract(luma, chroma, colors))


@pytest.mark.parametrize("colors", COLORS)
def test_every_pair_of_chroma_is_right_at_the_ends_and_in_the_middle(colors):
    """All 65 536 pairs, each with four lumas of which one or more stops at 0 or 255."""
    u, v = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    chroma = np.stack([u, v], axis=-1)
    luma = np.tile(np.array([[0, 77], [180, 255]], np.uint8), (256, 256))
    own = np.asarray(rgb_of_nv12(luma, chroma, colors)).astype(np.int64)
    rows = [0, 101, 256, 510]
    assert np.array_equal(own[rows], contract_rows(luma, chroma, colors, rows))
    red, blue, limited = COLORS[colors]
    bright, scale = ((luma - 16.0) * 255 / 219, 255 / 224) if limited else (luma.astype(float), 1.0)
    pb, pr = (((chroma[..., k] - 128.0) * scale).repeat(2, 0).repeat(2, 1) for k in (0, 1))
    r, b = bright + 2 * (1 - red) * pr, bright + 2 * (1 - blue) * pb
    exact = np.stack([r, (bright - red * r - blue * b) / (1 - red - blue), b], axis=-1).clip(0, 255)
    assert np.abs(own - exact).max() < 0.51


def contract_rows(luma: np.ndarray, chroma: np.ndarray, colors: str, rows: list[int]) -> np.ndarray:
    return np.concatenate([contract(luma[row : row + 1], chroma[row // 2 :], colors) for row in rows])


def test_the_kotlin_library_computes_the_same_bits():
    """Digests of one frame in each standard, which apps/android's YuvFrameTest holds its own pixels to."""
    y, x = np.mgrid[:77, :101]
    row, column = np.mgrid[:39, :51]
    luma = (37 * x + 101 * y).astype(np.uint8)
    chroma = np.stack([53 * column + 29 * row, 17 * column + 71 * row + 5], axis=-1).astype(np.uint8)
    kotlin = KOTLIN.read_text(encoding="utf-8")
    for colors in COLORS:
        digest = hashlib.sha256(np.asarray(rgb_of_nv12(luma, chroma, colors)).tobytes()).hexdigest()[:16]
        assert f'YuvColors.{colors.upper().replace("-", "_")} to "{digest}"' in kotlin


def test_rows_may_have_padding_between_them():
    """As those of cameras do: a view of a larger buffer."""
    luma, chroma = random_planes(10, 12)
    padded, colored = np.zeros((10, 20), np.uint8), np.zeros((5, 9, 2), np.uint8)
    padded[:, :12], colored[:, :6] = luma, chroma
    found = rgb_of_nv12(padded[:, :12], colored[:, :6])
    assert np.array_equal(np.asarray(found), np.asarray(rgb_of_nv12(luma, chroma)))


@pytest.mark.parametrize("kind", ["nv12", "rgb"])
def test_a_frame_is_a_picture_like_any_other(kind):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8))
    frame = frame_of(picture, kind, 41, 27)
    found = frame.picture()
    assert (found.mode, found.size) == ("RGB", (41, 27)) and load_image(found).size == (41, 27)
    sized = np.asarray(picture.resize((41, 27), Image.Resampling.BILINEAR)).astype(int)
    if kind == "rgb":
        assert np.array_equal(np.asarray(found), sized)
    else:
        luma, chroma = planes(frame)
        assert np.array_equal(np.asarray(found), contract(luma, chroma, "bt601-full"))
        assert np.abs(np.asarray(found.convert("L")).astype(int) - luma).mean() < 3  # chroma is shared by four


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (Frame("nv21", 2, 2, b""), 'a frame of the kind "nv21": nv12 or rgb'),
        (Frame("nv12", 2, 2, b"1234567"), "2x2 in nv12 of 7 bytes, it must have 6"),
        (Frame("rgb", 2, 2, b""), "2x2 in rgb of 0 bytes, it must have 12"),
        (Frame("rgb", 0, 2, b""), "no pixels"),
        (Frame("nv12", 2, 2, bytes(6), "bt2020"), 'the colors "bt2020": bt601-full, bt601-limited, bt709-full'),
    ],
)
def test_a_frame_that_is_none_is_refused(frame, problem):
    with pytest.raises(PictureError, match=problem):
        frame.picture()
