"""From a file that a user has to the exact uint8 pixels that a model takes. The contract is docs/bundle.md.

Shapes: H, W the picture's own height and width; S the side of the model's square input.
Nothing here normalizes: mean and standard deviation are inside the exported graph.
"""

import io
import warnings
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from edgevl.errors import InputError

ImageSource: TypeAlias = str | Path | bytes | Image.Image | np.ndarray

MAX_PIXELS = 89_478_485  # Pillow's own threshold of a decompression bomb: a quarter of a GiB as RGB
MAX_FILE_BYTES = 256 * 2**20
# A fixed list, because Pillow's other readers start programs (EPS: Ghostscript) or are rarely exercised.
# Pillow's JPEG reader also opens the multi-picture JPEGs (MPO) of phones.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_ADVICE = "give a PNG, JPEG, WebP, BMP, GIF or TIFF picture"


def load_image(source: ImageSource) -> Image.Image:
    """Decode `source` to an upright RGB picture, ignoring color profiles.

    Args:
        source: a path, the bytes of an image file, a Pillow image, or a uint8 array: [H, W] grey, [H, W, 3] RGB or
            [H, W, 4] RGBA.

    Returns:
        A Pillow image of mode RGB: EXIF orientation applied, transparency composited on white, 16-bit grey divided by
        257 and rounded, the first frame of an animation.

    Raises:
        InputError: the file is missing, empty, too large, truncated or not an image; the array has another
            shape or dtype.
    """
    if isinstance(source, np.ndarray):
        return _to_rgb(_from_array(source), "the array")
    if isinstance(source, Image.Image):
        return _decode(source, "the image")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _open(bytes(source), "the image bytes")
    path = Path(source)
    return _open(_read(path), f'"{path}"')


def to_pixels(image: Image.Image, size: int) -> np.ndarray:
    """Squash an RGB picture to uint8 [S, S, 3]: triangle filter with antialias, the aspect ratio is not kept.

    docs/bundle.md writes out the arithmetic to the last rounding: it is that of `PIL.Image.resize(BILINEAR)`, always
    horizontal pass first. One call would leave the order to Pillow, and Pillow 13 goes vertical first on some tall
    pictures: the last bit of a pixel would depend on how the installed version weighs the cost of the two orders.
    """
    if image.mode != "RGB":
        raise InputError(f"to_pixels takes an RGB picture, got mode {image.mode}: pass it through load_image first")
    if size < 1:
        raise InputError(f"the side of the model's input must be at least 1 pixel, got {size}")
    wide = image.resize((size, image.height), Image.Resampling.BILINEAR, reducing_gap=None)
    return np.array(wide.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=None), dtype=np.uint8)


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise InputError(f'"{path}" is a folder, not a picture: {_ADVICE}')
        if "\0" in str(path):
            raise InputError(f"the path {str(path)!r} holds a null character: check the path")
        if not path.exists():
            raise InputError(f'there is no file "{path}": check the path')
        if not path.is_file():
            raise InputError(f'"{path}" is not a regular file: {_ADVICE}')
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InputError(
                f'"{path}" has {size / 2**20:.0f} MiB, at most {MAX_FILE_BYTES // 2**20} are read: save it smaller'
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(f'"{path}" cannot be read ({error.strerror}): check the path and its permissions') from None


def _open(data: bytes, name: str) -> Image.Image:
    if not data:
        raise InputError(f"{name} is empty (0 bytes): {_ADVICE}")
    formats = FORMATS + (("AVIF",) if features.check("avif") else ())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError:
        raise InputError(f"{name} is not an image that can be read: {_ADVICE}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(f"{name} has more than {MAX_PIXELS:,} pixels: save it smaller") from None
    except Exception as error:  # a broken header can raise almost anything in a decoder
        raise InputError(f"{name} is damaged ({_reason(error)}): save it again, or {_ADVICE}") from None
    return _decode(image, name)


def _decode(image: Image.Image, name: str) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        raise InputError(f"{name} has {image.width}x{image.height} pixels, at most {MAX_PIXELS:,}: save it smaller")
    if image.width < 1 or image.height < 1:
        raise InputError(f"{name} has no pixels ({image.width}x{image.height}): {_ADVICE}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow warns of corrupt EXIF; it then reports no orientation, which is right
            image.load()
    except Exception as error:  # zlib.error, struct.error, SyntaxError, OSError ...: all mean the same to a user
        raise InputError(f"{name} is truncated or damaged ({_reason(error)}): save it again, or {_ADVICE}") from None
    return _to_rgb(_upright(image), name)


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def _upright(image: Image.Image) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ImageOps.exif_transpose(image)
    except Exception:  # unreadable EXIF says nothing of the orientation; the pixels are fine
        return image


def _from_array(array: np.ndarray) -> Image.Image:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not shaped or 0 in array.shape:
        raise InputError(
            f"the array has dtype {array.dtype} and shape {list(array.shape)}: give uint8 [H,W], [H,W,3] or [H,W,4]"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        return _from_16_bit(image, name)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _on_white(image, name)
    return _convert(image, "RGB", name)


def _convert(image: Image.Image, mode: str, name: str) -> Image.Image:
    if image.mode == "F":
        raise InputError(f"{name} holds floating-point values of unknown range: save it with 8 or 16 bits")
    try:
        return image.convert(mode)
    except (ValueError, OSError):
        raise InputError(f"{name} has the color mode {image.mode}: save it as an RGB picture") from None


def _from_16_bit(image: Image.Image, name: str) -> Image.Image:
    """Grey of 16 bits to 8 as round(v / 257), not Pillow's own clipping at 255."""
    values: Any = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise InputError(f"{name} has integers outside 0..65535: save it with 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")


def _on_white(image: Image.Image, name: str) -> Image.Image:
    """Composite on white: (c * a + 255 * (255 - a) + 127) // 255 per channel."""
    rgba = np.asarray(_convert(image, "RGBA", name)).astype(np.uint32)
    color, alpha = rgba[..., :3], rgba[..., 3:]
    return Image.fromarray(((color * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8))
