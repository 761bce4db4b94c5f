"""What a program takes and gives, as Core ML shows it to an app: arrays, images, states, labels; fixed or flexible."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .seam import InputError

Shape = tuple[int, ...]
OPEN = -1  # a side that is not known before the program runs
COLORS = {"RGB": 3, "BGR": 3, "GRAYSCALE": 1, "GRAYSCALE_FLOAT16": 1}  # channels


@dataclass(frozen=True)
class Flexible:
    """The shapes that an input may have: one of a list, or a range for each side."""

    shapes: tuple[Shape, ...] = ()
    ranges: tuple[tuple[int, float], ...] = ()  # lowest and highest, both allowed

    def allows(self, shape: Shape) -> bool:
        """May the input have this shape?"""
        if self.shapes:
            return shape in self.shapes
        return len(shape) == len(self.ranges) and all(low <= s <= high for s, (low, high) in zip(shape, self.ranges))

    def __str__(self) -> str:
        if self.shapes:
            return " or ".join(str(list(shape)) for shape in self.shapes)
        return f"[{', '.join(map(_range, self.ranges))}]"


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of an input or output. A classifier's outputs have the dtypes `label` and `dict`."""

    name: str
    dtype: str
    shape: Shape  # of a flexible input the default; in an output -1 where only a run tells
    flexible: Flexible | None = None
    color: str = ""  # of an image: RGB, BGR, GRAYSCALE, GRAYSCALE_FLOAT16, as the program has it
    default: float | None = None  # every entry of an optional input that is left out

    @property
    def is_array(self) -> bool:
        """Is it an array, and not a classifier's label or dictionary?"""
        return self.dtype not in ("label", "dict")

    def allows(self, shape: Shape) -> bool:
        """May the input have this shape?"""
        return self.flexible.allows(shape) if self.flexible else shape == self.shape

    def __str__(self) -> str:
        sides = str(self.flexible or [side if side != OPEN else "?" for side in self.shape]).replace("'", "")
        optional = "" if self.default is None else f" (optional, {self.default:g})"
        return f"{self.name} {self.dtype} {sides}{optional}"


@dataclass(frozen=True)
class Description:
    """One function's part of a package's `ModelDescription`."""

    inputs: Mapping[str, Any]  # coremltools.proto.Model_pb2.FeatureDescription, by name
    outputs: Mapping[str, Any]


def describe(model: Any, function: str) -> Description:
    """Return what a package says of a function: in a package of several, each has its own inputs and outputs."""
    source = next((item for item in model.functions if item.name == function), model)
    return Description({item.name: item for item in source.input}, {item.name: item for item in source.output})


def input_spec(name: str, dtype: str, shape: tuple[int | None, ...], description: Description) -> TensorSpec:
    """Return the spec of an input.

    Args:
        dtype: of the program's variable, as NumPy names it.
        shape: likewise; `None` for a side that the program leaves open.
    Raises:
        InputError: an open side that the description does not give, or a color space that is not known.
    """
    feature = description.inputs.get(name)
    kind = feature.type.WhichOneof("Type") if feature is not None else ""
    if feature is not None and kind == "imageType":
        return _image_spec(name, feature.type.imageType, shape)
    array = feature.type.multiArrayType if feature is not None and kind == "multiArrayType" else None
    optional = bool(feature is not None and feature.type.isOptional)
    spec = TensorSpec(name, dtype, _filled(shape), default=_default(array) if optional else None)
    if None not in shape:
        return spec
    if array is None:
        raise InputError(f'input "{name}" has open sides, {shape_text(shape)}, and the package does not say which')
    flexible = _array_shapes(array)
    default = tuple(array.shape) or (flexible.shapes or ((),))[0]
    if len(default) != len(shape) or not flexible.allows(default):
        raise InputError(f'input "{name}" has no default shape among those that the package allows: {flexible}')
    return replace(spec, shape=default, flexible=flexible)


def output_spec(name: str, dtype: str, shape: tuple[int | None, ...], description: Description) -> TensorSpec:
    """Return the spec of an output. An image comes as pixels, as Core ML gives it."""
    feature = description.outputs.get(name)
    if feature is not None and feature.type.WhichOneof("Type") == "imageType":
        return replace(_image_spec(name, feature.type.imageType, shape), flexible=None, shape=_pixel_shape(shape))
    return TensorSpec(name, dtype, _filled(shape))


def shape_text(shape: Iterable[int | None]) -> str:
    """A shape with "?" for open sides."""
    return f"[{', '.join('?' if side is None else str(side) for side in shape)}]"


def _image_spec(name: str, image: Any, shape: tuple[int | None, ...]) -> TensorSpec:
    known = image.DESCRIPTOR.enum_types_by_name["ColorSpace"].values_by_number.get(image.colorSpace)
    color = known.name if known is not None else str(image.colorSpace)
    if color not in COLORS:
        raise InputError(f'image "{name}" has color space {color}; known: {", ".join(COLORS)}')
    if len(shape) != 4 or shape[1] not in (COLORS[color], None):
        raise InputError(f'image "{name}" of {color} is {shape_text(shape)} in the program, not planes [1, C, H, W]')
    dtype = "float16" if color == "GRAYSCALE_FLOAT16" else "uint8"
    pixels = (1, image.height, image.width, COLORS[color])
    flexible = _image_shapes(image, COLORS[color]) if None in shape else None
    return TensorSpec(name, dtype, pixels, flexible, color)


def _pixel_shape(shape: tuple[int | None, ...]) -> Shape:
    """[N, C, H, W] to [N, H, W, C]."""
    n, c, height, width = _filled(shape)
    return (n, height, width, c)


def _filled(shape: tuple[int | None, ...]) -> Shape:
    return tuple(OPEN if side is None else side for side in shape)


def _default(array: Any) -> float | None:
    """What every entry of an optional input is: the package's default, 0 where it gives none."""
    which = array.WhichOneof("defaultOptionalValue") if array is not None else None
    return float(getattr(array, which)) if which else 0.0


def _array_shapes(array: Any) -> Flexible:
    if array.WhichOneof("ShapeFlexibility") == "enumeratedShapes":
        return Flexible(shapes=tuple(tuple(item.shape) for item in array.enumeratedShapes.shapes))
    return Flexible(ranges=tuple(map(_bounds, array.shapeRange.sizeRanges)))


def _image_shapes(image: Any, channels: int) -> Flexible:
    if image.WhichOneof("SizeFlexibility") == "enumeratedSizes":
        return Flexible(tuple((1, size.height, size.width, channels) for size in image.enumeratedSizes.sizes))
    size = image.imageSizeRange
    return Flexible(ranges=((1, 1), _bounds(size.heightRange), _bounds(size.widthRange), (channels, channels)))


def _bounds(size: Any) -> tuple[int, float]:
    """An upper bound of -1 is none."""
    return size.lowerBound, (math.inf if size.upperBound < 0 else size.upperBound)


def _range(bounds: tuple[int, float]) -> str:
    low, high = bounds
    return str(low) if low == high else f"{low}..{'' if high == math.inf else high}"
