"""A picture as its file stores it, and how that becomes an upright RGB image.

Every reader of a format gives a `Stored`: pieces of 8 bits on a white canvas, and an orientation. Only one piece at a
time is in memory beside the result, so that a large picture costs little more than its RGB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Iterator, NamedTuple, Tuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from typing import BinaryIO

MAX_PIXELS = 89_478_485  # of 2**30 bytes, 12 for each: what the decoders take at most, but for these two:
MAX_PIXELS_OF_LARGE = 50_331_648  # WebP takes up to 20 bytes for a pixel, JPEG of four components 12 and then its RGB
MAX_SIDE = 1_000_000  # Pillow keeps a pointer for each row, numpy an object for each piece
STRIP_PIXELS = 2**20
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
ADVICE = "give a PNG, JPEG, WebP, BMP, GIF, TIFF or PPM picture"

Piece = Tuple[int, int, Any]  # x, y on the canvas; an RGB image, or uint8 [h, w] gray or [h, w, 3] RGB
TRANSPOSITIONS: Any = getattr(Image, "Transpose", Image)  # Pillow 9.1 moved the names
TURNS = {
    2: TRANSPOSITIONS.FLIP_LEFT_RIGHT,
    3: TRANSPOSITIONS.ROTATE_180,
    4: TRANSPOSITIONS.FLIP_TOP_BOTTOM,
    5: TRANSPOSITIONS.TRANSPOSE,
    6: TRANSPOSITIONS.ROTATE_270,
    7: TRANSPOSITIONS.TRANSVERSE,
    8: TRANSPOSITIONS.ROTATE_90,
}


class PictureError(ValueError):
    """What is wrong with a picture, as the rest of a sentence that begins with the picture's name."""


class Stored(NamedTuple):
    """What a file holds."""

    size: tuple[int, int]  # width and height of the canvas, before it is turned
    pieces: Iterator[Piece]  # made one after the other; where none lies, the canvas is white
    orientation: int = 1  # of EXIF, 1 to 8
    whole: Image.Image | None = None  # instead of pieces: RGB that covers the canvas


def check_size(width: int, height: int, limit: int = MAX_PIXELS) -> None:
    """Raise `PictureError` for a size that is refused before anything is decoded."""
    if width < 1 or height < 1:
        raise PictureError(f"has no pixels ({width}x{height}): {ADVICE}")
    if width * height > limit:
        raise PictureError(f"has {width}x{height} pixels, at most {limit:,} are read: save it smaller")
    if max(width, height) > MAX_SIDE:
        raise PictureError(f"has {width}x{height} pixels, a side may have at most {MAX_SIDE:,}: save it smaller")


def take(stream: BinaryIO, count: int) -> bytes:
    """Read exactly `count` bytes. Raises `PictureError` where the file ends before."""
    data = stream.read(count if count < 2**16 else min(count, left(stream)))  # a file would take memory for all of them
    if len(data) < count:
        raise PictureError(f"is truncated: {count - len(data)} bytes are missing; save it again, or {ADVICE}")
    return data


def left(stream: BinaryIO) -> int:
    """Bytes from here to the end of the file."""
    place = stream.tell()
    end = stream.seek(0, 2)
    stream.seek(place)
    return max(end - place, 0)


def damaged(reason: str) -> PictureError:
    return PictureError(f"is damaged ({reason}): save it again, or {ADVICE}")


def load(plugin: Callable[[Any], Any], stream: Any, rawmode: str = "") -> Any:
    """Decode with a class of Pillow's own a file whose size was checked. `rawmode` replaces the one that it chose."""
    image = plugin(stream)
    if rawmode:
        image.tile = [(*image.tile[0][:3], rawmode)]
    image.load()
    return image


def strips(image: Any, convert: Callable[[Any], Any], x: int = 0, y: int = 0, mode: str = "") -> Iterator[Piece]:
    """Cut an image of Pillow's into strips of rows, each converted to 8 bits, for a place on the canvas.

    `mode`: what Pillow converts a strip to first.
    """
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        strip = image.crop(box)
        yield x, y + top, convert(np.asarray(strip.convert(mode) if mode else strip))


def same(values: Any) -> Any:
    """Leave gray or RGB of 8 bits as it is."""
    return values


def looked_up(image: Any, table: Any) -> Image.Image:
    """RGB of an image of indices by a table [256, 3]."""
    image.putpalette(table.tobytes())
    return image.convert("RGB")


def upright(stored: Stored) -> Image.Image:
    """Compose the pieces on white and turn them as the orientation says. Returns an image of mode RGB."""
    turn = TURNS.get(stored.orientation)
    if stored.whole is not None:
        return stored.whole if turn is None else stored.whole.transpose(turn)
    width, height = stored.size
    across = stored.orientation >= 5
    canvas = Image.new("RGB", (height, width) if across else (width, height), (255, 255, 255))
    for x, y, block in stored.pieces:
        piece = block if isinstance(block, Image.Image) else rgb_image(block)
        place = turned_place(stored, x, y, *piece.size)
        canvas.paste(piece if turn is None else piece.transpose(turn), place)
    return canvas


def rgb_image(block: Any) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(block))
    return image if image.mode == "RGB" else image.convert("RGB")


def turned_place(stored: Stored, x: int, y: int, width: int, height: int) -> tuple[int, int]:
    """Where a piece of `width` x `height` at (x, y) has its upper left corner after the canvas was turned."""
    right, below = stored.size[0] - x - width, stored.size[1] - y - height
    places = {
        2: (right, y),
        3: (right, below),
        4: (x, below),
        5: (y, x),
        6: (below, x),
        7: (below, right),
        8: (y, right),
    }
    return places.get(stored.orientation, (x, y))
