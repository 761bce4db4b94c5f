"""Resizing inside the program."""

import torch.nn.functional as F

from edgevl.runtime.coreml_reference.ops import Kernel, Node, UnsupportedOp, mil_op


@mil_op("upsample_nearest_neighbor", exact=True)
def _upsample_nearest(node: Node) -> Kernel:
    size = node.output_shape()[2:]
    return lambda x: F.interpolate(x, size, mode="nearest")


@mil_op("upsample_bilinear")
def _upsample_bilinear(node: Node) -> Kernel:
    if not node.param("align_corners", True) and not node.param("half_pixel_centers", True):
        raise UnsupportedOp(f"{node}: neither align_corners nor half_pixel_centers")
    size, align = node.output_shape()[2:], node.param("align_corners", True)
    return lambda x: F.interpolate(x, size, mode="bilinear", align_corners=align)


@mil_op("resize_bilinear")
def _resize_bilinear(node: Node) -> Kernel:
    """The sampling modes that torch has; the others need a grid of their own and no exporter of ours writes them."""
    size, mode = node.output_shape()[-2:], node.param("sampling_mode", "DEFAULT")
    aligned = {"STRICT_ALIGN_CORNERS": True, "UNALIGN_CORNERS": False}
    if mode not in aligned:
        raise UnsupportedOp(f'{node}: sampling_mode "{mode}"')
    return lambda x: F.interpolate(x, size, mode="bilinear", align_corners=aligned[mode])
