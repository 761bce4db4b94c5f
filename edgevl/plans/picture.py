"""Pixels are integers already: what int8 makes of the normalization in front of the first convolution.

`(pixel - mean) / std` would be computed in float and then rounded. Instead the first convolution takes `pixel - 128`,
which int8 and uint8 hold exactly; 1 / std goes into its weights and what is left of the mean into its bias. Where the
convolution pads, its zeros then stand for pixel 128 instead of the mean: at most half a level of 255 away.
"""

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from edgevl.plans.plan import Range
from edgevl.plans.values import operator_name

_MAX_SHIFT = 1.0  # levels: with other means padding would no longer be what it was


def take_integer_pixels(model: GraphModule) -> dict[Node, Range]:
    """Rewrite the front of a captured model, in place. Returns the node that is `pixel - c`, and its range.

    Nothing happens (and the result is empty) where the first convolution does not read the normalized picture
    directly, or where the means of the channels are more than a level apart.
    """
    for convolution in model.graph.nodes:
        if operator_name(convolution) == "conv" and (found := _normalization(model, convolution)):
            return _rewrite(model, convolution, *found)
    return {}


def _normalization(model: GraphModule, convolution: Node) -> tuple[Node, Tensor, Tensor] | None:
    """The node `pixel - mean` in front of a convolution, mean and 1 / std of each channel [3]; None if not there."""
    scaled: Any = convolution.args[0]
    shifted: Any = scaled.args[0] if operator_name(scaled) == "mul" else None
    if shifted is None or operator_name(shifted) != "sub":
        return None
    constants = [_constant(model, node.args[1]) for node in (shifted, scaled)]
    if any(constant is None or constant.numel() not in (1, 3) for constant in constants):
        return None
    mean, inverse_std = (constant.reshape(-1).expand(3) for constant in constants if constant is not None)
    return (shifted, mean, inverse_std) if float(mean.max() - mean.min()) <= _MAX_SHIFT else None


def _rewrite(
    model: GraphModule, convolution: Node, shifted: Node, mean: Tensor, inverse_std: Tensor
) -> dict[Node, Range]:
    middle = float(torch.ceil(mean.mean()))
    weight, bias = _constant(model, convolution.args[1]), _constant(model, (*convolution.args, None)[2])
    assert weight is not None, "torch.export makes a convolution's weight a constant"
    scaled = weight * inverse_std.reshape(1, 3, 1, 1)
    moved = (scaled * (middle - mean).reshape(1, 3, 1, 1)).sum((1, 2, 3))
    with model.graph.inserting_before(convolution):
        pixels = model.graph.call_function(shifted.target, (shifted.args[0], middle))  # pyright: ignore
        constants = [_new_constant(model, name, value) for name, value in (
            ("pixel_weight", scaled), ("pixel_bias", moved if bias is None else bias + moved),
        )]  # fmt: skip
    pixels.meta = dict(shifted.meta)
    convolution.args = (pixels, *constants, *convolution.args[3:])
    model.graph.eliminate_dead_code()
    model.recompile()
    return {pixels: Range(low=-middle, high=255 - middle)}


def _constant(model: GraphModule, node: Any) -> Tensor | None:
    if not isinstance(node, Node) or node.op != "get_attr":
        return None
    value: Any = model
    for name in str(node.target).split("."):
        value = getattr(value, name)
    return value.detach()


def _new_constant(model: GraphModule, name: str, value: Tensor) -> Node:
    model.register_buffer(name, value.contiguous())
    node = model.graph.get_attr(name)
    node.meta["val"] = value
    return node
