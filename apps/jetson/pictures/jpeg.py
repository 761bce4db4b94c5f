"""JPEG: the segments are read here; libjpeg decodes what is left when everything but the picture is taken out."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from PIL import JpegImagePlugin

from .colors import rgb_of_cmyk
from .exif import orientation_of
from .splice import Splice
from .stored import MAX_PIXELS, MAX_PIXELS_OF_LARGE, Stored, check_size, damaged, load, same, strips, take

if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from .geometry import Resized

APP0, APP1, APP14, COM, SOS, EOI = 0xE0, 0xE1, 0xEE, 0xFE, 0xDA, 0xD9
FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
ALONE = {0x01, *range(0xD0, 0xDA)}  # markers without a segment
MAX_SCANS = 100  # each goes through all pixels, in a few bytes of file; programs write about ten
BEHIND_A_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # a marker that is neither a stuffed byte nor a restart


def read(stream: BinaryIO, resized: Resized | None = None) -> Stored:
    """Read a JPEG: gray, YCbCr or RGB, and CMYK or YCCK stored inverted, as everybody stores them since Adobe.

    `resized`: see `read_picture`. libjpeg then computes each block of 8 x 8 samples as 4 x 4, 2 x 2 or one.
    """
    head, exif, start = segments(stream)
    check_scans(stream, start)
    orientation = orientation_of(exif)

    def opened(file: Any) -> Any:
        image = JpegImagePlugin.JpegImageFile(file)
        if resized:
            turned = orientation >= 5
            wanted = resized(*(image.size[::-1] if turned else image.size))
            image.draft(None, wanted[::-1] if turned else wanted)
        return image

    image = load(opened, Splice(head, stream, start, stream.seek(0, 2) - start))
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


def check_scans(stream: BinaryIO, start: int) -> None:
    """Refuse more scans than any program writes: a few kilobytes of them would keep libjpeg busy for hours."""
    stream.seek(start + 2)
    scans, marker = 0, SOS
    while marker not in (EOI, None):
        scans += marker == SOS
        if scans > MAX_SCANS:
            raise damaged(f"it has more than {MAX_SCANS} scans")
        if marker not in ALONE:
            stream.seek(max(int.from_bytes(stream.read(2), "big") - 2, 0), 1)  # never back: the file may end here
        marker = marker_behind_a_scan(stream)


def marker_behind_a_scan(stream: BinaryIO) -> int | None:
    """Go behind the next marker, past what a scan holds. None where the file ends: libjpeg says what is missing."""
    while len(block := stream.read(2**16)) > 1:
        found = BEHIND_A_SCAN.search(block)
        stream.seek((found.end() if found else len(block) - 1) - len(block), 1)
        if found:
            return found[0][1]
    return None


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
