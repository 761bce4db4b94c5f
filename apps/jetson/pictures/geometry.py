"""An upright RGB picture to the square that a model takes, by the geometry and the kernel that a manifest declares.

docs/bundle.md writes the arithmetic out to the last rounding; it is Pillow's, always horizontal pass first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Tuple

import numpy as np

from .resize import RESAMPLING, resize
from .stored import PictureError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from PIL import Image

KERNELS = {"triangle": RESAMPLING.BILINEAR, "cubic": RESAMPLING.BICUBIC}
GRAY = 114  # of the bars of a letterbox
MAX_RATIO = 200  # of a picture whose short side is resized: the long one becomes as many times S before it is cut


# From an upright width and height to those that the picture is resized to.
Resized = Callable[[int, int], Tuple[int, int]]


def fitted(image: Image.Image, size: int, geometry: str, kernel: str, shortest_edge: int | None = None) -> Any:
    """Return uint8 [S, S, 3] of an RGB picture. Raises `PictureError` for one that is too long or too high.

    Args:
        image: upright, of mode RGB.
        size: S.
        geometry: "squash" to S x S; "shortest-edge": the short side becomes `shortest_edge` (None: S), then the central
            S x S; "letterbox": the long side becomes S, gray bars fill the rest.
        kernel: "triangle" or "cubic".
        shortest_edge: at least S.
    """
    width, height = resized(image.width, image.height, size, geometry, shortest_edge)
    pixels = resize(image, width, height, KERNELS[kernel])
    if geometry == "squash":
        return pixels
    if geometry == "shortest-edge":  # the central S x S, rounded to the top left
        top, left = (height - size) // 2, (width - size) // 2
        return np.ascontiguousarray(pixels[top : top + size, left : left + size])
    square = np.full((size, size, 3), GRAY, np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square


def squash(image: Image.Image, size: int) -> Any:
    """Return uint8 [S, S, 3] of an RGB picture: triangle filter with antialias, the aspect ratio is not kept."""
    return fitted(image, size, "squash", "triangle")


def resized(width: int, height: int, size: int, geometry: str, shortest_edge: int | None = None) -> tuple[int, int]:
    """Return to what an upright picture is resized, before it is cut or gets its bars: width and height.

    squash: S x S. shortest-edge: the short side becomes E, the long one int(E * long / short). letterbox: the long side
    becomes S, the short one round(S * short / long), at least 1. Raises `PictureError` for one that is too long.
    """
    if geometry == "squash":
        return size, size
    short, long = sorted((width, height))
    if geometry == "letterbox":
        width, height = (max(1, (2 * size * side + long) // (2 * long)) for side in (width, height))
        return width, height
    if long > MAX_RATIO * short:
        raise PictureError(f"is {width}x{height}, too long: at most {MAX_RATIO} times its short side")
    edge = shortest_edge or size
    other = int(edge * long / short)
    return (edge, other) if width <= height else (other, edge)


def covering(processings: Iterable[dict[str, Any]]) -> Resized | None:
    """Return how `read_picture` may decode a JPEG for image processings of a manifest: None if whole.

    Smaller than it is only where all of them declare `decode` as "scaled": then so that it covers the largest.
    """
    every = list(processings)
    if not every or any(each.get("decode", "whole") != "scaled" for each in every):
        return None

    def largest(width: int, height: int) -> tuple[int, int]:
        sides = [resized(width, height, each["size"], each["geometry"], each.get("shortest_edge")) for each in every]
        return max(side[0] for side in sides), max(side[1] for side in sides)

    return largest
