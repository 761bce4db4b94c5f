"""Preprocessing: every kind of picture a user may hold, and the resize of docs/bundle.md against Pillow."""

import io
import math
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from edgevl.errors import InputError
from edgevl.inputs.preprocess import load_image, to_pixels

RNG = np.random.default_rng(0)


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(width=13, height=9) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


# The text of docs/bundle.md, "Resize", as code. It shares nothing with Pillow.
PRECISION_BITS = 32 - 8 - 2


def weights(inner: int, outer: int) -> list[tuple[int, list[int]]]:
    scale = inner / outer
    support = max(scale, 1.0)
    rows = []
    for out in range(outer):
        center = (out + 0.5) * scale
        first = max(int(center - support + 0.5), 0)
        last = min(int(center + support + 0.5), inner)
        raw = [max(0.0, 1.0 - abs((x - center + 0.5) * (1.0 / support))) for x in range(first, last)]
        total = 0.0
        for value in raw:
            total += value
        rows.append((first, [int(0.5 + value / total * (1 << PRECISION_BITS)) for value in raw]))
    return rows


def one_pass(pixels: np.ndarray, outer: int) -> np.ndarray:
    """Resize the first axis of uint8 [N, M, 3]."""
    result = np.empty((outer, *pixels.shape[1:]), np.uint8)
    for out, (first, row) in enumerate(weights(pixels.shape[0], outer)):
        total = np.full(pixels.shape[1:], 1 << (PRECISION_BITS - 1), np.int64)
        for offset, weight in enumerate(row):
            total += pixels[first + offset].astype(np.int64) * weight
        result[out] = np.clip(total >> PRECISION_BITS, 0, 255)
    return result


def reference_resize(pixels: np.ndarray, size: int) -> np.ndarray:
    horizontal = one_pass(np.ascontiguousarray(pixels.transpose(1, 0, 2)), size).transpose(1, 0, 2)
    return one_pass(np.ascontiguousarray(horizontal), size)


SIZES = [
    (1, 1, 8),
    (1, 50, 16),
    (128, 128, 128),
    (200, 100, 128),
    (37, 301, 64),
    (3, 5, 96),
    (128, 64, 128),
    (129, 127, 128),
]
SIZES += [tuple(int(v) for v in RNG.integers(1, 260, 3)) for _ in range(24)]


@pytest.mark.parametrize("width,height,size", SIZES)
def test_the_document_is_what_pillow_does(width, height, size):
    pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if (width + height) % 3 == 0:
        pixels = (pixels // 128 * 255).astype(np.uint8)  # black and white only: the rounding's hardest case
    ours = to_pixels(load_image(pixels), size)
    assert ours.dtype == np.uint8 and ours.shape == (size, size, 3) and ours.flags.writeable
    np.testing.assert_array_equal(ours, reference_resize(pixels, size))


def test_weights_are_positive_and_sum_to_one():
    for inner, outer in [(7, 128), (500, 128), (128, 128), (3024, 128)]:
        for _, row in weights(inner, outer):
            assert min(row) >= 0 and math.isclose(sum(row), 1 << PRECISION_BITS, abs_tol=len(row))


def test_path_bytes_pillow_and_array_agree(tmp_path):
    image = picture()
    path = tmp_path / "a b ü.png"
    image.save(path)
    expected = np.asarray(image)
    for source in (path, str(path), path.read_bytes(), image, expected):
        np.testing.assert_array_equal(np.asarray(load_image(source)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = np.zeros((40, 24, 3), np.uint8)
    upright[:16, :16] = (250, 10, 10)  # red top left
    upright[-16:, -8:] = (10, 10, 250)
    back = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a), 7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]  # fmt: skip
    stored = Image.fromarray(np.ascontiguousarray(back(upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("PNG", "JPEG", "WEBP"):
        shown = load_image(encode(stored, kind, exif=exif, **({"quality": 100} if kind != "PNG" else {})))
        assert shown.size == (24, 40), kind
        assert np.abs(np.asarray(shown).astype(int) - upright).mean() < 4, kind


def test_broken_exif_is_no_orientation():
    image = picture()
    data = encode(image, "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert load_image(data).size == image.size


def test_grey_and_bilevel():
    grey = RNG.integers(0, 256, (5, 6), dtype=np.uint8)
    for source in (grey, encode(Image.fromarray(grey))):
        np.testing.assert_array_equal(np.asarray(load_image(source)), np.repeat(grey[..., None], 3, 2))
    bits = load_image(encode(Image.fromarray(grey).convert("1", dither=Image.Dither.NONE)))
    assert set(np.unique(np.asarray(bits))) == {0, 255}


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind):
    values = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], np.uint16)
    shown = np.asarray(load_image(encode(Image.fromarray(values), kind)))[0, :, 0]
    np.testing.assert_array_equal(shown, np.round(values[0] / 257))


def test_transparency_goes_on_white():
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    expected = [[10, 20, 30], [255, 255, 255], [127, 127, 127]]
    for source in (
        rgba,
        encode(Image.fromarray(rgba)),
        encode(Image.fromarray(rgba), "WEBP", lossless=True, exact=True),
    ):
        np.testing.assert_array_equal(np.asarray(load_image(source))[0], expected)
    la = Image.fromarray(rgba).convert("LA")
    assert np.asarray(load_image(encode(la)))[0, 1].tolist() == [255] * 3


def test_palette_with_and_without_transparency():
    palette = picture().quantize(8)
    np.testing.assert_array_equal(np.asarray(load_image(encode(palette))), np.asarray(palette.convert("RGB")))
    data = encode(palette, "PNG", transparency=palette.getpixel((0, 0)))
    assert np.asarray(load_image(data))[0, 0].tolist() == [255, 255, 255]


def test_color_key_transparency_of_rgb():
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    assert np.asarray(load_image(encode(image, transparency=(1, 2, 3)))).tolist() == [[[255] * 3, [9] * 3]]


def test_cmyk_and_animation(tmp_path):
    red = load_image(encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100))
    assert np.abs(np.asarray(red)[4, 4].astype(int) - (255, 0, 0)).max() < 8
    first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    data = encode(first, "GIF", save_all=True, append_images=[second], duration=10)
    assert np.asarray(load_image(data))[0, 0].tolist() == [255, 0, 0]


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


BAD_BYTES = {
    "empty": (b"", "empty"),
    "text": (b"hello, this is no picture", "not an image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "truncated png": (encode(picture(64, 64))[:900], "truncated"),
    "truncated jpeg": (encode(picture(64, 64), "JPEG")[:-700], "truncated"),
    "header only": (b"\x89PNG\r\n\x1a\n", "no header"),
    "bomb": (bomb(60_000, 60_000), "pixels"),
    "medium bomb": (bomb(10_000, 12_000), "pixels"),  # between the warning and the error of Pillow
    "float tiff": (encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "floating-point"),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_bad_bytes_are_one_clear_line(name, tmp_path):
    data, word = BAD_BYTES[name]
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(InputError, match=word) as caught:
            load_image(source)
        assert "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_bad_paths(tmp_path):
    for path, word in [
        (tmp_path / "none.png", "no file"),
        (tmp_path, "folder"),
        ("/dev/null", "regular"),
        ("a\0b", "null"),
    ]:
        with pytest.raises(InputError, match=word):
            load_image(path)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_bad_arrays(array):
    with pytest.raises(InputError, match=r"\[H,W,3\]"):
        load_image(array)


def test_to_pixels_refuses_other_modes_and_sizes():
    with pytest.raises(InputError, match="load_image"):
        to_pixels(Image.new("L", (4, 4)), 8)
    with pytest.raises(InputError, match="at least 1"):
        to_pixels(picture(), 0)
