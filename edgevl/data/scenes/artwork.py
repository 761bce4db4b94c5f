"""Sprites: the packed artwork, resized and tinted with integers only, so that the pixels are the same everywhere.

Pillow is used for nothing but decoding the (lossless) PNG atlases.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from edgevl.data.scenes.names import CATEGORIES

ARTWORK = Path(__file__).parent / "artwork"
COLUMNS = 16  # of the atlas; tools/build_artwork.py writes it

# One clear hue per color name, taken where the sprite's luminance is KNEE: darker below, towards white above.
RGB = {
    "red": (226, 32, 36), "orange": (250, 132, 10), "yellow": (246, 220, 24), "green": (44, 164, 54),
    "cyan": (36, 206, 218), "blue": (40, 82, 222), "purple": (134, 52, 186), "pink": (255, 130, 190),
}  # fmt: skip
KNEE = 176
DARKEST = 96  # of 256: the share of the color left at luminance 0
LOW, HIGH = 66, 208  # where the 5th and the 95th percentile of a sprite's luminance are put
MEDIAN = (136, 180)  # where the median must then lie: an orange sprite that is mostly dark would be called brown


@dataclass(frozen=True)
class Sprite:
    """luminance uint8 [h, w], alpha uint8 [h, w]; solid = alpha >= 128, bool [h, w]."""

    luminance: np.ndarray
    alpha: np.ndarray
    solid: np.ndarray


@cache
def tint_table(color: str) -> np.ndarray:
    """uint16 [256, 3]: the RGB of each luminance under one color."""
    level = np.arange(256, dtype=np.int32)[:, None]
    base = np.array(RGB[color], dtype=np.int32)[None]
    dark = base * (DARKEST * KNEE + (256 - DARKEST) * np.minimum(level, KNEE)) // (256 * KNEE)
    lift = np.maximum(level - KNEE, 0)
    return (dark + (255 - dark) * lift * 11 // (16 * (255 - KNEE))).astype(np.uint16)


@cache
def load_family(family: str) -> tuple[Sprite, ...]:
    """The sprites of a family, `fluent` or `noto`, at their packed size, in the order of CATEGORIES."""
    with Image.open(ARTWORK / f"{family}.png") as image:
        atlas = np.asarray(image.convert("RGBA"))
    cell = atlas.shape[1] // COLUMNS
    corners = [(i // COLUMNS * cell, i % COLUMNS * cell) for i in range(len(CATEGORIES))]
    return tuple(_normalize(atlas[y : y + cell, x : x + cell]) for y, x in corners)


def _normalize(rgba: np.ndarray) -> Sprite:
    """Crop to the alpha, take the luminance and stretch it to LOW..HIGH: every sprite gets the same contrast and
    about the same brightness."""
    alpha = rgba[..., 3]
    rows, columns = np.nonzero((alpha >= 64).any(1))[0], np.nonzero((alpha >= 64).any(0))[0]
    rgba = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.int32)
    luminance = (rgba[..., 0] * 299 + rgba[..., 1] * 587 + rgba[..., 2] * 114 + 500) // 1000
    alpha = rgba[..., 3].astype(np.uint8)
    values = np.sort(luminance[alpha >= 128])
    low, high = int(values[len(values) * 5 // 100]), int(values[len(values) * 95 // 100])
    span = max(high - low, 48)  # a nearly flat sprite is not stretched into noise
    middle = (LOW + HIGH) // 2
    stretched = middle + (2 * luminance - low - high) * (HIGH - LOW) // (2 * span)
    usual = int(np.sort(stretched[alpha >= 128])[len(values) // 2])
    stretched += min(max(usual, MEDIAN[0]), MEDIAN[1]) - usual
    return Sprite(np.clip(stretched, 0, 255).astype(np.uint8), alpha, alpha >= 128)


@cache
def _area_weights(old: int, new: int) -> np.ndarray:
    """float64 [new, old] of whole numbers: how much of each old pixel lies in each new one; rows sum to `old`."""
    start, end = np.arange(new)[:, None] * old, np.arange(1, new + 1)[:, None] * old
    left, right = np.arange(old)[None] * new, np.arange(1, old + 1)[None] * new
    return np.maximum(np.minimum(end, right) - np.maximum(start, left), 0).astype(np.float64)


def _resize(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Area average, exact: the sums are whole numbers below 2**53, so their order does not matter."""
    old_height, old_width = plane.shape
    total = _area_weights(old_height, height) @ plane.astype(np.float64) @ _area_weights(old_width, width).T
    weight = old_height * old_width
    return (total.astype(np.int64) + weight // 2) // weight


@cache
def sprite(family: str, category_id: int, side: int) -> Sprite:
    """The sprite with its longest side scaled to `side` pixels. Cached: a category and size is resized once."""
    whole = load_family(family)[category_id]
    old_height, old_width = whole.alpha.shape
    longest = max(old_height, old_width)
    height, width = (max(1, (n * side + longest // 2) // longest) for n in (old_height, old_width))
    alpha = _resize(whole.alpha, height, width)
    weighted = _resize(whole.luminance.astype(np.int64) * whole.alpha, height, width)
    luminance = np.minimum((weighted + alpha // 2) // np.maximum(alpha, 1), 255)
    return Sprite(luminance.astype(np.uint8), alpha.astype(np.uint8), alpha >= 128)


def paste(image: np.ndarray, item: Sprite, color: str, x: int, y: int, flip: bool) -> None:
    """Blend a tinted sprite into image uint8 [S, S, 3] with its top left corner at (x, y)."""
    luminance, alpha = (item.luminance[:, ::-1], item.alpha[:, ::-1]) if flip else (item.luminance, item.alpha)
    height, width = alpha.shape
    region = image[y : y + height, x : x + width]
    strength = alpha[..., None].astype(np.uint16)
    mixed = tint_table(color)[luminance] * strength + region * (255 - strength) + 127
    image[y : y + height, x : x + width] = mixed // 255
