"""From a file to upright RGB: which reader it is for, and one kind of error whatever fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import bmp, gif, jpeg, png, pnm, tiff, webp
from .stored import ADVICE, PictureError, Stored, upright

if TYPE_CHECKING:
    from typing import BinaryIO

    from PIL import Image

    from .geometry import Resized

MAX_FILE_BYTES = 256 * 2**20
JPEG = b"\xff\xd8\xff"
READERS = {
    b"\x89PNG\r\n\x1a\n": png.read,
    b"GIF87a": gif.read,
    b"GIF89a": gif.read,
    b"BM": bmp.read,
    **{b"P%d" % kind: pnm.read for kind in range(1, 7)},
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+"), tiff.read),
}


def read_picture(stream: BinaryIO, resized: Resized | None = None) -> Image.Image:
    """Decode a file to an upright image of mode RGB. Raises `PictureError` for whatever is no picture.

    `resized`: to what an upright width and height are resized afterwards. Then a JPEG may come out at an eighth, a
    quarter or half of its size: the smallest that still covers it.
    """
    try:
        return upright(read_stored(stream, resized))
    except PictureError:
        raise
    except MemoryError:
        raise PictureError("needs more memory than there is here: save it smaller") from None
    except Exception as error:  # a damaged file can raise almost anything in a decoder
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise PictureError(f"is truncated or damaged ({reason}): save it again, or {ADVICE}") from None


def read_stored(stream: BinaryIO, resized: Resized | None = None) -> Stored:
    """Find the reader by the first bytes, never by a name."""
    size = stream.seek(0, 2)
    stream.seek(0)
    begin = stream.read(12)
    stream.seek(0)
    if not begin:
        raise PictureError(f"is empty (0 bytes): {ADVICE}")
    if size > MAX_FILE_BYTES:
        raise PictureError(f"has {size / 2**20:.0f} MiB, at most {MAX_FILE_BYTES // 2**20} are read: save it smaller")
    if begin[:4] == b"RIFF" and begin[8:] == b"WEBP":
        return webp.read(stream)
    if begin.startswith(JPEG):
        return jpeg.read(stream, resized)
    for signature, reader in READERS.items():
        if begin.startswith(signature):
            return reader(stream)
    if begin[4:8] == b"ftyp":
        raise PictureError(f"is AVIF, HEIC or a film, which are not read: {ADVICE}")
    raise PictureError(f"is not an image that can be read: {ADVICE}")
