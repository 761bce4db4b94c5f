"""PNG: the chunks are read here; Pillow inflates the rows and undoes their filters.

Pillow gets a file of a header and the IDAT chunks only, so that no profile, text or animation matters, and with
a header that lets it return the samples as they are stored: of 16 bits it would give one byte only.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import numpy as np
from PIL import PngImagePlugin

from .colors import gray_of_16_bits, gray_table, on_white
from .exif import RAW_PROFILE, exif_of_text, orientation_of
from .splice import Splice
from .stored import Stored, check_size, damaged, load, looked_up, same, strips, take

if TYPE_CHECKING:
    from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
DEPTHS = {GRAY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GRAY_ALPHA: (8, 16), RGBA: (8, 16)}
PROFILE = RAW_PROFILE.encode() + b"\0"
MAX_TEXT = 2**20  # of EXIF written as text


class Chunks(NamedTuple):
    """What counts of a file."""

    width: int
    height: int
    depth: int
    color: int
    interlaced: int
    palette: bytes
    transparent: bytes | None
    orientation: int
    start: int  # of the first IDAT chunk
    length: int  # of all of them, headers and checksums included


def read(stream: BinaryIO) -> Stored:
    """Read a PNG. Of an animated one, the picture that readers without animation see."""
    chunks = read_chunks(stream)
    if (chunks.depth, chunks.color) == (8, RGB) and chunks.transparent is None:
        image = load(PngImagePlugin.PngImageFile, plain(chunks, stream))
        return Stored(image.size, iter(()), chunks.orientation, image)
    table, convert = None, same
    if chunks.color == PALETTE:
        table = palette_on_white(chunks)
    elif chunks.color == GRAY and chunks.depth <= 8:
        table = grays_on_white(chunks)
    else:
        convert = converter(chunks, stream)
    image = load(PngImagePlugin.PngImageFile, plain(chunks, stream))
    if table is not None:
        return Stored(image.size, iter(()), chunks.orientation, looked_up(image, table))
    return Stored(image.size, strips(image, convert), chunks.orientation)


def read_chunks(stream: BinaryIO) -> Chunks:
    """Walk through the chunks. Raises `PictureError` for what PNG does not allow, and for a wrong checksum."""
    found: dict[bytes, bytes] = {}
    start = length = 0
    place, size = len(SIGNATURE), stream.seek(0, 2)
    while place + 8 <= size:
        stream.seek(place)
        count, kind = struct.unpack(">I4s", take(stream, 8))
        before, place = place, place + count + 12
        if kind in (b"IHDR", b"PLTE", b"tRNS") and not start:
            found[kind] = checked(stream, count, kind)
        elif kind == b"IDAT" and start + length in (0, before):
            check(stream, count, kind)
            start, length = start or before, place - (start or before)
        elif kind in (b"eXIf", b"tEXt", b"zTXt"):
            note_exif(found, kind, stream.read(min(count, 2 * MAX_TEXT, size)))
        elif kind == b"IEND":
            break
    if b"IHDR" not in found or not start:
        raise damaged("it has no header" if b"IHDR" not in found else "it has no pixels")
    exif = found.get(b"eXIf", found.get(b"text", b""))
    return Chunks(*header(found), found.get(b"tRNS"), orientation_of(exif), start, length)


def checked(stream: BinaryIO, count: int, kind: bytes) -> bytes:
    """Read a short chunk and compare its checksum."""
    content = take(stream, min(count, 1024) + 4)
    if count > 1024 or struct.unpack(">I", content[-4:])[0] != zlib.crc32(kind + content[:-4]):
        raise damaged(f"the checksum of its chunk {kind.decode()} is another")
    return content[:-4]


def check(stream: BinaryIO, count: int, kind: bytes) -> None:
    """Compare the checksum of a chunk of any length."""
    checksum = zlib.crc32(kind)
    for left in range(count, 0, -(2**20)):
        checksum = zlib.crc32(take(stream, min(left, 2**20)), checksum)
    if struct.unpack(">I", take(stream, 4))[0] != checksum:
        raise damaged(f"the checksum of its chunk {kind.decode()} is another")


def note_exif(found: dict[bytes, bytes], kind: bytes, content: bytes) -> None:
    """Keep a block of EXIF: of the chunk that PNG has for it, or of the text that came before there was one."""
    if kind == b"eXIf":
        found.setdefault(kind, content)
    elif content.startswith(PROFILE):
        text = content[len(PROFILE) :]
        try:
            text = zlib.decompressobj().decompress(text[1:], MAX_TEXT) if kind == b"zTXt" else text[:MAX_TEXT]
        except zlib.error:
            return  # EXIF that cannot be read means no orientation
        found.setdefault(b"text", exif_of_text(text))


def header(found: dict[bytes, bytes]) -> tuple[int, int, int, int, int, bytes]:
    """(width, height, depth, color type, interlaced, palette)"""
    if len(found[b"IHDR"]) != 13:
        raise damaged("its header has another length")
    width, height, depth, color, method, filters, interlaced = struct.unpack(">IIBBBBB", found[b"IHDR"])
    if depth not in DEPTHS.get(color, ()) or method or filters or interlaced > 1:
        raise damaged("its header holds what PNG does not have")
    check_size(width, height)
    palette = found.get(b"PLTE", b"")
    if color == PALETTE and (not palette or len(palette) % 3 or len(palette) > 768):
        raise damaged("its palette is missing or of another length")
    return width, height, depth, color, interlaced, palette


def plain(chunks: Chunks, stream: BinaryIO) -> Splice:
    """The file that Pillow decodes: as many bits a pixel, in a color type that it returns unchanged.

    Gray and palettes of up to 8 bits become a palette, whose indices are the samples; gray of 16 bits becomes two
    channels of 8, gray with alpha four. The filters work on bytes at the distance of a pixel, so nothing else changes.
    """
    depth, color, palette = chunks.depth, chunks.color, b""
    if color in (GRAY, PALETTE) and depth <= 8:
        color, palette = PALETTE, chunk(b"PLTE", bytes(3 * 2**depth))
    elif color in (GRAY, GRAY_ALPHA) and depth == 16:
        depth, color = 8, GRAY_ALPHA if color == GRAY else RGBA
    content = struct.pack(">IIBBBBB", chunks.width, chunks.height, depth, color, 0, 0, chunks.interlaced)
    head = SIGNATURE + chunk(b"IHDR", content) + palette
    return Splice(head, stream, chunks.start, chunks.length)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def converter(chunks: Chunks, stream: BinaryIO) -> Callable[[Any], Any]:
    """Return the function from a strip of several channels, as Pillow decoded it, to gray or RGB on white."""
    depth, color = chunks.depth, chunks.color
    if color == GRAY:
        key = transparent_value(chunks, 1)
        return lambda samples: gray_of_bytes(samples, key)
    if color == RGB:
        return rgb_converter(chunks, stream)
    if (depth, color) == (16, GRAY_ALPHA):
        return lambda samples: on_white(gray_of_bytes(samples), samples[..., 2])
    if color == GRAY_ALPHA:
        return lambda samples: on_white(samples[..., 0], samples[..., 1])
    return lambda samples: on_white(samples[..., :3], samples[..., 3])


def transparent_value(chunks: Chunks, channels: int) -> tuple[int, ...] | None:
    """The gray or color that is transparent, in the file's own depth; of a value only that many bits count."""
    if chunks.transparent is None:
        return None
    if len(chunks.transparent) != 2 * channels:
        raise damaged("its transparent color has another length")
    return tuple(value % 2**chunks.depth for value in struct.unpack(f">{channels}H", chunks.transparent))


def palette_on_white(chunks: Chunks) -> Any:
    """uint8 [256, 3]: what is not in the palette is black, what is not in the list of alphas opaque."""
    colors, alpha = np.zeros((256, 3), np.uint8), np.full(256, 255, np.uint8)
    entries = np.frombuffer(chunks.palette, np.uint8).reshape(-1, 3)
    alphas = np.frombuffer((chunks.transparent or b"")[:256], np.uint8)
    colors[: len(entries)], alpha[: len(alphas)] = entries, alphas
    return on_white(colors, alpha)


def grays_on_white(chunks: Chunks) -> Any:
    """uint8 [256, 3] for gray of up to 8 bits."""
    grays, key = gray_table(chunks.depth), transparent_value(chunks, 1)
    if key:
        grays[key[0]] = 255
    return np.resize(grays, 256)[:, None].repeat(3, axis=1)


def gray_of_bytes(samples: Any, key: tuple[int, ...] | None = None) -> Any:
    """Gray of 16 bits, whose high and low byte stand in the first two channels; `key` is white."""
    values = samples[..., 0].astype(np.uint16) << 8 | samples[..., 1]
    gray = gray_of_16_bits(values)
    if key:
        gray[values == key[0]] = 255
    return gray


def rgb_converter(chunks: Chunks, stream: BinaryIO) -> Callable[[Any], Any]:
    """Of 16 bits Pillow gives the high bytes. For a transparent color the low ones are decoded first, and compared."""
    key = transparent_value(chunks, 3)
    if key is None:
        return same
    if chunks.depth == 8:
        return lambda samples: np.where((samples == key).all(-1, keepdims=True), np.uint8(255), samples)
    image = load(PngImagePlugin.PngImageFile, plain(chunks, stream), rawmode="RGB;16L")
    low = [value % 256 for value in key]
    bits = (np.packbits((strip == low).all(-1)) for _, _, strip in strips(image, same))
    masks = iter(list(bits))

    def convert(samples: Any) -> Any:
        high = [value // 256 for value in key]
        match = np.unpackbits(next(masks))[: samples[..., 0].size].reshape(samples.shape[:2]).astype(bool)
        return np.where((match & (samples == high).all(-1))[..., None], np.uint8(255), samples)

    return convert
