"""TIFF: samples are unpacked and made gray or RGB here; libtiff and libjpeg do the unpacking that zlib cannot.

Shapes: N chunks, R rows, W columns, C samples.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from typing import TYPE_CHECKING, Any, Callable, Iterator

import numpy as np
from PIL import JpegImagePlugin, TiffImagePlugin

from . import colors, jpeg
from .stored import STRIP_PIXELS, PictureError, Piece, Stored, damaged, left, load
from .tiff_tags import (
    BLACK_IS_ZERO,
    CMYK,
    COLORS,
    DEFLATE,
    FAX,
    GROUP3,
    GROUP4,
    JPEG,
    NONE,
    OLD_DEFLATE,
    PALETTE,
    SIGNED,
    WHITE_IS_ZERO,
    YCBCR,
    Layout,
    read_layout,
)

if TYPE_CHECKING:
    from typing import BinaryIO

ASSOCIATED, UNASSOCIATED, COREL = 1, 2, 999  # kinds of alpha among the extra samples
REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def read(stream: BinaryIO) -> Stored:
    """Read the first picture of a TIFF."""
    layout = read_layout(stream)
    orientation = layout.orientation if 1 <= layout.orientation <= 8 else 1
    return Stored((layout.width, layout.height), pieces(layout, stream), orientation)


def pieces(layout: Layout, stream: BinaryIO) -> Iterator[Piece]:
    """Unpack as many chunks at once as make a strip, and place them: a file's strips as one block, each tile alone."""
    convert, step = converter(layout), max(1, STRIP_PIXELS // (layout.columns * layout.rows))
    for first in range(0, layout.chunks, step):
        chunks = range(first, min(first + step, layout.chunks))
        planes = [
            unpacked(layout, stream, [plane * layout.chunks + c for c in chunks]) for plane in range(layout.planes)
        ]
        for number in range(len(chunks) if layout.tiled else 1):
            top, x = (first + number) // layout.across * layout.rows, (first + number) % layout.across * layout.columns
            begin = number * layout.rows
            end = min(begin + layout.rows, begin + layout.height - top) if layout.tiled else len(planes[0])
            yield from block_pieces(layout, [plane[begin:end] for plane in planes], x, top, convert)


def block_pieces(layout: Layout, planes: list[Any], x: int, top: int, convert: Callable[[Any], Any]) -> Iterator[Piece]:
    """Take the rows of a block apart a strip at a time: that costs several times the bytes that are stored."""
    rows = max(1, STRIP_PIXELS // layout.columns)
    for y in range(0, len(planes[0]), rows):
        parts = [samples_of(layout, plane[y : y + rows]) for plane in planes]
        samples = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        yield x, top + y, convert(samples[:, : layout.width - x])


def unpacked(layout: Layout, stream: BinaryIO, chunks: list[int]) -> Any:
    """uint8 [R, bytes]: the rows of these chunks, one below the other; of a fax and a JPEG a byte is a sample."""
    heights = [layout.rows_of(chunk) for chunk in chunks]
    data = [chunk_bytes(layout, stream, chunk) for chunk in chunks]
    if layout.compression == JPEG:
        return np.concatenate([jpeg_rows(layout, chunk, height) for chunk, height in zip(data, heights)])
    if layout.compression in FAX:
        return by_libtiff(layout, data, layout.columns, sum(heights)).astype(np.uint8)
    if layout.compression in (NONE, DEFLATE, OLD_DEFLATE):
        unpack = exactly if layout.compression == NONE else inflate
        parts = [unpack(chunk, height * layout.row_bytes) for chunk, height in zip(data, heights)]
        packed = np.frombuffer(parts[0] if len(parts) == 1 else b"".join(parts), np.uint8)
        return packed.reshape(sum(heights), layout.row_bytes)
    return by_libtiff(layout, data, layout.row_bytes, sum(heights))


def samples_of(layout: Layout, packed: Any) -> Any:
    """[R, W, C] in the machine's own order, with the predictor undone, of rows of one plane."""
    each = layout.samples // layout.planes
    apart = packed if layout.compression in (JPEG, *FAX) else taken_apart(layout, packed, layout.columns * each)
    samples = apart.reshape(len(packed), layout.columns, each)
    return np.cumsum(samples, axis=1, dtype=samples.dtype) if layout.predictor == 2 else samples


def chunk_bytes(layout: Layout, stream: BinaryIO, chunk: int) -> bytes:
    stream.seek(min(int(layout.offsets[chunk]), 2**62))
    data = stream.read(min(int(layout.counts[chunk]), left(stream)))
    return data.translate(REVERSED) if layout.fill == 2 and layout.compression != JPEG else data


def exactly(data: bytes, count: int) -> bytes:
    if len(data) < count:
        raise PictureError("is truncated: a strip or tile is too short; save it again")
    return data[:count]


def inflate(data: bytes, count: int) -> bytes:
    return exactly(zlib.decompressobj().decompress(data, count), count)


def by_libtiff(layout: Layout, data: list[bytes], columns: int, rows: int) -> Any:
    """Unpack with Pillow's libtiff, as a file of these strips alone, gray of 8 bits (a fax: 1). Gives [rows, columns].

    Neither the kind of picture nor the order of bytes is left to Pillow, whose versions differ in what they know.
    """
    lengths = [len(chunk) for chunk in data]
    offsets = list(itertools.accumulate([8, *lengths[:-1]]))
    fax = layout.compression in FAX
    tags = {
        256: [columns], 257: [rows], 258: [1 if fax else 8], 259: [layout.compression], 262: [BLACK_IS_ZERO],
        273: offsets, 277: [1], 278: [layout.rows], 279: lengths,
    }  # fmt: skip
    if layout.compression in (GROUP3, GROUP4):
        tags[292 if layout.compression == GROUP3 else 293] = [layout.fax[layout.compression == GROUP4]]
    image = load(TiffImagePlugin.TiffImageFile, io.BytesIO(small_tiff(tags, b"".join(data))))
    return np.asarray(image)


def small_tiff(tags: dict[int, list[int]], data: bytes) -> bytes:
    """A little-endian TIFF of one directory, behind the data and lists of numbers of 32 bits."""
    lists, entries, place = b"", b"", 8 + len(data)
    for tag, values in sorted(tags.items()):
        value = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            lists, value = lists + value, struct.pack("<I", place + len(lists))
        entries += struct.pack("<HHI", tag, 4, len(values)) + value
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return struct.pack("<2sHI", b"II", 42, place + len(lists)) + data + lists + directory


def jpeg_rows(layout: Layout, data: bytes, height: int) -> Any:
    """[rows, W * C] of a strip or tile that is a JPEG; its tables may stand in a tag, and how it stores colors does."""
    stream = io.BytesIO(data)
    head, _, start = jpeg.segments(stream, keep=())
    jpeg.check_scans(stream, start)
    transform = 1 if layout.photometric == YCBCR else 0
    adobe = struct.pack(">HH5sHHHB", 0xFFEE, 14, b"Adobe", 100, 0, 0, transform)
    file = head[:2] + adobe + layout.tables[2:-2] + head[2:] + data[start:]
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(file))
    if image.width != layout.columns or not height <= image.height <= layout.rows:
        raise damaged("a strip or tile has another size")
    if len(image.getbands()) != layout.samples // layout.planes:
        raise damaged("a strip or tile has other samples")
    image.load()
    samples = np.asarray(image).reshape(image.height, -1)[:height]
    return 255 - samples if image.mode == "CMYK" else samples  # Pillow inverts, which is the way of whole files


def taken_apart(layout: Layout, packed: Any, count: int) -> Any:
    """[rows, bytes] to [rows, count] samples."""
    if layout.bits < 8:
        bits = np.unpackbits(packed, axis=1)[:, : count * layout.bits].reshape(len(packed), count, layout.bits)
        return np.packbits(bits, axis=2)[..., 0] >> (8 - layout.bits)
    if layout.bits == 12:
        padded = np.zeros((len(packed), (count + 1) // 2 * 3), np.uint16)
        padded[:, : packed.shape[1]] = packed
        first, middle, last = padded[:, 0::3], padded[:, 1::3], padded[:, 2::3]
        pairs = np.stack([first << 4 | middle >> 4, (middle & 15) << 8 | last], axis=2)
        return pairs.reshape(len(packed), -1)[:, :count]
    kind = {8: "1", 16: "2", 32: "4"}[layout.bits]
    stored = np.dtype(layout.order + ("i" if layout.format == SIGNED else "u") + kind)
    return np.ascontiguousarray(packed).view(stored).astype(stored.newbyteorder("="), copy=False)


def converter(layout: Layout) -> Callable[[Any], Any]:
    """Return the function from samples [h, w, C] to gray or RGB on white."""
    count = COLORS[layout.photometric]
    color, alpha = color_converter(layout), alpha_kind(layout, count)
    if not alpha:
        return lambda samples: color(samples[..., :count])
    compose = colors.premultiplied_on_white if alpha == ASSOCIATED else colors.on_white
    return lambda samples: compose(color(samples[..., :count]), to_8_bits(layout, samples[..., count]))


def alpha_kind(layout: Layout, count: int) -> int:
    """What the first sample after the color is. Without a word about it, a single one is alpha."""
    if layout.samples == count:
        return 0
    kind = layout.extra[0] if layout.extra else UNASSOCIATED if layout.samples == count + 1 else 0
    return UNASSOCIATED if kind == COREL else kind if kind in (ASSOCIATED, UNASSOCIATED) else 0


def to_8_bits(layout: Layout, samples: Any) -> Any:
    """Of 16 bits the high byte: what counts of colors and alpha."""
    if layout.bits == 8:
        return samples
    return (samples >> 8).astype(np.uint8) if layout.bits == 16 else colors.gray_table(layout.bits)[samples]


def color_converter(layout: Layout) -> Callable[[Any], Any]:
    if layout.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        return lambda samples: gray(layout, samples[..., 0])
    if layout.photometric == PALETTE:
        table = (layout.palette[: 3 * 2**layout.bits].reshape(3, -1).T >> 8).astype(np.uint8)
        return lambda samples: table[samples[..., 0]]
    if layout.photometric == CMYK:
        return lambda samples: colors.rgb_of_cmyk(to_8_bits(layout, samples))
    return lambda samples: to_8_bits(layout, samples)


def gray(layout: Layout, values: Any) -> Any:
    white = layout.photometric == WHITE_IS_ZERO
    if layout.bits > 12:
        return colors.gray_of_integers(65535 - values if white else values)
    if layout.format == SIGNED and values.min() < 0:
        raise PictureError("has integers below 0: save it with 8 or 16 bits")
    table = colors.gray_table(layout.bits)
    return (table[::-1] if white else table)[values]
