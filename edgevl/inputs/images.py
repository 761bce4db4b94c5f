"""A decoded picture to uint8 [S, S, 3], by the geometry and the kernel that a manifest declares.

docs/bundle.md writes the arithmetic out to the last rounding; it is Pillow's, always horizontal pass first.
"""

import numpy as np
from PIL import Image

from edgevl.errors import InputError
from edgevl.preprocess import ImageSource, load_image, resized
from edgevl.specs import ImageProcessing

KERNELS = {"triangle": Image.Resampling.BILINEAR, "cubic": Image.Resampling.BICUBIC}
GRAY = 114  # of the bars of a letterbox
MAX_RATIO = 200  # of a picture whose short side is resized: the long one becomes as many times S before it is cut


def to_tensor(picture: ImageSource, processing: ImageProcessing) -> np.ndarray:
    """Return uint8 [S, S, 3] of a picture. Raises `InputError` for a bad one, see `edgevl.preprocess.load_image`."""
    image = load_image(picture)
    return _GEOMETRIES[processing.geometry](image, processing)


def _squash(image: Image.Image, processing: ImageProcessing) -> np.ndarray:
    return resized(image, processing.size, processing.size, KERNELS[processing.kernel])


def _shortest_edge(image: Image.Image, processing: ImageProcessing) -> np.ndarray:
    """The short side becomes E, the long one int(E * long / short); then the central S x S, rounded to the top left."""
    edge, size = processing.shortest_edge or processing.size, processing.size
    short, long = sorted(image.size)
    if long > MAX_RATIO * short:
        raise InputError(f"a picture of {image.width}x{image.height} is too long: at most {MAX_RATIO} times its width")
    other = int(edge * long / short)
    width, height = (edge, other) if image.width <= image.height else (other, edge)
    pixels = resized(image, width, height, KERNELS[processing.kernel])
    top, left = (height - size) // 2, (width - size) // 2
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])


def _letterbox(image: Image.Image, processing: ImageProcessing) -> np.ndarray:
    """The long side becomes S, the short one round(S * short / long), at least 1; gray bars fill both ends of it."""
    size, long = processing.size, max(image.size)
    width, height = (max(1, (2 * size * side + long) // (2 * long)) for side in image.size)
    pixels = np.full((size, size, 3), GRAY, np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    pixels[top : top + height, left : left + width] = resized(image, width, height, KERNELS[processing.kernel])
    return pixels


_GEOMETRIES = {"squash": _squash, "shortest-edge": _shortest_edge, "letterbox": _letterbox}
