"""The types of the values inside an ONNX graph, inferred as a runtime does when it loads the file, at a bounded price.

ONNX's own inference stores what it finds: the sides of every value, and the numbers in values that become shapes. A
chain of Unsqueeze makes values of more and more sides, and a value that is concatenated with itself forty times has
10^12 numbers. So how far that can go is bounded first, node by node.
"""

from collections.abc import Mapping
from typing import Any

from edgevl.formats.graph import elements

_LARGE = 64  # elements: longer initializers are no shapes or axes, and inference need not look into them
_MOST_SIDES = 256  # of any value; no runtime takes more than a dozen
_MOST_NUMBERS = 1024  # of a value that becomes a shape
_ONE_MORE_SIDE = {"ConcatFromSequence", "Loop", "OneHot", "Scan", "StringSplit"}
_SHAPED_BY = {"ConstantOfShape": 0, "Expand": 1, "Reshape": 1}  # which input holds the sides of the result
_INTEGERS = (6, 7)  # TensorProto.INT32, INT64


def infer_types(model: Any) -> Any:
    """The graph of a model without functions: its long weights are inputs, and a value nobody can type has no type."""
    import onnx

    bare, bounds = _without_weights(model), _Bounds(model.graph)
    inferred = bare.graph
    if bounds.sides <= _MOST_SIDES:
        try:
            inferred = onnx.shape_inference.infer_shapes(
                bare, strict_mode=False, data_prop=bounds.numbers <= _MOST_NUMBERS
            ).graph
        except Exception:  # an invalid graph: what it says of itself is all there is, and no runtime will load it
            inferred = bare.graph
    found = {value.name for value in inferred.value_info if value.type.tensor_type.elem_type}
    inferred.value_info.extend(value for value in model.graph.value_info if value.name not in found)
    return inferred


def _without_weights(model: Any) -> Any:
    import onnx

    bare = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    bare.graph.name = "graph"
    bare.graph.node.extend(model.graph.node)
    bare.graph.output.extend(model.graph.output)
    known = {tensor.name for tensor in model.graph.initializer}
    bare.graph.input.extend(value for value in model.graph.input if value.name not in known)
    for tensor in model.graph.initializer:
        if elements(tensor.dims) <= _LARGE and tensor.data_location != onnx.TensorProto.EXTERNAL:
            bare.graph.initializer.append(tensor)
        else:
            bare.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for sparse in model.graph.sparse_initializer:
        name, dtype = sparse.values.name, sparse.values.data_type
        bare.graph.input.append(onnx.helper.make_tensor_value_info(name, dtype, sparse.dims))
    return bare


class _Bounds:
    """The most sides that a value of a graph may have, and the most integers that one may be known to hold.

    Rather too many than too few: only operators that take sides away for sure are believed to.
    """

    def __init__(self, graph: Any):
        self._sides: dict[str, int] = {}
        self._numbers: dict[str, int] = {}  # 0: inference does not know what it holds
        self._read(graph)
        self.sides, self.numbers = max(self._sides.values(), default=0), max(self._numbers.values(), default=0)

    def _read(self, graph: Any) -> None:
        for value in graph.input:
            self._sides[value.name] = len(value.type.tensor_type.shape.dim)
        for tensor in graph.initializer:
            self._constant(tensor.name, tensor)
        for node in graph.node:
            attributes = {attribute.name: attribute for attribute in node.attribute}
            for attribute in node.attribute:
                for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                    self._read(inner)
            self._read_node(node, attributes)

    def _read_node(self, node: Any, attributes: Mapping[str, Any]) -> None:
        if node.op_type == "Constant" and "value" in attributes and node.output:
            self._constant(node.output[0], attributes["value"].t)
            return
        sides, numbers = self._sides_of(node, attributes), self._numbers_of(node, attributes)
        for name in node.output:
            self._sides[name], self._numbers[name] = sides, numbers

    def _constant(self, name: str, tensor: Any) -> None:
        self._sides[name] = len(tensor.dims)
        is_shape = len(tensor.dims) <= 1 and tensor.data_type in _INTEGERS
        self._numbers[name] = elements(tensor.dims) if is_shape else 0

    def _sides_of(self, node: Any, attributes: Mapping[str, Any]) -> int:
        kind, inputs = node.op_type, [*node.input, "", ""]
        data, second = self._sides.get(inputs[0], 0), self._sides.get(inputs[1], 0)
        if kind in ("Squeeze", "Unsqueeze"):
            count = len(attributes["axes"].ints) if "axes" in attributes else self._numbers.get(inputs[1], 0)
            return data + count if kind == "Unsqueeze" else max(0, data - count)
        if kind in ("Gather", "GatherND"):
            return max(0, data + second - 1)
        if kind in _SHAPED_BY:
            return max(data if kind == "Expand" else 0, self._numbers.get(inputs[_SHAPED_BY[kind]], 0))
        if kind == "Flatten":
            return 2
        most = max((self._sides.get(name, 0) for name in node.input), default=0)
        named = max((len(attributes[name].ints) for name in ("shape", "value_ints") if name in attributes), default=0)
        equation = len(attributes["equation"].s) if "equation" in attributes else 0
        return max(most + (kind in _ONE_MORE_SIDE), named if kind != "Constant" else 1, equation)

    def _numbers_of(self, node: Any, attributes: Mapping[str, Any]) -> int:
        if node.op_type == "Shape":
            return max((self._sides.get(name, 0) for name in node.input), default=0)
        held = [self._numbers.get(name, 0) for name in node.input]
        written = len(attributes["value_ints"].ints) if "value_ints" in attributes else 0
        return min(max(written, sum(held) if node.op_type == "Concat" else max(held, default=0)), 2 * _MOST_NUMBERS)
