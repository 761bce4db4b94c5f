"""The runs of BMP, of indices of 8 and of 4 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .stored import take

if TYPE_CHECKING:
    from typing import BinaryIO

END_OF_LINE, END, DELTA = range(3)


def unpack_runs(stream: BinaryIO, width: int, height: int, nibbles: bool) -> Any:
    """Unpack to uint8 [height, width] in the order of the file. What is skipped has index 0, what leaves a row is lost.

    Raises `PictureError` where the data ends before the picture does.
    """
    indices = np.zeros((height, width), np.uint8)
    x = y = 0
    while y < height:
        count, value = take(stream, 2)
        if count:
            indices[y, x : x + count] = alternating(value, count)[: max(width - x, 0)] if nibbles else value
            x += count
        elif value == END_OF_LINE:
            x, y = 0, y + 1
        elif value == END:
            break
        elif value == DELTA:
            right, up = take(stream, 2)
            x, y = x + right, y + up
        else:
            size = (value + 1) // 2 if nibbles else value
            data = np.frombuffer(take(stream, size + size % 2)[:size], np.uint8)  # padded to 16 bits
            data = np.stack([data >> 4, data & 15], axis=1).reshape(-1)[:value] if nibbles else data
            indices[y, x : x + value] = data[: max(width - x, 0)]
            x += value
    return indices


def alternating(value: int, count: int) -> Any:
    return np.resize(np.array([value >> 4, value & 15], np.uint8), count)
