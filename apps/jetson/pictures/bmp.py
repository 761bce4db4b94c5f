"""BMP: the Windows headers from version 3 on, and that of OS/2 version 1."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Callable, Iterator, NamedTuple

import numpy as np

from .colors import on_white
from .rle import unpack_runs
from .stored import STRIP_PIXELS, Piece, Stored, check_size, damaged, take

if TYPE_CHECKING:
    from typing import BinaryIO

PLAIN, RLE8, RLE4, BITFIELDS = range(4)
KINDS = {(1, PLAIN), (4, PLAIN), (8, PLAIN), (16, PLAIN), (24, PLAIN), (32, PLAIN), (8, RLE8), (4, RLE4)}
KINDS |= {(16, BITFIELDS), (24, BITFIELDS), (32, BITFIELDS)}
BGRA = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)  # what masks of 32 bits that are all zero stand for
MASKS = {16: (0x7C00, 0x03E0, 0x001F, 0), 24: (0xFF0000, 0xFF00, 0xFF, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}


class Header(NamedTuple):
    width: int
    height: int
    upwards: bool  # the last row comes first
    bits: int
    compression: int
    colors: int  # in the palette
    entry: int  # bytes of one of them
    masks: tuple[int, ...]  # of red, green, blue and alpha
    end: int  # where the header and its masks end


def read(stream: BinaryIO) -> Stored:
    """Read a BMP. Alpha counts where the header has a mask for it."""
    (offset,) = struct.unpack("<10xI", take(stream, 14))
    header = read_header(stream)
    check_size(header.width, header.height)
    palette = np.zeros((256, 3), np.uint8)
    if header.bits <= 8:
        stream.seek(header.end)
        size = header.colors * header.entry
        table = np.frombuffer(stream.read(min(size, 256 * header.entry)), np.uint8)
        table = table[: len(table) // header.entry * header.entry].reshape(-1, header.entry)
        palette[: len(table)] = table[:, 2::-1]
        if offset in (0, header.end):  # some programs forget the palette when they count
            offset = header.end + size
    stream.seek(offset or header.end)
    if header.compression in (RLE8, RLE4):
        blocks = runs(stream, header)
    else:
        blocks = rows(stream, header)
    convert = (lambda indices: palette[indices]) if header.bits <= 8 else colors_of(header)
    return Stored((header.width, header.height), pieces(blocks, header, convert))


def read_header(stream: BinaryIO) -> Header:
    (size,) = struct.unpack("<I", take(stream, 4))
    if size not in (12, 40, 52, 56, 64, 108, 124):
        raise damaged(f"a header of {size} bytes is not known")
    data = take(stream, size - 4)
    if size == 12:
        width, height, _, bits = struct.unpack("<HHHH", data)
        compression = colors = 0
    else:
        width, height, _, bits, compression, colors = struct.unpack("<iiHHI12xI", data[:32])
    if (bits, compression) not in KINDS or (size == 64 and compression == BITFIELDS):
        raise damaged(f"{bits} bits with compression {compression} are not read")
    masks, end = MASKS.get(bits, ()), 14 + size
    if compression == BITFIELDS:
        fields = data[36:52] if size > 40 else take(stream, 12)
        end += 0 if size > 40 else 12
        masks = struct.unpack("<IIII", fields.ljust(16, b"\0")) if any(fields) or bits < 32 else BGRA
    colors = colors or 2**bits
    if colors > 65536 and bits <= 8:
        raise damaged(f"a palette of {colors} colors")
    return Header(width, abs(height), height > 0, bits, compression, colors, 3 if size == 12 else 4, masks, end)


def rows(stream: BinaryIO, header: Header) -> Iterator[Any]:
    """Samples [h, w] or bytes [h, w, bits / 8], a strip at a time, in the order of the file. Rows fill 32-bit words."""
    line = (header.width * header.bits + 31) // 32 * 4
    step = max(1, STRIP_PIXELS // header.width)
    for y in range(0, header.height, step):
        count = min(step, header.height - y)
        data = np.frombuffer(take(stream, count * line), np.uint8).reshape(count, line)
        if header.bits < 8:
            bits = np.unpackbits(data, axis=1)[:, : header.width * header.bits].reshape(count, -1, header.bits)
            yield np.packbits(bits, axis=2)[..., 0] >> (8 - header.bits)
        else:
            data = data[:, : header.width * header.bits // 8]
            yield data if header.bits == 8 else data.reshape(count, header.width, -1)


def runs(stream: BinaryIO, header: Header) -> Iterator[Any]:
    """The same of a picture stored as runs, which is unpacked as a whole: a byte for each pixel."""
    indices = unpack_runs(stream, header.width, header.height, nibbles=header.compression == RLE4)
    step = max(1, STRIP_PIXELS // header.width)
    for y in range(0, header.height, step):
        yield indices[y : y + step]


def pieces(blocks: Iterator[Any], header: Header, convert: Callable[[Any], Any]) -> Iterator[Piece]:
    y = header.height if header.upwards else 0
    for block in blocks:
        y -= len(block) if header.upwards else 0
        yield 0, y, convert(block[::-1] if header.upwards else block)
        y += 0 if header.upwards else len(block)


def colors_of(header: Header) -> Callable[[Any], Any]:
    """Return the function from the bytes of pixels, [h, w, 2 to 4], to RGB [h, w, 3] on white."""
    if header.bits >= 24 and header.masks == MASKS[header.bits]:
        return lambda data: data[..., 2::-1]
    fields = [field(mask) for mask in header.masks]
    if min(top for _, top in fields[:3]) < 1:
        raise damaged("a color has no bits")

    def convert(data: Any) -> Any:
        values = sum(data[..., place].astype(np.uint32) << 8 * place for place in range(data.shape[2]))
        channels = [((values >> shift & top) * 255 // top).astype(np.uint8) for shift, top in fields if top]
        color = np.stack(channels[:3], axis=-1)
        return on_white(color, channels[3]) if len(channels) > 3 else color

    return convert


def field(mask: int) -> tuple[int, int]:
    """(how far to shift, the largest value) of a mask; its bits stand side by side."""
    shift = (mask & -mask).bit_length() - 1 if mask else 0
    top = mask >> shift
    if top & (top + 1) or top > 0xFFFF:  # 255 times the value must fit 32 bits
        raise damaged(f"a mask of {mask:#x}")
    return shift, top
