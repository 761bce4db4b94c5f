"""WebP: the chunks are read here; libwebp decodes one frame."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Dict, Tuple

from PIL import WebPImagePlugin

from .colors import on_white
from .exif import orientation_of
from .splice import Splice
from .stored import MAX_PIXELS_OF_LARGE, Stored, check_size, damaged, load, same, strips, take

if TYPE_CHECKING:
    from typing import BinaryIO

Chunks = Dict[bytes, Tuple[int, int]]  # the first of each kind: where its content starts, and its length
ALPHA, ANIMATION = 0x10, 0x02  # flags of VP8X


def read(stream: BinaryIO) -> Stored:
    """Read a picture, or the first frame of an animation on a transparent canvas: its background color is not used."""
    stream.seek(4)
    (length,) = struct.unpack("<I4x", take(stream, 8))
    found = chunks_of(stream, 12, min(length + 8, stream.seek(0, 2)))
    orientation = orientation_of(content(stream, found, b"EXIF"))
    if b"VP8X" not in found:
        image = decode(stream, found)
        return stored(image, image.size, True, orientation)
    extended = content(stream, found, b"VP8X")
    if len(extended) < 10:
        raise damaged("its header is short")
    flags, size = extended[0], (number(extended[4:7]) + 1, number(extended[7:10]) + 1)
    check_size(*size)
    x, y, area = 0, 0, size
    if flags & ANIMATION:
        (x, y, area), found = first_frame(stream, found)
    image = decode(stream, found)
    if image.size != area or x + area[0] > size[0] or y + area[1] > size[1]:
        raise damaged("its frame and its canvas differ")
    return stored(image, size, bool(flags & ALPHA), orientation, x, y)


def chunks_of(stream: BinaryIO, place: int, end: int) -> Chunks:
    found: Chunks = {}
    while place + 8 <= end:
        stream.seek(place)
        kind, length = struct.unpack("<4sI", take(stream, 8))
        if place + 8 + length > end:
            raise damaged(f"its chunk {kind!r} is truncated")
        found.setdefault(kind, (place + 8, length))
        place += 8 + length + length % 2
    return found


def content(stream: BinaryIO, found: Chunks, kind: bytes) -> bytes:
    place, length = found.get(kind, (0, 0))
    stream.seek(place)
    return take(stream, length)


def number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def first_frame(stream: BinaryIO, found: Chunks) -> tuple[tuple[int, int, tuple[int, int]], Chunks]:
    """((x, y, (width, height)), the chunks of the frame)"""
    place, length = found.get(b"ANMF", (0, 0))
    if length < 16:
        raise damaged("it holds no frame")
    stream.seek(place)
    head = take(stream, 16)
    x, y, right, below = (number(head[at : at + 3]) for at in (0, 3, 6, 9))
    return (2 * x, 2 * y, (right + 1, below + 1)), chunks_of(stream, place + 16, place + length)


def decode(stream: BinaryIO, found: Chunks) -> Any:
    """Decode the pixels among these chunks, as a file that holds nothing else. Returns an image of mode RGB or RGBA."""
    kind = b"VP8L" if b"VP8L" in found else b"VP8 "
    if kind not in found:
        raise damaged("it holds no pixels")
    start, length = found[kind]
    width, height = frame_size(stream, kind, start)
    check_size(width, height, MAX_PIXELS_OF_LARGE)
    head = struct.pack("<4sI", kind, length)
    if kind == b"VP8 " and b"ALPH" in found:  # alpha of a lossy picture stands in a chunk of its own
        alpha = content(stream, found, b"ALPH")
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        head = chunk(b"VP8X", struct.pack("<I", ALPHA) + sides) + chunk(b"ALPH", alpha) + head
    padded = length + length % 2
    head = struct.pack("<4sI4s", b"RIFF", 4 + len(head) + padded, b"WEBP") + head
    return load(WebPImagePlugin.WebPImageFile, Splice(head, stream, start, padded))


def frame_size(stream: BinaryIO, kind: bytes, start: int) -> tuple[int, int]:
    """Width and height in the header of the pixels; libwebp would take the memory for them at once."""
    stream.seek(start)
    if kind == b"VP8L":
        bits = int.from_bytes(take(stream, 5)[1:], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", take(stream, 10)[6:])
    return width & 0x3FFF, height & 0x3FFF


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack("<4sI", kind, len(data)) + data + bytes(len(data) % 2)


def stored(image: Any, size: tuple[int, int], alpha: bool, orientation: int, x: int = 0, y: int = 0) -> Stored:
    """`alpha`: whether the file says that its alpha counts; without it the colors alone do."""
    if image.mode == "RGB":
        whole = image if image.size == size else None
        return Stored(size, strips(image, same, x, y), orientation, whole)
    if alpha:
        return Stored(size, strips(image, lambda rgba: on_white(rgba[..., :3], rgba[..., 3]), x, y), orientation)
    return Stored(size, strips(image, lambda rgba: rgba[..., :3], x, y), orientation)
