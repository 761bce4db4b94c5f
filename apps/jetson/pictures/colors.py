"""Samples as files store them to gray or RGB of 8 bits: the rules of docs/bundle.md, in integers.

Shapes: [h, w] gray, [h, w, 3] colors, [h, w] alpha; `samples` may be any of uint8 and uint16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .stored import PictureError


def gray_table(bits: int) -> Any:
    """uint8 [2**bits]: gray of up to 12 bits to 8, round(v * 255 / (2**bits - 1))."""
    top = 2**bits - 1
    return ((np.arange(top + 1) * 255 + top // 2) // top).astype(np.uint8)


def gray_of_16_bits(samples: Any) -> Any:
    """round(v / 257)."""
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def gray_of_integers(values: Any) -> Any:
    """The same of signed or longer integers. Raises `PictureError` for one outside 0..65535."""
    if values.min() < 0 or values.max() > 65535:
        raise PictureError("has integers outside 0..65535: save it with 8 or 16 bits")
    return gray_of_16_bits(values)


def on_white(samples: Any, alpha: Any) -> Any:
    """Composite gray or colors of 8 bits on white: (c * a + 255 * (255 - a) + 127) // 255."""
    if alpha.size and alpha.min() == 255:
        return samples
    a = alpha.astype(np.uint16)  # 255 * 255 + 127 still fits 16 bits
    a = a if samples.ndim == alpha.ndim else a[..., None]
    return ((samples * a + 255 * (255 - a) + 127) // 255).astype(np.uint8)


def premultiplied_on_white(samples: Any, alpha: Any) -> Any:
    """Composite what was multiplied by its alpha already: c + 255 - a, at most 255."""
    a = alpha.astype(np.uint16)
    a = a if samples.ndim == alpha.ndim else a[..., None]
    return np.minimum(samples + (255 - a), 255).astype(np.uint8)


def rgb_of_cmyk(samples: Any) -> Any:
    """[h, w, 4] to RGB: n - round(C * n / 255) with n = 255 - K."""
    n = 255 - samples[..., 3:].astype(np.uint16)
    return (n - (samples[..., :3] * n + 127) // 255).astype(np.uint8)
