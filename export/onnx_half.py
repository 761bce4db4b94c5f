"""float16 ONNX, strongly typed: every value is half precision but where half precision breaks a model.

Layer norm, softmax and what squares or sums its input stay in float32 between two casts: a sum of 128 squares of 30 is
past 65 504, and attention over many tokens loses its small weights. A strongly typed file says so itself: TensorRT 11
demands that, TensorRT 10 accepts it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevl.errors import InputError

if TYPE_CHECKING:
    import onnx

KEEP_FLOAT = {
    "Exp", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LogSoftmax", "LpNormalization",
    "Pow", "Reciprocal", "ReduceL2", "ReduceLogSumExp", "ReduceSum", "ReduceSumSquare", "RMSNormalization", "Softmax",
    "Sqrt",
}  # fmt: skip
_ALWAYS_FLOAT = {"Resize": {2}}  # inputs that ONNX defines as float32, whatever the operator computes in
_LARGEST = float(np.finfo(np.float16).max)


def to_half(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return `model`, a float32 graph without subgraphs, in float16. Its inputs and outputs keep their dtypes.

    Raises:
        InputError: a weight is too large for half precision; the message names it.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    half = onnx.ModelProto()
    half.CopyFrom(model)
    half.graph.ClearField("value_info")
    _Converter(half.graph, _float_values(inferred.graph)).convert()
    return half


def _float_values(graph: Any) -> set[str]:
    """Names of the float32 values of a graph whose shapes are inferred."""
    import onnx

    values = (*graph.input, *graph.output, *graph.value_info)
    names = {value.name for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    return names | {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}


class _Converter:
    """Rewrites a graph in place. A value keeps its name in half precision; its float32 twin is `NAME.fp32`."""

    def __init__(self, graph: Any, floats: set[str]):
        self.graph, self.floats = graph, floats
        self.weights = {tensor.name: tensor for tensor in graph.initializer if tensor.name in floats}
        self.outputs = {value.name for value in graph.output}
        self.twins: set[str] = set()  # values that exist in float32 too
        self.halves: set[str] = set()  # weights that exist in half precision
        self.read_half = {name for node in graph.node if node.op_type not in KEEP_FLOAT for name in node.input}
        self.nodes: list[Any] = []

    def convert(self) -> None:
        nodes = list(self.graph.node)
        for value in self.graph.input:
            if value.name in self.floats:
                self._cast(value.name, value.name + ".fp16", half=True)
        for node in nodes:
            self._convert_node(node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        kept = [self._weight(tensor) for tensor in self.graph.initializer]
        del self.graph.initializer[:]
        self.graph.initializer.extend(tensor for tensors in kept for tensor in tensors)

    def _convert_node(self, node: Any) -> None:
        if node.op_type in KEEP_FLOAT:
            node.input[:] = [self._as_float(name) for name in node.input]
            results = [name for name in node.output if name in self.floats]
            node.output[:] = [self._twin(name) if name in self.floats else name for name in node.output]
            self.nodes.append(node)
            for name in results:
                self.twins.add(name)
                self._finish_output(name, self._twin(name), half=False)
            return
        always = _ALWAYS_FLOAT.get(node.op_type, set())
        node.input[:] = [
            self._as_float(name) if index in always else self._as_half(name) for index, name in enumerate(node.input)
        ]
        _retype_attributes(node)
        results = [name for name in node.output if name in self.floats & self.outputs]
        node.output[:] = [name + ".fp16" if name in results else name for name in node.output]
        self.nodes.append(node)
        for name in results:
            self._finish_output(name, name + ".fp16", half=True)

    def _finish_output(self, name: str, source: str, half: bool) -> None:
        """An output of the graph stays float32; what flows on inside is cast to half after an operator in float32."""
        if name in self.outputs:
            self._cast(source, name, half=False) if half else self._identity(source, name)
        if not half and name in self.read_half:
            self._cast(source, self._half_name(name), half=True)

    def _half_name(self, name: str) -> str:
        """What a value is called in half precision: inputs and outputs of the graph keep their names for float32."""
        outer = name in self.outputs or any(name == value.name for value in self.graph.input)
        return name + ".fp16" if outer else name

    @staticmethod
    def _twin(name: str) -> str:
        return name + ".fp32"

    def _as_half(self, name: str) -> str:
        if name not in self.floats:
            return name
        if name in self.weights:
            self.halves.add(name)
            return name
        return self._half_name(name)

    def _as_float(self, name: str) -> str:
        if name not in self.floats:
            return name
        if name not in self.twins:
            self.twins.add(name)
            if name not in self.weights:
                self._cast(self._half_name(name), self._twin(name), half=False)
        return self._twin(name)

    def _cast(self, source: str, target: str, half: bool) -> None:
        import onnx

        dtype = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
        self.nodes.append(onnx.helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=dtype))

    def _identity(self, source: str, target: str) -> None:
        import onnx

        self.nodes.append(onnx.helper.make_node("Identity", [source], [target], name=f"identity_{target}"))

    def _weight(self, tensor: Any) -> Iterator[Any]:
        """The precisions of a weight that something reads."""
        import onnx

        if tensor.name not in self.weights:
            yield tensor
            return
        value = onnx.numpy_helper.to_array(tensor)
        if tensor.name in self.twins:
            yield onnx.numpy_helper.from_array(value, self._twin(tensor.name))
        if tensor.name in self.halves:
            yield onnx.numpy_helper.from_array(as_half(value, tensor.name), tensor.name)


def as_half(value: np.ndarray, name: str) -> np.ndarray:
    """Round to float16. Raises `InputError`, naming the weight, for one that would become infinite."""
    largest = float(np.abs(value).max(initial=0.0))
    if largest > _LARGEST:
        raise InputError(f"weight {name} holds {largest:g}, float16 ends at {_LARGEST:g}: export it as fp32")
    return value.astype(np.float16)


def _retype_attributes(node: Any) -> None:
    """Casts to float32 and constants inside a node become half precision."""
    import onnx

    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
            attribute.i = onnx.TensorProto.FLOAT16
        elif attribute.HasField("t") and attribute.t.data_type == onnx.TensorProto.FLOAT:
            value = as_half(onnx.numpy_helper.to_array(attribute.t), node.output[0])
            attribute.t.CopyFrom(onnx.numpy_helper.from_array(value))
