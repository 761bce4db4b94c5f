"""Every kind of picture in docs/bundle.md: EdgeVL against a reader written from that page, and values by hand."""

import functools
import hashlib
import io
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import second_pictures as second
from every_picture import every_picture
from made_lossy import jpeg, riff, vp8l
from PIL import Image

import edgevl.pictures
from edgevl.app.conformance.encoders import bmp, chunk, exif, gif, png, pnm, tiff
from edgevl.errors import InputError
from edgevl.inputs.preprocess import load_image

JETSON = Path(__file__).parents[2] / "apps" / "jetson"
MADE = every_picture()


@functools.cache
def expected(name: str) -> np.ndarray:
    return np.array(second.read_picture(MADE[name]), np.uint8)


def pixels(source) -> np.ndarray:
    return np.asarray(load_image(source))


@pytest.mark.parametrize("format", ["png", "tiff", "gif", "bmp", "pnm"])
def test_the_document_is_enough(format):
    names = [name for name in MADE if name.startswith(format)]
    wrong = [name for name in names if not np.array_equal(pixels(MADE[name]), expected(name))]
    assert len(names) > 40 and not wrong


def test_strips_of_rows_change_nothing(monkeypatch):
    """The same with strips of two or three rows, which these small pictures would not have."""
    for module in ("stored", "bmp", "pnm", "tiff"):
        monkeypatch.setattr(f"edgevl.pictures.{module}.STRIP_PIXELS", 31)
    monkeypatch.setattr("edgevl.pictures.pnm.BLOCK", 7)
    monkeypatch.setattr("edgevl.pictures.tiff_tags.LEAST_CHUNK", 64)
    assert not [name for name in MADE if not np.array_equal(pixels(MADE[name]), expected(name))]


# Values by hand


def row(*values: int) -> np.ndarray:
    return np.array(values)[None, :, None]


def grays(data: bytes) -> list[int]:
    """The first row of a picture whose channels are equal."""
    found = pixels(data)
    assert (found[..., :1] == found).all()
    return found[0, :, 0].tolist()


@pytest.mark.parametrize(
    ("depth", "stored", "key", "shown"),
    [
        (1, (0, 1), 0, [255, 255]),
        (2, (0, 1, 2, 3), 1, [0, 255, 170, 255]),
        (4, (0, 7, 15), 7, [0, 255, 255]),
        (8, (0, 7, 255), 7, [0, 255, 255]),
        (16, (0, 300, 65535), 300, [0, 255, 255]),
        (16, (0x8000, 0x8001, 0x0080), 0x8000, [255, 128, 0]),
    ],
)
def test_a_transparent_gray_is_compared_as_stored(depth, stored, key, shown):
    assert grays(png(row(*stored), depth, 0, transparent=key.to_bytes(2, "big"))) == shown


def test_a_transparent_color_of_16_bits_is_compared_with_both_bytes():
    stored = np.array([0x8000, 0, 0x0010, 0xFFFF, 0x8001])[None, :, None].repeat(3, axis=2)
    assert grays(png(stored, 16, 2, transparent=b"\x80\0" * 3)) == [255, 0, 0, 255, 128]


def test_rounding_of_16_bits():
    """Gray is divided by 257 and rounded; of colors the high byte counts, in every format."""
    stored = row(0x0000, 0x00FF, 0x0080, 0x0081, 0x7FFF, 0xFF7F, 0xFF00, 0xFFFF)
    gray, high = [0, 1, 0, 1, 127, 255, 254, 255], [0, 0, 0, 0, 127, 255, 255, 255]
    opaque = np.concatenate([stored, 0 * stored + 65535], axis=2)
    color = stored.repeat(3, axis=2)
    for data in (png(stored, 16, 0), png(opaque, 16, 4), tiff(stored, 16, 1), tiff(opaque, 16, 1, t338=(2,)),
                 pnm(stored, 5, 65535), pnm(stored, 2, 65535), tiff(65535 - stored, 16, 0)):  # fmt: skip
        assert grays(data) == gray
    for data in (
        png(color, 16, 2),
        tiff(color, 16, 2),
        tiff(color, 16, 2, ">"),
        pnm(color, 6, 65535),
        pnm(color, 3, 65535),
    ):
        assert grays(data) == high


@pytest.mark.parametrize(
    ("bits", "stored", "shown"),
    [
        (1, (0, 1), [255, 0]),
        (4, (0, 15, 7), [255, 0, 136]),
        (8, (0, 255, 7), [255, 0, 248]),
        (16, (0, 65535, 300), [255, 0, 254]),
    ],
)
@pytest.mark.parametrize("order", "<>")
def test_white_is_zero(bits, stored, shown, order):
    assert grays(tiff(row(*stored), bits, 0, order)) == shown


def test_a_frame_of_a_gif_lies_on_white():
    found = pixels(gif(np.zeros((2, 3, 1), int), bytes([10, 20, 30]) + bytes(range(21)), (7, 6), (3, 2)))
    assert found[2:4, 3:6].reshape(-1, 3).tolist() == [[10, 20, 30]] * 6
    assert (found == 255).all(axis=2).sum() == 6 * 7 - 6


def test_what_else_a_png_holds_means_nothing():
    """Profiles and texts of any size, an animation, XMP, broken chunks that are no part of the picture."""
    stored = np.full((3, 4, 3), [10, 20, 30])
    large = zlib.compress(bytes(3 * 2**20))
    text = b'XML:com.adobe.xmp\0\0\0\0\0<rdf:Description tiff:Orientation="6"/>'
    frames = chunk(b"acTL", bytes(8)) + chunk(b"fcTL", bytes(26))
    broken = chunk(b"tEXt", b"no end")[:-4] + b"crc?"
    for part in (chunk(b"tEXt", b"w\0" + bytes(3 * 2**20)), chunk(b"iCCP", b"p\0\0" + large),
                 chunk(b"zTXt", b"workflow\0\0" + large),
                 chunk(b"iTXt", b"w\0\1\0\0\0" + large), chunk(b"iTXt", text), frames, broken,
                 chunk(b"abCd", b"?"), chunk(b"tIME", b"")):  # fmt: skip
        for data in (png(stored, 8, 2, before=part), png(stored, 8, 2, after=part)):
            assert (pixels(data) == [10, 20, 30]).all() and pixels(data).shape == (3, 4, 3)


def test_exif_in_the_text_of_imagemagick():
    stored = np.arange(12).reshape(3, 4, 1)
    turned = np.rot90(stored, -1)[..., 0]
    text = b"Raw profile type exif\0\nexif\n      32\n" + (b"Exif\0\0" + exif(6)).hex().encode() + b"\n"
    packed = text[:22] + b"\0" + zlib.compress(text[22:])
    for part in (chunk(b"tEXt", text), chunk(b"zTXt", packed)):
        assert np.array_equal(pixels(png(stored, 8, 0, before=part))[..., 0], turned)
    both = chunk(b"tEXt", text) + chunk(b"eXIf", exif(1))
    assert np.array_equal(pixels(png(stored, 8, 0, before=both))[..., 0], stored[..., 0])
    for wrong in (text[:-9] + b"zz", text[:30], packed[:-4], b"Raw profile type exif\0"):
        assert pixels(png(stored, 8, 0, before=chunk(b"tEXt", wrong) + chunk(b"zTXt", wrong))).shape == (3, 4, 3)


def test_associated_alpha_is_not_multiplied_again():
    stored = np.array([[[100, 0, 50, 128], [0, 0, 0, 0], [10, 20, 30, 255], [255, 255, 255, 1]]])
    found = pixels(tiff(stored, 8, 2, t338=(1,)))
    assert found[0].tolist() == [[227, 127, 177], [255, 255, 255], [10, 20, 30], [255, 255, 255]]


# What is refused

SMALL = np.zeros((5, 4, 3), int)
SCANS = jpeg(np.zeros((1, 1, 1), int), progressive=True)
REFUSED = {
    "AVIF": (b"\0\0\0\x1cftypavif" + bytes(40), "AVIF"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
    "JPEG: 101 scans": (SCANS[:-2] + 100 * SCANS[SCANS.rfind(b"\xff\xda") : -2], "100 scans"),
    "PFM": (b"Pf\n2 2\n-1.0\n" + bytes(16), "not an image"),
    "PAM": (b"P7\nWIDTH 2\nHEIGHT 2\nENDHDR\n" + bytes(9), "not an image"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "PNG: checksum of pixels": (png(SMALL, 8, 2)[:-20] + b"wxyz" + png(SMALL, 8, 2)[-16:], "checksum"),
    "PNG: kind": (png(SMALL, 8, 2).replace(b"\x08\x02", b"\x04\x02", 1), "checksum"),
    "PNG: no palette": (png(SMALL[..., :1], 8, 3), "palette"),
    "PNG: palette of 4 bytes": (png(SMALL[..., :1], 8, 3, palette=b"1234"), "palette"),
    "PNG: short transparent color": (png(SMALL, 8, 2, transparent=b"\0\1"), "transparent color"),
    "PNG: half": (png(np.random.default_rng(0).integers(0, 256, (50, 50, 3)), 8, 2)[:4000], "truncated"),
    "PNG: no pixels": (png(SMALL[:, :0], 8, 2), "no pixels"),
    "GIF: half": (gif(np.random.default_rng(0).integers(0, 256, (50, 50, 1)), bytes(768))[:2000], "truncated"),
    "GIF: no frame": (b"GIF89a" + bytes([9, 0, 9, 0, 0, 0, 0]) + b";", "no frame"),
    "BMP: half": (bmp(SMALL[..., :1], 24)[:-9], "truncated"),
    "BMP: runs without an end": (bmp(SMALL[..., :1], 8, bytes(1024), compression=1, body=b"\1\1"), "truncated"),
    "BMP: JPEG inside": (bmp(SMALL[..., :1], 24, compression=4), "compression 4"),
    "BMP: mask with a hole": (bmp(SMALL[..., :1], 32, masks=(0xF0F, 0xF000, 0xF0000)), "mask"),
    "BMP: overlapping nothing": (bmp(SMALL[..., :1], 32, masks=(0, 0xF000, 0xF0000)), "no bits"),
    "PPM: half": (pnm(SMALL, 6)[:-1], "truncated"),
    "PPM: text, half": (pnm(SMALL, 3)[:-9], "truncated"),
    "PPM: letters": (pnm(SMALL, 3)[:-9] + b"a b c d e", "no number"),
    "PBM: 2": (b"P1 2 2 0 1 2 1", "neither 0 nor 1"),
    "PGM: largest value 0": (b"P5 2 2 0 " + bytes(4), "largest value"),
    "PGM: no numbers": (b"P5 2 x 255 " + bytes(4), "no numbers"),
    "TIFF: floats": (tiff(SMALL[..., :1], 32, 1, t339=(3,)), "floating-point"),
    "TIFF: half": (tiff(SMALL, 8, 2, t273=(2000,)), "truncated"),
    "TIFF: integers of 32 bits": (tiff(SMALL[..., :1] + 70_000, 32, 1), "65535"),
    "TIFF: below 0": (tiff(SMALL[..., :1] - 1, 16, 1, t339=(2,)), "65535"),
    "TIFF: below 0, 8 bits": (tiff(SMALL[..., :1] - 1, 8, 1, t339=(2,)), "below 0"),
    "TIFF: L*a*b*": (tiff(SMALL, 8, 8), "interpretation 8"),
    "TIFF: YCbCr": (tiff(SMALL, 8, 6), "interpretation 6"),
    "TIFF: RGB of 4 bits": (tiff(SMALL, 4, 2), "4 bits"),
    "TIFF: channels of different depth": (tiff(SMALL, 8, 2, t258=(8, 8, 16)), "not read"),
    "TIFF: ZSTD": (tiff(SMALL, 8, 2, t259=(50000,)), "compression 50000"),
    "TIFF: a million strips": (tiff(SMALL, 8, 2, t256=(1,), t257=(1000000,), t278=(1,)), "fewer strips"),
    "TIFF: huge strips": (tiff(SMALL, 8, 2, compression=5, t256=(9000,), t257=(9000,), t278=(9000,)), "128 MiB"),
    "TIFF: huge tiles": (tiff(SMALL, 8, 2, compression=8, tile=(16, 16), t322=(2**20,), t323=(2**20,)), "128 MiB"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_one_line(name):
    data, word = REFUSED[name]
    with pytest.raises(InputError, match=word) as caught:
        load_image(data)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2 and len(str(caught.value)) < 250


def test_pillow_reads_avif_and_edgevl_does_not(tmp_path):
    file = io.BytesIO()
    try:
        Image.new("RGB", (64, 48), (200, 30, 30)).save(file, "AVIF")
    except (KeyError, OSError):
        pytest.skip("this Pillow writes no AVIF")
    with pytest.raises(InputError, match="give a PNG"):
        load_image(file.getvalue())


# The same on a board

READ_ALL = """
import io, hashlib, json, os, sys
sys.path.insert(0, sys.argv[1])
sys.modules["edgevl"] = None
import bundle_reader
found = {}
for name in sorted(os.listdir(".")):
    try:
        image = bundle_reader.decode(open(name, "rb").read(), "it")
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        found[name] = [image.size, digest, bundle_reader.to_pixels(image, 16).tolist()[3]]
    except bundle_reader.Problem as problem:
        found[name] = [problem.exit_code, str(problem)]
sys.stdout.write(json.dumps(found))
sys.stdout.flush()
os._exit(0)  # Pillow 8 was not made for a Python of today, which falls over it in its last breath
"""


def everything() -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    lossy = {"a.jpg": jpeg(rng.integers(0, 256, (3, 4, 3))), "a.webp": riff(vp8l(rng.choice([3, 200], (5, 7, 4))))}
    files = {**lossy, **MADE, **{name: data for name, (data, _) in REFUSED.items()}}
    return {name.replace("/", " of "): data for name, data in files.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name, data in everything().items():
        (folder / name).write_bytes(data)
    return folder


def read_by_the_board(folder: Path, *path: Path) -> dict[str, list]:
    """What the board's reader makes of every file, in a process without EdgeVL; `path`: where other packages lie."""
    command = [sys.executable, "-c", READ_ALL, str(JETSON)]
    environment = {"PYTHONPATH": ":".join(map(str, path)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def read_here(folder: Path) -> dict[str, list]:
    found = {}
    for path in sorted(folder.iterdir()):
        try:
            image = load_image(path.read_bytes())
            digest = hashlib.sha256(image.tobytes()).hexdigest()
            found[path.name] = [list(image.size), digest, edgevl.pictures.squash(image, 16).tolist()[3]]
        except InputError as error:
            found[path.name] = [error.exit_code, str(error).replace("the image bytes", "it")]
    return found


def test_the_board_reads_and_refuses_the_same(folder):
    assert read_by_the_board(folder) == read_here(folder)


@pytest.mark.slow
def test_an_old_pillow_reads_the_same(folder, tmp_path):
    """The oldest Pillow that is ready-made for this Python, from the registry."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path / "old", "pillow==9.2.0"]
    subprocess.run(list(map(str, command)), check=True)
    assert read_by_the_board(folder, tmp_path / "old") == read_here(folder)
