"""PBM, PGM and PPM, as text (P1 to P3) and as bytes (P4 to P6)."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, Iterator

import numpy as np

from .colors import gray_of_16_bits
from .stored import STRIP_PIXELS, PictureError, Piece, Stored, check_size, damaged, take

if TYPE_CHECKING:
    from typing import BinaryIO

HEADER = 2**16  # within this many bytes a header ends, its comments included
BLOCK = 2**20
TOKEN = re.compile(rb"(?:[ \t-\r]+|#[^\r\n]*[\r\n])*(\d{1,10})[ \t-\r]")


def read(stream: BinaryIO) -> Stored:
    """Read the first picture of a file."""
    start = take(stream, 2)
    stream.seek(0)
    kind, begin = int(start[1:]), stream.read(HEADER)
    place, numbers = 2, []
    for _ in range(2 if kind in (1, 4) else 3):
        token = TOKEN.match(begin, place)
        if token is None:
            raise damaged("its header holds no numbers")
        numbers.append(int(token[1]))
        place = token.end()
    width, height, top = (*numbers, 1)[:3]
    check_size(width, height)
    if not 0 < top < 65536:
        raise damaged(f"its largest value is {top}, from 1 to 65535 is possible")
    stream.seek(place)
    channels = 3 if kind in (3, 6) else 1
    rows = max(1, STRIP_PIXELS // width)
    blocks = (text_samples if kind < 4 else byte_samples)(stream, kind, (height, width, channels), top, rows)
    return Stored((width, height), pieces(blocks, top, bitmap=kind in (1, 4)))


def pieces(blocks: Iterator[Any], top: int, bitmap: bool) -> Iterator[Piece]:
    y = 0
    for samples in blocks:
        if bitmap:
            values = np.where(samples, np.uint8(0), np.uint8(255))  # 1 is black
        else:
            values = scaled(samples, top)
        yield 0, y, values if values.shape[2] == 3 else values[..., 0]
        y += len(samples)


def scaled(samples: Any, top: int) -> Any:
    """[h, w, c] of up to `top` to 8 bits: by a table, since a sample has at most 65536 values.

    Gray of more than 8 bits goes through 16 bits; of colors of 16 bits the high byte counts.
    """
    if top == 255 and samples.dtype == np.uint8:
        return samples
    if top == 65535 and samples.shape[2] == 3:
        return (samples >> 8).astype(np.uint8)
    values = np.arange(top + 1)
    if top > 255 and samples.shape[2] == 1:
        table = gray_of_16_bits(np.rint(values / top * 65535))
    else:
        table = np.rint(values / top * 255).astype(np.uint8)
    return table[np.minimum(samples, top)]


def byte_samples(stream: BinaryIO, kind: int, shape: tuple[int, int, int], top: int, rows: int) -> Iterator[Any]:
    height, width, channels = shape
    size = 1 if top < 256 else 2
    line = (width + 7) // 8 if kind == 4 else width * channels * size
    for y in range(0, height, rows):
        count = min(rows, height - y)
        data = np.frombuffer(take(stream, count * line), np.uint8 if size == 1 else ">u2").reshape(count, -1)
        data = np.unpackbits(data, axis=1)[:, :width] if kind == 4 else data
        yield data.reshape(count, width, channels)


def text_samples(stream: BinaryIO, kind: int, shape: tuple[int, int, int], top: int, rows: int) -> Iterator[Any]:
    height, width, channels = shape
    numbers = bits_of_text(stream) if kind == 1 else numbers_of_text(stream)
    waiting = np.zeros(0, np.uint16)
    for y in range(0, height, rows):
        count = min(rows, height - y)
        while waiting.size < count * width * channels:
            more = next(numbers, None)
            if more is None:
                raise PictureError("is truncated: values are missing; save it again")
            waiting = np.concatenate([waiting, more])
        used, waiting = np.split(waiting, [count * width * channels])
        yield used.reshape(count, width, channels)


def text_blocks(stream: BinaryIO) -> Iterator[bytes]:
    """The text without its comments, in blocks."""
    comment = False
    while True:
        block = stream.read(BLOCK)
        if not block:
            return
        block = re.sub(rb"#[^\r\n]*(?=[\r\n])", b"", b"#" + block if comment else block)
        text, hash_sign, _ = block.partition(b"#")  # the comment that the block's end cuts off
        comment = bool(hash_sign)
        yield text


def numbers_of_text(stream: BinaryIO) -> Iterator[Any]:
    """What is no number matters only if the picture needs it: another picture may follow."""
    rest = b""
    for text in itertools.chain(text_blocks(stream), [b" "]):
        *tokens, rest = re.split(rb"[ \t-\r]+", rest + text)  # the last one may go on in the next block
        tokens = [token for token in tokens if token]
        right = [len(token) <= 10 and token.isdigit() for token in tokens]
        good = tokens if all(right) else tokens[: right.index(False)]
        yield np.minimum(np.array([int(token) for token in good], np.int64), 65535).astype(np.uint16)
        if len(good) < len(tokens) or len(rest) > 10:
            raise damaged("it holds what is no number")


def bits_of_text(stream: BinaryIO) -> Iterator[Any]:
    """Of a bitmap every digit is a value, with blanks between them or without."""
    for text in text_blocks(stream):
        digits = np.frombuffer(b"".join(text.split()), np.uint8)
        wrong = np.flatnonzero((digits != 48) & (digits != 49))
        yield (digits[: wrong[0] if wrong.size else None] - 48).astype(np.uint16)
        if wrong.size:
            raise damaged("it holds what is neither 0 nor 1")
