"""How large a picture may be, what reading it costs, and that a damaged one costs no more."""

import json
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from made_lossy import EXIF, anmf, riff, segment, vp8x, webp_chunk
from PIL import Image

from edgevl.app.conformance.encoders import chunk, exif, tiff_file
from edgevl.errors import InputError
from edgevl.inputs.preprocess import load_image, to_pixels

LIMIT, LARGE = 89_478_485, 50_331_648
GIB = 2**30
TURNED = chunk(b"eXIf", exif(6))


def zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(min(2**20, count - at))) for at in range(0, count, 2**20)) + packer.flush()


def png(width: int, height: int, depth: int, color: int, before: bytes = b"") -> bytes:
    """All samples 0; it holds a few bytes more than it needs, for what Adam7 adds."""
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    data = zeros(height * (1 + (width * bits + 7) // 8))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def webp(width: int, height: int) -> bytes:
    """Lossless pixels of one color, which take no bit each."""
    bits = f"{width - 1:014b}"[::-1] + f"{height - 1:014b}"[::-1] + "1000" + "000"
    bits += "".join("101" + f"{value:08b}"[::-1] for value in (10, 200, 30, 128)) + "1000"
    bits += "0" * (-len(bits) % 8)
    return webp_chunk(b"VP8L", b"\x2f" + bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8)))


def saved(kind: str, mode: str, side: int, **options) -> Callable[[Path], None]:
    return lambda path: Image.new(mode, (side, side), None if mode == "P" else 7).save(path, kind, **options)


def tiff16(side: int) -> bytes:
    """RGBA of 16 bits in strips that are all the same bytes."""
    strip, strips = zeros(64 * side * 8), -(-side // 64)
    entries: dict[int, tuple[int, ...]] = {
        256: (side,), 257: (side,), 258: (16,) * 4, 259: (8,), 262: (2,), 277: (4,), 278: (64,), 338: (1,),
        273: (8,) * strips, 279: (len(strip),) * strips, 274: (6,),
    }  # fmt: skip
    return tiff_file(strip, entries, "<", big=False)


def runs(side: int) -> bytes:
    """BMP whose rows are a run each."""
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, 0, 0, 0, 0, 0) + bytes(1024)
    line = b"\xff\7" * (side // 255) + bytes([side % 255, 7]) + b"\0\0"
    return struct.pack("<2sIII", b"BM", 0, 0, 1078) + header + line * side + b"\0\1"


def cmyk(path: Path, side: int) -> None:
    Image.new("CMYK", (side, side), (1, 2, 3, 4)).save(path, "JPEG", progressive=True)


def progressive(path: Path, side: int) -> None:
    block = segment(0xE1, EXIF + exif(6))[4:]
    Image.new("RGB", (side, side), (9, 90, 200)).save(path, "JPEG", progressive=True, subsampling=0, exif=block)


FRAME = anmf(webp(9, 9), (2, 2), (9, 9))

# name -> (pixels that are allowed, what writes a file with that side)
COSTLY: dict[str, tuple[int, Callable[[Path, int], object]]] = {
    "png rgba of 16 bits": (LIMIT, lambda path, side: path.write_bytes(png(side, side, 16, 6, TURNED))),
    "png rgb of 16 bits, transparent": (
        LIMIT, lambda path, side: path.write_bytes(png(side, side, 16, 2, chunk(b"tRNS", bytes(6)))),
    ),
    "png gray of 16 bits": (LIMIT, lambda path, side: path.write_bytes(png(side, side, 16, 0, TURNED))),
    "png rgb, turned": (LIMIT, lambda path, side: path.write_bytes(png(side, side, 8, 2, TURNED))),
    "png palette": (LIMIT, lambda path, side: path.write_bytes(png(side, side, 8, 3, chunk(b"PLTE", b"123")))),
    "jpeg, progressive": (LIMIT, progressive),
    "jpeg cmyk, progressive": (LARGE, cmyk),
    "webp": (LARGE, lambda path, side: path.write_bytes(riff(webp(side, side)))),
    "webp, animated": (LIMIT, lambda path, side: path.write_bytes(riff(vp8x(side, side, 0x12), FRAME))),
    "gif": (LIMIT, lambda path, side: saved("GIF", "P", side)(path)),
    "tiff rgba of 16 bits": (LIMIT, lambda path, side: path.write_bytes(tiff16(side))),
    "tiff lzw, one strip": (
        2**27 // 3,
        lambda path, side: saved("TIFF", "RGB", side, compression="tiff_lzw", tiffinfo={278: side, 317: 2})(path),
    ),
    "tiff jpeg, one strip": (
        2**27 // 3, lambda path, side: saved("TIFF", "RGB", side, compression="jpeg", tiffinfo={278: side})(path),
    ),
    "tiff fax, one strip": (
        LIMIT, lambda path, side: saved("TIFF", "1", side, compression="group4", tiffinfo={278: side})(path),
    ),
    "bmp runs": (LIMIT, lambda path, side: path.write_bytes(runs(side))),
    "ppm as text": (LIMIT, lambda path, side: path.write_bytes(b"P1 %d %d " % (side, side) + b"1" * side**2)),
}  # fmt: skip

MEASURE = """
import json, os, resource, sys
from edgevl.inputs.preprocess import load_image, to_pixels
from PIL import GifImagePlugin, Image, JpegImagePlugin, TiffImagePlugin, WebPImagePlugin
def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def cost(path):
    came, go = os.pipe()
    if not os.fork():  # the highest memory of a process never falls, so every picture gets one of its own
        before = peak()
        to_pixels(load_image(path), 128)
        os.write(go, str(peak() - before).encode())
        os._exit(0)
    os.close(go)
    return int(os.read(came, 100) or -1)
print(json.dumps({path: cost(path) for path in sys.argv[1:]}))
"""


def costs(folder: Path, share: float) -> dict[str, float]:
    """Bytes that reading takes, of pictures that have this share of the pixels that are allowed."""
    for name, (limit, write) in COSTLY.items():
        write(folder / name, int((limit * share) ** 0.5))
    paths = [str(folder / name) for name in COSTLY]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    return {Path(path).name: cost for path, cost in json.loads(done.stdout).items()}


def test_memory_grows_to_a_gib_and_no_further(tmp_path):
    """A twentieth of the pixels, and what strips take beside them. RGBA of 16 bits once took 5.2 GB at the limit."""
    found = costs(tmp_path, 0.05)
    assert min(found.values()) >= 0, found
    assert not {name: cost for name, cost in found.items() if cost > 0.05 * GIB + 48 * 2**20}


@pytest.mark.slow
def test_the_largest_pictures_take_no_more_than_a_gib(tmp_path):
    found = costs(tmp_path, 1)
    assert min(found.values()) > 0 and not {name: cost for name, cost in found.items() if cost > GIB}


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (png(1, 1_000_001, 8, 2), "a side may have at most 1,000,000"),
        (png(1_000_001, 1, 8, 2), "a side may have at most 1,000,000"),
        (png(10, 10, 8, 2).replace(b"\0\0\0\x0a\0\0\0\x0a", b"\x7f\xff\xff\xff" * 2), "checksum"),
        (riff(vp8x(1_966_104, 40, 0x12), FRAME), "a side may have at most 1,000,000"),
        (riff(vp8x(10_000, 9000, 0x12), FRAME), "at most 89,478,485"),
        (riff(webp(8193, 6144)), "at most 50,331,648"),
        (
            b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0) + b"," + bytes(4) + b"\1\0\1\0\0",
            "at most 89,478,485",
        ),
        (b"P6 10000 9000 255\n", "at most 89,478,485"),
        (b"P6 4000000000 4000000000 255\n", "at most 89,478,485"),
        (runs(9460), "at most 89,478,485"),
        (tiff16(9460), "at most 89,478,485"),
        (b"\xff\xd8" + segment(0xC0, struct.pack(">BHHB", 8, 9000, 10_000, 3) + bytes(9)), "at most 89,478,485"),
        (b"\xff\xd8" + segment(0xC2, struct.pack(">BHHB", 8, 7000, 7200, 4) + bytes(12)), "at most 50,331,648"),
    ],
)
def test_larger_ones_are_refused_before_they_are_decoded(data, word):
    with pytest.raises(InputError, match=word) as caught:
        load_image(data)
    assert caught.value.exit_code == 2


def test_a_picture_that_is_too_high_for_the_resize():
    """1 x 8 000 000 pixels were 4.4 GB: the horizontal pass makes S x height of them."""
    high = Image.new("RGB", (1, 700_000), (1, 2, 3))
    with pytest.raises(InputError, match="at most 699,050 can be resized to 128"):
        to_pixels(high, 128)
    assert (to_pixels(high, 16) == [1, 2, 3]).all()


def test_a_file_that_is_too_long(tmp_path):
    path = tmp_path / "long.png"
    path.write_bytes(png(9, 9, 8, 2))
    with path.open("r+b") as file:
        file.truncate(256 * 2**20 + 1)
    with pytest.raises(InputError, match="at most 256 are read"):
        load_image(path)


def test_damaged_pictures_are_pixels_or_one_line_within_memory():
    """3 000 of them; `picture_fuzz.py` reads as many as one likes."""
    command = [sys.executable, str(Path(__file__).parent / "picture_fuzz.py"), "7", "3000"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = re.search(r"'refused': (\d+)", done.stdout), re.search(r"'pixels': (\d+)", done.stdout)
    assert all(match and int(match[1]) > 500 for match in found), done.stdout
