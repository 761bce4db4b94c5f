"""From a file to upright RGB: which reader it is for, and one kind of error whatever fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import bmp, gif, jpeg, png, pnm, tiff, webp
from .stored import ADVICE, PictureError, Stored, upright

if TYPE_CHECKING:
    from typing import BinaryIO

    from PIL import Image

MAX_FILE_BYTES = 256 * 2**20
READERS = {
    b"\x89PNG\r\n\x1a\n": png.read,
    b"\xff\xd8\xff": jpeg.read,
    b"GIF87a": gif.read,
    b"GIF89a": gif.read,
    b"BM": bmp.read,
    **{b"P%d" % kind: pnm.read for kind in range(1, 7)},
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+"), tiff.read),
}


def read_picture(stream: BinaryIO) -> Image.Image:
    """Decode a file to an upright image of mode RGB. Raises `PictureError` for whatever is no picture."""
    try:
        return upright(read_stored(stream))
    except PictureError:
        raise
    except MemoryError:
        raise PictureError("needs more memory than there is here: save it smaller") from None
    except Exception as error:  # a damaged file can raise almost anything in a decoder
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise PictureError(f"is truncated or damaged ({reason}): save it again, or {ADVICE}") from None


def read_stored(stream: BinaryIO) -> Stored:
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
    for signature, reader in READERS.items():
        if begin.startswith(signature):
            return reader(stream)
    if begin[4:8] == b"ftyp":
        raise PictureError(f"is AVIF, HEIC or a film, which are not read: {ADVICE}")
    raise PictureError(f"is not an image that can be read: {ADVICE}")
