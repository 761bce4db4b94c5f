"""Pictures as docs/bundle.md of EdgeVL says, to the last rounding: from a file to the exact pixels that a model takes.

One piece of code for EdgeVL and for the board: `edgevl/pictures` is a link to this folder. So it runs on Python 3.8
with numpy and any Pillow since 8, imports nothing else, and its modules name each other relatively. Pillow only unpacks
what each reader hands to it; what samples mean is decided here, and is the same with every version.
"""

from __future__ import annotations

from .frames import Frame, frame_of, rgb_of_nv12
from .geometry import Resized, covering, fitted, squash
from .reader import MAX_FILE_BYTES, read_picture
from .resize import RESAMPLING, resize
from .stored import ADVICE, MAX_PIXELS, SUFFIXES, PictureError, Piece, Stored, check_size, same, strips, upright

__all__ = [
    "ADVICE",
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "RESAMPLING",
    "SUFFIXES",
    "Frame",
    "PictureError",
    "Piece",
    "Resized",
    "Stored",
    "check_size",
    "covering",
    "fitted",
    "frame_of",
    "read_picture",
    "resize",
    "rgb_of_nv12",
    "same",
    "squash",
    "strips",
    "upright",
]  # fmt: skip
