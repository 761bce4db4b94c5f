"""Backgrounds of low saturation, so that the objects' colors stand out. Integers only: the same bytes everywhere."""

import random
from collections.abc import Callable
from functools import cache

import numpy as np

Painter = Callable[[random.Random, int], np.ndarray]
LATTICE = 8  # cells a side of the soft noise


@cache
def _axes(size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(size, dtype=np.int32)[:, None], np.arange(size, dtype=np.int32)[None]


def _gray(rng: random.Random, low: int = 40, high: int = 248) -> tuple[int, int, int]:
    """A gray with a faint tint."""
    level = rng.randrange(low, high)
    red, green, blue = (max(0, min(255, level + rng.randrange(-10, 11))) for _ in range(3))
    return red, green, blue


def _near(rng: random.Random, color: tuple[int, int, int], distance: int) -> tuple[int, int, int]:
    step = rng.randrange(distance // 2, distance) * (-1 if sum(color) > 420 else 1)
    red, green, blue = (max(0, min(255, c + step)) for c in color)
    return red, green, blue


def _two_tone(mask: np.ndarray, first: tuple[int, int, int], second: tuple[int, int, int]) -> np.ndarray:
    return np.array([first, second], dtype=np.uint8)[mask.astype(np.intp)]


def plain(rng: random.Random, size: int) -> np.ndarray:
    return np.full((size, size, 3), _gray(rng), dtype=np.uint8)


def gradient(rng: random.Random, size: int) -> np.ndarray:
    y, x = _axes(size)
    first, second = _gray(rng), _gray(rng)
    ramp = ((x + 0 * y) * 2, (y + 0 * x) * 2, x + y, x + size - 1 - y)[rng.randrange(4)][..., None]
    end = 2 * size - 2
    return ((np.array(first) * (end - ramp) + np.array(second) * ramp) // end).astype(np.uint8)


@cache
def _lattice_weights(size: int) -> np.ndarray:
    """float64 [size, LATTICE + 1] of whole numbers, linear between lattice points; rows sum to `size`."""
    position = np.arange(size) * LATTICE
    cell, rest = position // size, position % size
    weights = np.zeros((size, LATTICE + 1))
    weights[np.arange(size), cell] = size - rest
    weights[np.arange(size), cell + 1] = rest
    return weights


def noise(rng: random.Random, size: int) -> np.ndarray:
    points = np.frombuffer(rng.randbytes((LATTICE + 1) ** 2), dtype=np.uint8).reshape(LATTICE + 1, LATTICE + 1)
    weights = _lattice_weights(size)
    soft = (weights @ points.astype(np.float64) @ weights.T).astype(np.int64) // (size * size)  # exact whole numbers
    strength = rng.randrange(16, 64)
    color = np.array(_gray(rng))
    return np.clip(color + ((soft - 128) * strength // 128)[..., None], 0, 255).astype(np.uint8)


def stripes(rng: random.Random, size: int) -> np.ndarray:
    y, x = _axes(size)
    across, down = ((1, 0), (0, 1), (1, 1), (1, -1))[rng.randrange(4)]
    width = max(2, rng.randrange(6, 22) * size // 128)
    first = _gray(rng)
    return _two_tone((x * across + y * down + 2 * size) // width % 2, first, _near(rng, first, 40))


def checks(rng: random.Random, size: int) -> np.ndarray:
    y, x = _axes(size)
    width = max(2, rng.randrange(8, 26) * size // 128)
    first = _gray(rng)
    return _two_tone((x // width + y // width) % 2, first, _near(rng, first, 40))


def dots(rng: random.Random, size: int) -> np.ndarray:
    y, x = _axes(size)
    pitch = max(4, rng.randrange(10, 26) * size // 128)
    radius = pitch * rng.randrange(4, 8) // 20
    dx, dy = x % pitch - pitch // 2, y % pitch - pitch // 2
    first = _gray(rng)
    return _two_tone(dx * dx + dy * dy <= radius * radius, first, _near(rng, first, 48))


PAINTERS: tuple[Painter, ...] = (plain, gradient, gradient, noise, noise, stripes, checks, dots)


def paint(rng: random.Random, size: int) -> np.ndarray:
    """A background, uint8 [size, size, 3], of a kind chosen by `rng`."""
    return PAINTERS[rng.randrange(len(PAINTERS))](rng, size)
