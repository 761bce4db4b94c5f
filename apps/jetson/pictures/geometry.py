"""An upright RGB picture to the square that a model takes, by the geometry and the kernel that a manifest declares.

docs/bundle.md writes the arithmetic out to the last rounding; it is Pillow's, always horizontal pass first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .resize import RESAMPLING, resize
from .stored import PictureError

if TYPE_CHECKING:
    from PIL import Image

KERNELS = {"triangle": RESAMPLING.BILINEAR, "cubic": RESAMPLING.BICUBIC}
GRAY = 114  # of the bars of a letterbox
MAX_RATIO = 200  # of a picture whose short side is resized: the long one becomes as many times S before it is cut


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
    if geometry == "shortest-edge":
        return _shortest_edge(image, size, shortest_edge or size, KERNELS[kernel])
    return {"squash": _squash, "letterbox": _letterbox}[geometry](image, size, KERNELS[kernel])


def squash(image: Image.Image, size: int) -> Any:
    """Return uint8 [S, S, 3] of an RGB picture: triangle filter with antialias, the aspect ratio is not kept."""
    return _squash(image, size, KERNELS["triangle"])


def _squash(image: Image.Image, size: int, kernel: Any) -> Any:
    return resize(image, size, size, kernel)


def _shortest_edge(image: Image.Image, size: int, edge: int, kernel: Any) -> Any:
    """The short side becomes E, the long one int(E * long / short); then the central S x S, rounded to the top left."""
    short, long = sorted(image.size)
    if long > MAX_RATIO * short:
        raise PictureError(f"is {image.width}x{image.height}, too long: at most {MAX_RATIO} times its short side")
    other = int(edge * long / short)
    width, height = (edge, other) if image.width <= image.height else (other, edge)
    pixels = resize(image, width, height, kernel)
    top, left = (height - size) // 2, (width - size) // 2
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])


def _letterbox(image: Image.Image, size: int, kernel: Any) -> Any:
    """The long side becomes S, the short one round(S * short / long), at least 1; gray bars fill both ends of it."""
    long = max(image.size)
    width, height = (max(1, (2 * size * side + long) // (2 * long)) for side in image.size)
    pixels = np.full((size, size, 3), GRAY, np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    pixels[top : top + height, left : left + width] = resize(image, width, height, kernel)
    return pixels
