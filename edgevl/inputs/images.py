"""A picture to uint8 [S, S, 3], by the image processing that a manifest declares."""

import numpy as np

from edgevl.bundle.specs import ImageProcessing
from edgevl.inputs.preprocess import ImageSource, fitted, load_image


def to_tensor(picture: ImageSource, processing: ImageProcessing) -> np.ndarray:
    """Return uint8 [S, S, 3] of a picture. Raises `InputError` for a bad one, as `load_image` does."""
    image = load_image(picture)
    return fitted(image, processing.size, processing.geometry, processing.kernel, processing.shortest_edge)
