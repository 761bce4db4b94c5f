"""GIF: the blocks are read here; Pillow unpacks the indices of the first frame."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import GifImagePlugin

from .colors import on_white
from .splice import Splice
from .stored import Stored, check_size, damaged, load, looked_up, take

if TYPE_CHECKING:
    from typing import BinaryIO

EXTENSION, IMAGE, CONTROL = 0x21, 0x2C, 0xF9
GRAYS = bytes(value for index in range(256) for value in (index, index, index))


def read(stream: BinaryIO) -> Stored:
    """Read the first frame, on a canvas that is transparent where the frame is not: no background color is used."""
    width, height, flags = struct.unpack("<HHB2x", take(stream, 13)[6:])
    palette = take(stream, table_length(flags))
    transparent = to_first_frame(stream)
    left, top, columns, rows, local = struct.unpack("<HHHHB", take(stream, 9))
    palette = take(stream, table_length(local)) or palette
    check_size(columns, rows)
    size = max(width, left + columns), max(height, top + rows)
    check_size(*size)
    start = stream.tell()
    head = struct.pack("<6sHHBBB", b"GIF89a", columns, rows, 0xF7, 0, 0) + GRAYS
    head += struct.pack("<BHHHHB", IMAGE, 0, 0, columns, rows, local & 0x40)
    image = load(GifImagePlugin.GifImageFile, Splice(head, stream, start, stream.seek(0, 2) - start))
    frame = looked_up(image, table_on_white(palette, transparent))
    return Stored(size, iter([(left, top, frame)]), whole=frame if frame.size == size else None)


def table_length(flags: int) -> int:
    """Bytes of the color table that these flags announce."""
    return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0


def to_first_frame(stream: BinaryIO) -> int | None:
    """Go to the first frame. Returns the transparent index that the block before it gives."""
    transparent = None
    while True:
        kind = take(stream, 1)[0]
        if kind == IMAGE:
            return transparent
        if kind != EXTENSION:
            raise damaged("it holds no frame")
        label = take(stream, 1)[0]
        block = sub_block(stream)
        if label == CONTROL and len(block) >= 4:
            transparent = block[3] if block[0] & 1 else None
        while block:
            block = sub_block(stream)


def sub_block(stream: BinaryIO) -> bytes:
    return take(stream, take(stream, 1)[0])


def table_on_white(palette: bytes, transparent: int | None) -> Any:
    """uint8 [256, 3]. Without a color table the index is the gray; what a table does not hold is black."""
    colors, alpha = np.zeros((256, 3), np.uint8), np.full(256, 255, np.uint8)
    entries = np.frombuffer(palette or GRAYS, np.uint8).reshape(-1, 3)
    colors[: len(entries)] = entries
    if transparent is not None:
        alpha[transparent] = 0
    return on_white(colors, alpha)
