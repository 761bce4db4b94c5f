"""From a file that a user has to the exact uint8 pixels that a model takes. The contract is docs/bundle.md.

Shapes: H, W the picture's own height and width; S the side of the model's square input.
Nothing here normalizes: mean and standard deviation are inside the exported graph.
What the bytes of a file mean is decided in `edgevl.pictures`, which the board's script runs, too.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from PIL import Image

from edgevl import pictures
from edgevl.errors import InputError, first_line, no_such_path
from edgevl.pictures.colors import gray_of_integers, on_white, rgb_of_cmyk
from edgevl.pictures.exif import ORIENTATION, RAW_PROFILE, exif_of_text, orientation_of

ImageSource: TypeAlias = str | Path | bytes | Image.Image | np.ndarray


def load_image(source: ImageSource, resized: pictures.Resized | None = None) -> Image.Image:
    """Decode `source` to an upright RGB picture, ignoring color profiles.

    Args:
        source: a path, the bytes of an image file, a Pillow image, or a uint8 array: [H, W] grey, [H, W, 3] RGB or
            [H, W, 4] RGBA. A Pillow image is taken as Pillow has decoded it.
        resized: to what an upright width and height are resized afterwards; then a JPEG may come out at an eighth, a
            quarter or half of its size, the smallest that covers it.

    Returns:
        A Pillow image of mode RGB: EXIF orientation applied, transparency composited on white, 16-bit grey divided by
        257 and rounded, the first frame of an animation.

    Raises:
        InputError: the file is missing, empty, too large, truncated or not an image; the array has another
            shape or dtype.
    """
    if isinstance(source, np.ndarray):
        return _named("the array", lambda: _from_pillow(_from_array(source)))
    if isinstance(source, Image.Image):
        return _named("the image", lambda: _from_pillow(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _named("the image bytes", lambda: pictures.read_picture(io.BytesIO(source), resized))
    path = Path(source)
    with _open(path) as stream:
        return _named(f'"{path}"', lambda: pictures.read_picture(stream, resized))


def to_pixels(image: Image.Image, size: int) -> np.ndarray:
    """Squash an RGB picture to uint8 [S, S, 3] as docs/bundle.md says. Raises `InputError` for one that is too high."""
    if image.mode != "RGB":
        raise InputError(f"to_pixels takes an RGB picture, got mode {image.mode}: pass it through load_image first")
    if size < 1:
        raise InputError(f"the side of the model's input must be at least 1 pixel, got {size}")
    return _named("the picture", lambda: pictures.squash(image, size))


def fitted(image: Image.Image, size: int, geometry: str, kernel: str, shortest_edge: int | None) -> np.ndarray:
    """See `edgevl.pictures.fitted`. Raises `InputError` for a picture that is too long or too high."""
    return _named("the picture", lambda: pictures.fitted(image, size, geometry, kernel, shortest_edge))


def _named(name: str, read: Callable[[], Any]) -> Any:
    """Say of which picture it is what could not be read."""
    try:
        return read()
    except pictures.PictureError as error:
        raise InputError(f"{name} {error}") from None


def _open(path: Path) -> BinaryIO:
    try:
        if path.is_dir():
            raise InputError(f'"{path}" is a folder, not a picture: {pictures.ADVICE}')
        if "\0" in str(path):
            raise InputError(f"the path {str(path)!r} holds a null character: check the path")
        if not path.exists():
            raise no_such_path("file", path, "check the path")
        if not path.is_file():
            raise InputError(f'"{path}" is not a regular file: {pictures.ADVICE}')
        return path.open("rb")
    except OSError as error:
        raise InputError(f'"{path}" cannot be read ({error.strerror}): check the path and its permissions') from None


def _from_array(array: np.ndarray) -> Image.Image:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not shaped or 0 in array.shape:
        raise InputError(
            f"the array has dtype {array.dtype} and shape {list(array.shape)}: give uint8 [H,W], [H,W,3] or [H,W,4]"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _from_pillow(image: Image.Image) -> Image.Image:
    pictures.check_size(image.width, image.height)
    try:
        image.load()
    except Exception as error:  # zlib.error, struct.error, SyntaxError, OSError ...: all mean the same to a user
        raise pictures.PictureError(f"is truncated or damaged ({first_line(error)}): {pictures.ADVICE}") from None
    whole = image if image.mode == "RGB" and "transparency" not in image.info else None
    pieces = iter(()) if whole else _pieces(image)
    return pictures.upright(pictures.Stored(image.size, pieces, _orientation(image), whole))


def _pieces(image: Image.Image) -> Iterator[pictures.Piece]:
    """Strips of gray or RGB on white, from any mode that Pillow can convert."""
    mode, transparent = image.mode, "transparency" in image.info
    if mode == "F":
        raise pictures.PictureError("holds floating-point values of unknown range: save it with 8 or 16 bits")
    try:
        if mode.startswith("I"):
            key = image.info.get("transparency")
            yield from pictures.strips(image, lambda v: np.where(v == key, np.uint8(255), gray_of_integers(v)))
        elif transparent or mode in ("LA", "La", "PA", "RGBA", "RGBa"):
            yield from pictures.strips(image, lambda rgba: on_white(rgba[..., :3], rgba[..., 3]), mode="RGBA")
        elif mode == "CMYK":
            yield from pictures.strips(image, rgb_of_cmyk)
        else:
            yield from pictures.strips(image, pictures.same, mode="RGB")
    except (ValueError, OSError) as error:
        if isinstance(error, pictures.PictureError):
            raise
        raise pictures.PictureError(f"has the color mode {mode}: save it as an RGB picture") from None


def _orientation(image: Image.Image) -> int:
    """EXIF's, as the file has it. Pillow's own answer would also come from XMP, which the contract does not name."""
    tag = getattr(image, "tag_v2", {}).get(ORIENTATION)  # a TIFF that Pillow has not turned itself
    if isinstance(tag, int) and 1 <= tag <= 8:
        return tag
    return orientation_of(image.info.get("exif") or exif_of_text(str(image.info.get(RAW_PROFILE, "")).encode()))
