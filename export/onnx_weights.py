"""Weight-only int8 ONNX: weights as int8 with a float scale for each output channel, arithmetic in float32.

A `DequantizeLinear` stands in front of each convolution and matrix product. Of an embedding table only those rows are
dequantized that are asked for, since a whole table would cost more than the rest of the model.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevl.export.passes import graph_pass
from edgevl.plans.weight_codes import quantize_channels

if TYPE_CHECKING:
    import onnx

SMALLEST = 1024  # elements: below that a scale and a node cost more than the bytes saved


READERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Gather")


def quantize_weights(
    model: "onnx.ModelProto", readers: Sequence[str] = READERS, rows: bool = True
) -> "onnx.ModelProto":
    """Return `model` with the large weights that operators of the types `readers` read in int8.

    `rows` False dequantizes tables whole, in front of the Gather: TensorRT refuses to gather rows of int8.
    The `DequantizeLinear` of a weight gives its result the weight's old name, so that nothing that reads it changes.
    """
    import onnx

    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    kept, front = [], []
    for tensor in graph.initializer:
        axis = _channel_axis(graph, tensor)
        read_by = [node for node in graph.node if tensor.name in node.input]
        if axis is None or any(node.op_type not in readers for node in read_by):
            kept.append(tensor)
            continue
        values, scale = quantize_channels(onnx.numpy_helper.to_array(tensor), axis)
        q, s = tensor.name + ".int8", tensor.name + ".scale"
        kept += [onnx.numpy_helper.from_array(values, q), onnx.numpy_helper.from_array(scale, s)]
        if rows and all(node.op_type == "Gather" for node in read_by):
            for node in read_by:
                _gather_rows(graph, node, q, s)
        else:
            front.append(onnx.helper.make_node("DequantizeLinear", [q, s], [tensor.name], name=f"dq_{q}", axis=axis))
    nodes = [*front, *graph.node]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    return quantized


@graph_pass("int8-tables", "onnx", "small", "stores large embedding tables in int8, a scale for each row")
def quantize_tables(model: "onnx.ModelProto", rows: bool = True) -> "onnx.ModelProto":
    """As `quantize_weights`, for what a Gather reads."""
    return quantize_weights(model, ("Gather",), rows)


def _channel_axis(graph: Any, tensor: Any) -> int | None:
    """The axis of the output channels of a weight; None for what is not worth it or is read in any other way."""
    import onnx

    if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
        return None
    axes = {
        _axis_of(node, index, len(tensor.dims))
        for node in graph.node
        for index, name in enumerate(node.input)
        if name == tensor.name
    }
    return axes.pop() if len(axes) == 1 else None


def _axis_of(node: Any, index: int, rank: int) -> int | None:
    """The output channels of a weight that `node` reads as its input `index`; None if that is not a weight."""
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    if (node.op_type, index) == ("Conv", 1):
        return 0
    if (node.op_type, index) == ("ConvTranspose", 1):
        return 1 if attributes.get("group", 1) == 1 else None
    if (node.op_type, index) == ("Gemm", 1):
        return 0 if attributes.get("transB", 0) else 1
    if (node.op_type, index, rank) == ("MatMul", 1, 2):
        return 1
    if (node.op_type, index, rank) == ("Gather", 0, 2) and attributes.get("axis", 0) == 0:
        return 0
    return None


def _gather_rows(graph: Any, node: Any, q: str, scale: str) -> None:
    """Replace `node`, a Gather of rows, by one of int8 rows and one of their scales, multiplied."""
    import onnx

    make, out = onnx.helper.make_node, node.output[0]
    last = onnx.numpy_helper.from_array(np.array([-1], np.int64), out + ".last")
    graph.initializer.append(last)
    nodes = [
        make("Gather", [q, node.input[1]], [out + ".int8"], name=f"rows_{out}"),
        make("Gather", [scale, node.input[1]], [out + ".row_scale"], name=f"row_scales_{out}"),
        make("Cast", [out + ".int8"], [out + ".float"], name=f"row_floats_{out}", to=onnx.TensorProto.FLOAT),
        make("Unsqueeze", [out + ".row_scale", last.name], [out + ".column"], name=f"row_columns_{out}"),
        make("Mul", [out + ".float", out + ".column"], [out], name=f"dequantized_rows_{out}"),
    ]
    place = list(graph.node).index(node)
    others = [*list(graph.node)[:place], *nodes, *list(graph.node)[place + 1 :]]
    del graph.node[:]
    graph.node.extend(others)
