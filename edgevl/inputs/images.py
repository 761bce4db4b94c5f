"""A picture to uint8 [S, S, 3], by the image processing that a manifest declares."""

from collections.abc import Iterable

import numpy as np

from edgevl import pictures
from edgevl.bundle.specs import ImageProcessing
from edgevl.inputs.preprocess import ImageSource, fitted, load_image


def scale_of(processings: Iterable[ImageProcessing]) -> pictures.Resized | None:
    """Return how `load_image` may decode a JPEG for all these processings; None if whole."""
    return pictures.covering(each.model_dump() for each in processings)


def to_tensor(
    picture: ImageSource, processing: ImageProcessing, among: Iterable[ImageProcessing] | None = None
) -> np.ndarray:
    """Return uint8 [S, S, 3] of a picture. Raises `InputError` for a bad one, as `load_image` does.

    `among`: all processings of the model, which decide together how a JPEG is decoded; None is this one alone.
    """
    image = load_image(picture, scale_of([processing] if among is None else among))
    return fitted(image, processing.size, processing.geometry, processing.kernel, processing.shortest_edge)
