"""Reading a picture at computed places: resample (torch's grid_sample), affine, crop_resize (RoI align).

Pixel coordinates below count from the center of the first pixel: 0 .. side - 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .ops import Kernel, Node, UnsupportedOp, mil_op

# torch's name, and whether borders are reflected about the centers of the border pixels (True) or about their edges
_PADDING = {
    "constant": ("zeros", False),
    "border": ("border", False),
    "reflection": ("reflection", True),
    "symmetric": ("reflection", False),
}

_SLACK = 1e-3  # rounding of half precision at 1


@mil_op("resample", operands=("x", "coordinates"))
def _resample(node: Node) -> Kernel:
    padding, centers = _PADDING[node.choice("padding_mode", _PADDING)]
    mode, align = node.param("coordinates_mode"), node.param("align_corners")
    interpolation, value = node.param("sampling_mode"), node.param("padding_value", 0.0)
    fill = value if padding == "zeros" else 0.0

    def resample(x: Tensor, coordinates: Tensor) -> Tensor:
        sides = torch.tensor(x.shape[:1:-1], dtype=torch.float32)  # W, H: coordinates are (x, y)
        places = _to_pixels(coordinates.float(), sides, mode, align)
        grid = 2 * places / (sides - 1).clamp(min=1) - 1 if centers else (2 * places + 1) / sides - 1
        return F.grid_sample(x - fill, grid, interpolation, padding, align_corners=centers) + fill

    return resample


def _to_pixels(places: Tensor, sides: Tensor, mode: str, align: bool) -> Tensor:
    if mode == "unnormalized":
        return places
    if mode == "normalized_minus_one_to_one":
        places = (places + 1) / 2
    return places * (sides - 1) if align else places * sides - 0.5


@mil_op("affine", operands=("x", "transform_matrix"))
def _affine(node: Node) -> Kernel:
    """coremltools allows one kind only: bilinear, zeros outside, corners aligned."""
    size = [node.param("output_height"), node.param("output_width")]

    def affine(x: Tensor, matrix: Tensor) -> Tensor:
        n, c = x.shape[:2]
        grid = F.affine_grid(matrix.reshape(-1, 2, 3).expand(n, 2, 3), [n, c, *size], align_corners=True)
        return F.grid_sample(x, grid, "bilinear", "zeros", align_corners=True)

    return affine


@mil_op("crop_resize", operands=("x", "roi", "boxes", "box_indices"))
def _crop_resize(node: Node) -> Kernel:
    """Up to iOS16 `roi` is [N, 1, 4 or 5, 1, 1]: each box is cut from every picture, or from the one that the first of
    five numbers names. From iOS17 on there are `boxes` [N, 4] and `box_indices` [N]."""
    if node.has("roi") and node.shape("roi")[2] == 5 and node.shape()[0] > 1:
        raise UnsupportedOp(f"{node}: boxes with an index for a batch of several pictures")
    size = (node.param("target_height", 1), node.param("target_width", 1))
    read_boxes, fill, mode = _box_reader(node), node.param("pad_value", 0.0), node.param("sampling_mode", "DEFAULT")

    def crop_resize(x: Tensor, roi: Tensor | None, boxes: Tensor | None, indices: Tensor | None) -> Tensor:
        flat = boxes if roi is None else roi.flatten(1)
        if flat is None:
            raise ValueError("there are no boxes")
        if flat.shape[1] == 5:
            indices, flat = flat[:, 0], flat[:, 1:]
        elif roi is None and indices is None:
            indices = torch.arange(len(flat))
        pictures = [x] * len(flat) if indices is None else [x[int(i)][None] for i in indices]
        crops = [_crop(picture, box, size, mode, fill) for picture, box in zip(pictures, read_boxes(flat.float()))]
        return torch.cat(crops) if roi is None else torch.stack(crops)

    return crop_resize


def _box_reader(node: Node):
    """Return a function [N, 4] -> [N, 4]: any convention to (top, left, bottom, right) in pixel coordinates."""
    convention, scale = node.param("box_coordinate_mode", "CORNERS_HEIGHT_FIRST"), node.param("spatial_scale", 1.0)
    last: Tensor | float = 1.0
    normalized = node.param("normalized_coordinates", False)
    if normalized:
        height, width = node.shape()[-2:]
        last = torch.tensor([height - 1.0, width - 1.0] * 2)

    def read(boxes: Tensor) -> Tensor:
        if convention.endswith("WIDTH_FIRST"):
            boxes = boxes[:, [1, 0, 3, 2]]
        if convention.startswith("CENTER"):
            center, half = boxes[:, :2], boxes[:, 2:] / 2
            boxes = torch.cat([center - half, center + half], 1)
        boxes = boxes * scale
        if normalized and not node.has("pad_value") and not ((boxes > -_SLACK) & (boxes < 1 + _SLACK)).all():
            raise UnsupportedOp(f"{node}: a box outside 0..1 is defined from iOS16 on")
        return boxes * last

    return read


def _crop(picture: Tensor, box: Tensor, size: tuple[int, ...], mode: str, fill: float) -> Tensor:
    """picture: [B, C, H, W]; the crop [B, C, *size]. Points outside the picture are `fill`."""
    out = picture
    for axis, (first, last, count) in enumerate(zip(box[:2].tolist(), box[2:].tolist(), size), start=-2):
        side = picture.shape[axis]
        points = _box_points(first, last, count, mode)
        low = points.floor().long().clamp(0, side - 1)
        weight = (points - low).clamp(0, 1).float().reshape(-1, *(1,) * (-1 - axis))
        out = torch.lerp(out.index_select(axis, low), out.index_select(axis, (low + 1).clamp(max=side - 1)), weight)
        outside = ((points < 0) | (points > side - 1)).reshape(weight.shape)
        out = torch.where(outside, torch.tensor(fill), out)
    return out


def _box_points(first: float, last: float, count: int, mode: str) -> Tensor:
    """Where the samples of a box lie, [count]: the sampling modes of `resize_bilinear`, from `first` to `last`."""
    steps = torch.arange(count, dtype=torch.float64)
    if mode == "ALIGN_CORNERS" and count == 1:
        return (first + last) / 2 + steps
    if mode in ("ALIGN_CORNERS", "STRICT_ALIGN_CORNERS"):
        return first + steps * (last - first) / max(1, count - 1)
    if mode == "OFFSET_CORNERS":
        return first + (steps + 0.5) * (last - first) / count
    spacing = (last - first + 1) / count
    points = first + (steps * spacing if mode == "DEFAULT" else (steps + 0.5) * spacing - 0.5)
    return points.clamp(min(first, last), max(first, last))
