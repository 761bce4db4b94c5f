"""HEIC, as an iPhone writes its photos: no app of ours reads it, so an import turns it into JPEG.

Colors stay as the numbers in the file say (an iPhone's are Display P3), as with every other picture: docs/bundle.md.
"""

from pathlib import Path

from PIL import Image

from edgevl.errors import InputError, MissingDependency, first_line
from edgevl.pictures import MAX_FILE_BYTES, check_size

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
QUALITY = 95


def is_heic(path: Path) -> bool:
    """Say if a file begins as HEIC does."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS


def heic_to_jpeg(path: Path, target: Path) -> None:
    """Write the upright picture as JPEG of quality 95.

    Raises `MissingDependency` without pillow-heif, `InputError` for a damaged or too large file.
    """
    try:
        import pillow_heif
    except ImportError:
        raise MissingDependency("pillow-heif", "heic", f'reading "{path}"') from None
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f'"{path}" is too large: save it as JPEG')
    try:
        opened = pillow_heif.open_heif(path, convert_hdr_to_8bit=True)
        check_size(*opened.size)
        picture: Image.Image = opened.to_pillow()
        picture.convert("RGB").save(target, "JPEG", quality=QUALITY, subsampling=0)
    except Exception as error:  # whatever libheif says of a damaged file; PictureError of a large one
        raise InputError(f'"{path}" cannot be read as HEIC ({first_line(error)}): save it as JPEG') from None
