"""Camera frames in memory to RGB pictures, as docs/bundle.md says: in integers, the same on every device.

Shapes: H, W the frame's own height and width; h, w those of its chroma, half of them rounded up.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from .resize import RESAMPLING
from .stored import PictureError, check_size

KINDS = ("nv12", "rgb")
COLORS = {  # name: weights of red and blue in luma, and whether luma takes 16 to 235
    "bt601-full": (0.299, 0.114, False),
    "bt601-limited": (0.299, 0.114, True),
    "bt709-full": (0.2126, 0.0722, False),
    "bt709-limited": (0.2126, 0.0722, True),
}
POINT = 16  # bits behind the point
ROUND = 1 << (POINT - 1)
ROWS = 32  # at a time: what they need stays in the processor's caches


class Frame(NamedTuple):
    """A frame as a camera hands it out, upright. Rows follow each other without padding."""

    kind: str  # "rgb": [H, W, 3]; "nv12": luma [H, W], then chroma [h, w, 2], u before v
    width: int
    height: int
    data: bytes
    colors: str = "bt601-full"  # of nv12; see `COLORS`

    def picture(self) -> Image.Image:
        """Return the RGB picture. Raises `PictureError` for a frame whose bytes are not as many as its size says."""
        check_size(self.width, self.height)
        size = bytes_of(self.kind, self.width, self.height)
        if len(self.data) != size:
            what = f"frame of {self.width}x{self.height} in {self.kind}"
            raise PictureError(f"is a {what} of {len(self.data):,} bytes, it must have {size:,}")
        if self.kind == "rgb":
            return Image.frombuffer("RGB", (self.width, self.height), self.data, "raw", "RGB", 0, 1)
        luma, chroma = planes(self)
        return rgb_of_nv12(luma, chroma, self.colors)


def bytes_of(kind: str, width: int, height: int) -> int:
    """How many bytes a frame has. Raises `PictureError` for an unknown kind."""
    if kind not in KINDS:
        raise PictureError(f'is a frame of the kind "{kind}": {" or ".join(KINDS)} can be read')
    return 3 * width * height if kind == "rgb" else width * height + 2 * half(width) * half(height)


def half(side: int) -> int:
    return (side + 1) // 2


def planes(frame: Frame) -> tuple[Any, Any]:
    """Return luma uint8 [H, W] and chroma uint8 [h, w, 2] of a frame in NV12: views, nothing is copied."""
    data, size = np.frombuffer(frame.data, np.uint8), frame.width * frame.height
    chroma = data[size:].reshape(half(frame.height), half(frame.width), 2)
    return data[:size].reshape(frame.height, frame.width), chroma


def rgb_of_nv12(luma: Any, chroma: Any, colors: str = "bt601-full") -> Image.Image:
    """Return the RGB picture of luma uint8 [H, W] and chroma uint8 [h, w, 2], u before v; rows may lie anywhere.

    A chroma sample is used for its 2 x 2 pixels as it is. Raises `PictureError` for unknown colors.
    """
    if colors not in COLORS:
        raise PictureError(f'has the colors "{colors}": {", ".join(COLORS)} are known')
    height, width = luma.shape
    rgb = np.empty((3, height, width), np.uint8)
    # A pair of samples is one index; a table gives what it adds.
    pairs = np.ascontiguousarray(chroma).view("<u2")[..., 0]
    convert = limited_rows if COLORS[colors][2] else full_rows
    even = height - height % 2
    for top, bottom in [*((top, min(top + ROWS, even)) for top in range(0, even, ROWS)), (even, height)]:
        if top < bottom:
            index = pairs[top // 2 : half(bottom)].astype(np.intp)
            convert(luma[top:bottom].reshape(len(index), -1, width), index, colors, rgb[:, top:bottom])
    return Image.merge("RGB", [Image.frombuffer("L", (width, height), plane, "raw", "L", 0, 1) for plane in rgb])


def full_rows(luma: Any, index: Any, colors: str, rgb: Any) -> None:
    """Luma of full range: what chroma adds is a whole number, so that bytes that stop at 0 and 255 are enough.

    luma: [n, 1 or 2, W]; index: [n, w]; rgb: [3, rows, W], which is written.
    """
    room = ~luma
    for plane, (above, below) in zip(rgb, byte_tables(colors)):
        target = plane.reshape(luma.shape)
        more, less = (each.take(index).view(np.uint8)[:, None, : luma.shape[2]] for each in (above, below))
        np.minimum(room, more, out=target)
        target += luma
        target -= np.minimum(target, less)


def limited_rows(luma: Any, index: Any, colors: str, rgb: Any) -> None:
    """Luma of 16 to 235, which is stretched, so that its fraction and that of chroma are rounded together."""
    stretched = (luma.astype(np.int32) - 16) * fixed(255 / 219) + ROUND
    for plane, table in zip(rgb, chroma_tables(colors)):
        added = table.take(index).repeat(2, axis=1)[:, None, : luma.shape[2]]
        plane.reshape(luma.shape)[:] = ((stretched + added) >> POINT).clip(0, 255)


@functools.lru_cache(maxsize=None)
def byte_tables(colors: str) -> list[tuple[Any, Any]]:
    """For red, green and blue: what a pair of chroma samples adds, and what it takes away, twice in each uint16."""
    whole = [(table + ROUND) >> POINT for table in chroma_tables(colors)]
    return [(twice(table), twice(-table)) for table in whole]


def twice(values: Any) -> Any:
    return values.clip(0, 255).astype(np.uint16) * 257


@functools.lru_cache(maxsize=None)
def chroma_tables(colors: str) -> list[Any]:
    """For red, green and blue: int32 [65536], what the pair u + 256 v adds, in 1/65536 of a level."""
    red, blue, limited = COLORS[colors]
    green, scale = 1 - red - blue, 255 / 224 if limited else 1.0
    pair = np.arange(65536, dtype=np.int32)
    u, v = (pair & 255) - 128, (pair >> 8) - 128
    of_u, of_v = fixed(2 * blue * (1 - blue) / green * scale), fixed(2 * red * (1 - red) / green * scale)
    return [v * fixed(2 * (1 - red) * scale), -u * of_u - v * of_v, u * fixed(2 * (1 - blue) * scale)]


def fixed(value: float) -> int:
    return int(value * (1 << POINT) + 0.5)


def frame_of(picture: Image.Image, kind: str, width: int = 1920, height: int = 1080) -> Frame:
    """Return a frame that shows a picture in this size: for a benchmark, which needs one to convert."""
    size = bytes_of(kind, width, height)
    sized = picture.resize((width, height), RESAMPLING.BILINEAR)
    if kind == "rgb":
        return Frame(kind, width, height, sized.tobytes())
    luma, *chroma = sized.convert("YCbCr").split()
    small = [np.asarray(plane.resize((half(width), half(height)), RESAMPLING.BOX)) for plane in chroma]
    data = luma.tobytes() + np.stack(small, axis=-1).tobytes()
    assert len(data) == size
    return Frame(kind, width, height, data)
