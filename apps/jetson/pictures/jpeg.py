"""JPEG: the segments are read here; libjpeg decodes what is left when everything but the picture is taken out."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from PIL import JpegImagePlugin

from .colors import rgb_of_cmyk
from .exif import orientation_of
from .splice import Splice
from .stored import MAX_PIXELS, MAX_PIXELS_OF_LARGE, Stored, check_size, damaged, load, same, strips, take

if TYPE_CHECKING:
    from typing import BinaryIO

APP0, APP1, APP14, COM, SOS = 0xE0, 0xE1, 0xEE, 0xFE, 0xDA
FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
ALONE = {0x01, *range(0xD0, 0xDA)}  # markers without a segment


def read(stream: BinaryIO) -> Stored:
    """Read a JPEG: gray, YCbCr or RGB, and CMYK or YCCK stored inverted, as everybody stores them since Adobe."""
    head, exif, start = segments(stream)
    image = load(JpegImagePlugin.JpegImageFile, Splice(head, stream, start, stream.seek(0, 2) - start))
    orientation = orientation_of(exif)
    if image.mode == "RGB":
        return Stored(image.size, iter(()), orientation, image)
    return Stored(image.size, strips(image, rgb_of_cmyk if image.mode == "CMYK" else same), orientation)


def segments(stream: BinaryIO, keep: tuple[int, ...] = (APP0, APP14)) -> tuple[bytes, bytes, int]:
    """(what stands before the first scan, without what is no part of the picture; EXIF; where that scan begins).

    Of the segments for applications those of JFIF and Adobe say how colors are stored. Pillow would read more of them,
    each version others, and refuse a picture for what it finds.
    """
    kept, exif = [b"\xff\xd8"], b""
    stream.seek(2)
    while True:
        marker = next_marker(stream)
        if marker == SOS:
            return b"".join(kept), exif, stream.tell() - 2
        if marker in ALONE:
            continue
        (length,) = struct.unpack(">H", take(stream, 2))
        content = take(stream, max(length - 2, 0))
        if marker in FRAMES:
            check_frame(content)
        if marker == APP1 and content[:6] == b"Exif\0\0" and not exif:
            exif = content
        if marker in keep or not (APP0 <= marker <= 0xEF or marker == COM):
            kept.append(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content)


def next_marker(stream: BinaryIO) -> int:
    """The next marker; what lies before it is skipped, as every decoder does."""
    before = take(stream, 1)
    while True:
        value = take(stream, 1)
        if before == b"\xff" and value not in (b"\0", b"\xff"):
            return value[0]
        before = value


def check_frame(content: bytes) -> None:
    """Refuse a size before libjpeg sees it: of four components progressive decoding takes the most memory."""
    if len(content) < 6:
        raise damaged("the header of its frame is short")
    bits, height, width, components = struct.unpack(">BHHB", content[:6])
    if bits != 8 or components not in (1, 3, 4):
        raise damaged(f"{components} components of {bits} bits")
    check_size(width, height, MAX_PIXELS_OF_LARGE if components == 4 else MAX_PIXELS)
