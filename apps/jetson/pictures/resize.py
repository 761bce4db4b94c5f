"""An upright RGB picture in another size."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from .stored import MAX_PIXELS, PictureError

RESAMPLING: Any = getattr(Image, "Resampling", Image)  # Pillow 9.1 moved the names of its filters


def resize(image: Image.Image, width: int, height: int, kernel: Any) -> Any:
    """Resize RGB to uint8 [height, width, 3], antialiased, rounded to uint8 after each pass.

    docs/bundle.md writes out the arithmetic to the last rounding: it is that of `PIL.Image.resize`, always
    horizontal pass first. One call would leave the order to Pillow, and Pillow 13 goes vertical first on some tall
    pictures: the last bit of a pixel would depend on how the installed version weighs the cost of the two orders.
    """
    if width * image.height > MAX_PIXELS:
        raise PictureError(
            f"is {image.height:,} pixels high, at most {MAX_PIXELS // width:,} can be resized to {width}: cut it"
        )
    if width * height > MAX_PIXELS:
        raise PictureError(f"would be resized to {width:,} x {height:,} pixels, {MAX_PIXELS:,} at most: cut it")
    wide = image.resize((width, image.height), kernel)
    return np.array(wide.resize((width, height), kernel), dtype=np.uint8)
