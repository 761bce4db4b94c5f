"""What Core ML does to a picture before the program sees it: uint8 pixels to one float plane for each channel."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgevl.errors import EdgeVLError

_RGB, _BGR, _GRAYSCALE = "RGB", "BGR", "GRAYSCALE"


@dataclass(frozen=True)
class ImageInput:
    """An image input of a package. Scale and bias, if any, are operators of the program, not part of this."""

    height: int
    width: int
    color: str  # RGB, BGR or GRAYSCALE: the order of the planes that the program reads

    @classmethod
    def from_description(cls, item: Any) -> "ImageInput":
        """Read a `FeatureDescription` whose type is an image."""
        image = item.type.imageType
        color = image.DESCRIPTOR.enum_types_by_name["ColorSpace"].values_by_number[image.colorSpace].name
        if color not in (_RGB, _BGR, _GRAYSCALE):
            raise EdgeVLError(
                f'image input "{item.name}" has color space {color}: only RGB, BGR and GRAYSCALE work here'
            )
        return cls(image.height, image.width, color)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the pixels that `to_planes` takes: [1, H, W, channels], RGB."""
        return (1, self.height, self.width, 1 if self.color == _GRAYSCALE else 3)

    def to_planes(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [1, H, W, C] to float32 [1, C, H, W] in 0..255."""
        if self.color == _BGR:
            pixels = pixels[..., ::-1]
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)
