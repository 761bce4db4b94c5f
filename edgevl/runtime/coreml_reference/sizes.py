"""How large a result will be, before an operator makes it: a few numbers in a file may ask for terabytes.

Only operators whose result may be much larger than what they read are listed; all others give nothing to refuse.
"""

import math
from collections.abc import Callable

import numpy as np

from .node import Node, Unknown

Size = Callable[[Node], float]


def result_elements(node: Node) -> float:
    """Return about how many elements the operator's result has (or what it computes inside); 0 for "not much"."""
    try:
        return _SIZES.get(node.type, _broadcast)(node)
    except (Unknown, ValueError, TypeError, IndexError, KeyError):  # the builder will say what is wrong
        return 0


def _broadcast(node: Node) -> float:
    """What the operands give when they are spread against each other, as elementwise operators do."""
    names = [name for name in ("x", "y", "cond", "a", "b") if node.has(name)]
    return math.prod(np.broadcast_shapes(*(node.shape(name) for name in names))) if len(names) > 1 else 0


def _gather(node: Node) -> float:
    shape, axis = node.shape(), node.axis(default=0)
    return math.prod(shape) // max(1, shape[axis]) * math.prod(node.shape("indices"))


def _gather_nd(node: Node) -> float:
    places = node.shape("indices")
    return math.prod(places[:-1]) * math.prod(node.shape()[node.param("batch_dims", 0) + places[-1] :])


def _matmul(node: Node) -> float:
    x, y = node.shape("x"), node.shape("y")
    rows = x[-1 if node.param("transpose_x", False) else -2] if len(x) > 1 else 1
    columns = y[-2 if node.param("transpose_y", False) else -1] if len(y) > 1 else 1
    return math.prod(np.broadcast_shapes(x[:-2], y[:-2])) * rows * columns


def _attention(node: Node) -> float:
    query, key = node.shape("query"), node.shape("key")
    return math.prod(query[:-1]) * max(key[-2], query[-1])


def _einsum(node: Node) -> float:
    left, right, out = node.param("equation").replace("->", ",").split(",")
    sides = dict(zip(left + right, [side for shape in node.shapes() for side in shape]))
    return math.prod(sides[letter] for letter in out)


def _pad(node: Node) -> float:
    pad, shape = node.param("pad"), list(node.shape())
    for index in range(len(pad) // 2):
        shape[len(shape) - len(pad) // 2 + index] += pad[2 * index] + pad[2 * index + 1]
    return math.prod(shape)


def _upsample(node: Node) -> float:
    factors = node.param("scale_factor_height", 1) * node.param("scale_factor_width", 1)
    return math.prod(node.shape()) * factors


def _resize_to(node: Node) -> float:
    return math.prod(node.shape()[:-2]) * node.param("target_size_height", 1) * node.param("target_size_width", 1)


def _resize(node: Node) -> float:
    dims, shape = node.param("resized_dims"), node.shape()
    sizes = [size or side for size, side in zip(node.param("shape")[-dims:], shape[-dims:])]
    return math.prod(shape[: len(shape) - dims]) * math.prod(sizes)


def _range(node: Node) -> float:
    return (node.param("end") - node.param("start")) / node.param("step")


def _conv(node: Node) -> float:
    """The output has at most the padded input's places; padding cannot be large without a large file."""
    shape = node.shape()
    return shape[0] * node.shape("weight")[0] * math.prod(shape[2:])


def _conv_transpose(node: Node) -> float:
    shape, weight, spatial = node.shape(), node.shape("weight"), node.rank() - 2
    strides, dilations = node.param("strides", [1] * spatial), node.param("dilations", [1] * spatial)
    sides = [side * s + k * d for side, s, k, d in zip(shape[2:], strides, weight[2:], dilations)]
    return shape[0] * weight[1] * node.param("groups", 1) * math.prod(sides)


_SIZES: dict[str, Size] = {
    "tile": lambda node: math.prod(node.shape()) * math.prod(node.param("reps")),
    "fill": lambda node: math.prod(node.param("shape")),
    "range_1d": _range,
    "pad": _pad,
    "one_hot": lambda node: math.prod(node.shape("indices")) * node.param("one_hot_vector_size"),
    "gather": _gather,
    "gather_nd": _gather_nd,
    "matmul": _matmul,
    "linear": lambda node: math.prod(node.shape()[:-1]) * node.shape("weight")[0],
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "upsample_nearest_neighbor": _upsample,
    "upsample_bilinear": _upsample,
    "resize_nearest_neighbor": _resize_to,
    "resize_bilinear": _resize_to,
    "resize": _resize,
    "affine": lambda node: math.prod(node.shape()[:2]) * node.param("output_height") * node.param("output_width"),
    "crop_resize": lambda node: (
        math.prod(node.shape()[:2])
        * node.shape("roi" if node.has("roi") else "boxes")[0]
        * node.param("target_height", 1)
        * node.param("target_width", 1)
    ),
    "non_maximum_suppression": lambda node: node.shape("boxes")[0] * max(node.shape("boxes")[1:]) ** 2,
    "sliding_windows": lambda node: math.prod(node.shape()) * node.param("size") / max(1, node.param("stride", 1)),
}
