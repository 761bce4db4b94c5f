"""The operators of an ONNX file: the dtype and shape of what each computes, its multiply-adds, what they are done in.

Types are inferred from the weights and the inputs, as a runtime does when it loads the file. What the file itself says
of its inner values (`value_info`) is only used where nothing can be inferred: it may be missing or wrong.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from edgevl.errors import VerificationFailed
from edgevl.formats import Operation, bits_of
from edgevl.formats.graph import (
    Backwards,
    Shape,
    Step,
    attention_macs,
    constant_values,
    convolution_macs,
    einsum_macs,
    integer_compute,
    live_values,
    product_macs,
    transposed_convolution_macs,
)
from edgevl.formats.onnx_inference import infer_types

_MOST_NODES = 300_000  # a few functions that call each other twice are more operators than any machine holds
_STANDARD = ("", "ai.onnx")
# An operator that only moves numbers: a kernel that takes quantized operands takes them through it too.
_MOVES = {"Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
_INTEGER = {"ConvInteger": (0, 1), "MatMulInteger": (0, 1), "QLinearConv": (0, 3), "QLinearMatMul": (0, 3)}
_OPERANDS = {
    "Attention": (0, 1), "Conv": (0, 1), "ConvTranspose": (0, 1), "Einsum": (0, 1), "Gemm": (0, 1), "MatMul": (0, 1),
    **_INTEGER,
}  # fmt: skip
_VENDOR_PRODUCTS = ("Attention", "Conv", "Gemm", "MatMul")  # in a type's name: com.microsoft has FusedMatMul, QGemm ...


def read_operations(model: Any) -> tuple[Operation, ...]:
    """Every operator, those of subgraphs too (counted once, however often a loop runs). Functions are inlined."""
    model = _inlined(model)
    walked = list(_walk(infer_types(model)))
    nodes = [node for node, _ in walked]
    steps = list(steps_of(nodes))
    live = live_values(steps, [value.name for value in model.graph.output])
    graphs = [*_all_graphs(model.graph)]
    tensors = [tensor.name for graph in graphs for tensor in graph.initializer]
    tensors += [sparse.values.name for graph in graphs for sparse in graph.sparse_initializer]
    constants = [name for node in nodes if node.op_type == "Constant" for name in node.output]
    fixed = constant_values(steps, ["", *tensors, *constants])
    quantized = Backwards(_origin({name: (node, types) for node, types in walked for name in node.output}))
    return tuple(
        _operation(node, types, quantized, live, fixed) for node, types in walked if node.op_type != "Constant"
    )


def dtype_name(data_type: int) -> str:
    """What NumPy calls an element type of ONNX; "" for one that is not known."""
    import onnx

    name = onnx.TensorProto.DataType.Name(data_type).lower() if data_type else ""
    return {"float": "float32", "double": "float64"}.get(name, name)


def shape_of(kind: Any) -> Shape:
    """Sides of a tensor type; -1 for one that is not fixed."""
    return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)


def subgraphs(node: Any) -> list[Any]:
    graphs = []
    for attribute in node.attribute:
        graphs += [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
    return graphs


def steps_of(nodes: Iterable[Any]) -> Iterator[Step]:
    """What each node reads, with the results of its subgraphs, and writes. The nodes inside are steps of their own."""
    for node in nodes:
        inner = [value.name for graph in subgraphs(node) for value in graph.output]
        yield Step((*node.input, *inner), tuple(name for name in node.output if name))


def _all_graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from _all_graphs(inner)


class _Scope:
    """The types of the values that the nodes of a graph see: its own, and those of the graphs around it."""

    def __init__(self, graph: Any, outer: "_Scope | None"):
        self._own, self._outer = dict(_value_types(graph)), outer

    def get(self, name: str) -> tuple[str, Shape | None]:
        """("", None) for a value that has no type."""
        scope: _Scope | None = self
        while scope is not None:
            if name in scope._own:
                return scope._own[name]
            scope = scope._outer
        return "", None


def _walk(graph: Any, outer: _Scope | None = None) -> Iterator[tuple[Any, _Scope]]:
    """Every node with the types that it sees."""
    types = _Scope(graph, outer)
    for node in graph.node:
        yield node, types
        for inner in subgraphs(node):
            yield from _walk(inner, types)


def _value_types(graph: Any) -> Iterator[tuple[str, tuple[str, Shape | None]]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        yield value.name, (dtype_name(kind.elem_type), shape_of(kind) if kind.HasField("shape") else None)
    for tensor in graph.initializer:
        yield tensor.name, (dtype_name(tensor.data_type), tuple(tensor.dims))
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, (dtype_name(sparse.values.data_type), tuple(sparse.dims))


def _inlined(model: Any) -> Any:
    """The model without functions. Raises `VerificationFailed` if they call themselves or blow up the file."""
    import onnx.inliner

    if not model.functions:
        return model
    bodies = {(function.domain, function.name): function.node for function in model.functions}
    if _expanded(model.graph.node, bodies, {}, ()) > _MOST_NODES:
        raise VerificationFailed(f"its functions expand to more than {_MOST_NODES:,} operators")
    return onnx.inliner.inline_local_functions(model)


def _expanded(nodes: Iterable[Any], bodies: Mapping[Any, Any], known: dict[Any, int], path: tuple[Any, ...]) -> int:
    """Operators after inlining. `known` remembers functions that were counted, `path` the calls around this one."""
    total = 0
    for node in nodes:
        total += 1 + sum(_expanded(graph.node, bodies, known, path) for graph in subgraphs(node))
        key = (node.domain, node.op_type)
        if key in path:
            raise VerificationFailed(f"its function {node.op_type} calls itself")
        if key in bodies:
            if key not in known:
                known[key] = _expanded(bodies[key], bodies, known, (*path, key))
            total += known[key]
    return total


def _operation(node: Any, types: _Scope, quantized: Backwards, live: set[str], fixed: set[str]) -> Operation:
    name = node.output[0] if node.output else node.name
    dtype, shape = types.get(name)
    used, constant = not live.isdisjoint(node.output), name in fixed
    domain = "" if node.domain in _STANDARD else node.domain
    own = not domain and node.op_type in _OPERANDS
    macs = _macs(node, types) if own else 0
    compute = _compute(node, quantized, types) if macs else ""
    counted = macs > 0 if own else not (domain and any(word in node.op_type for word in _VENDOR_PRODUCTS))
    return Operation(node.op_type, name, dtype, shape or (), macs, compute, used, constant, counted, domain)


def _macs(node: Any, types: _Scope) -> int:
    """Multiply-adds; 0 where the shapes of the operands or of the result are not known."""
    left, right = (types.get(node.input[index])[1] for index in _OPERANDS[node.op_type])
    output = types.get(node.output[0])[1]
    if left is None or right is None or output is None:
        return 0
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if "ConvTranspose" in node.op_type:
        return transposed_convolution_macs(left, right)
    if "Conv" in node.op_type:
        return convolution_macs(output, right)
    if node.op_type == "Einsum":
        return einsum_macs(attributes["equation"].s.decode(), [left, right][: len(node.input)])
    if node.op_type == "Attention":
        return attention_macs(left, right, output)
    if node.op_type == "Gemm" and "transA" in attributes and attributes["transA"].i:
        return product_macs(output, left[0])
    return product_macs(output, left[-1])


def _compute(node: Any, quantized: Backwards, types: _Scope) -> str:
    """The dtype that the operands are multiplied in: an integer one only if both are quantized."""
    operands = [node.input[index] for index in _OPERANDS[node.op_type]]
    if node.op_type in _INTEGER:
        return integer_compute(*(types.get(name)[0] for name in operands))
    stored = [quantized(name) for name in operands]
    if all(stored):
        return integer_compute(*stored)
    floats = [types.get(name)[0] for name in operands]
    return max(floats, key=bits_of) if all(floats) else ""


def _origin(producers: Mapping[str, tuple[Any, _Scope]]) -> Callable[[str], tuple[str, str]]:
    """A step of `Backwards` to the integer dtype that a float value is dequantized from; "" if it is not."""

    def step(name: str) -> tuple[str, str]:
        node, types = producers.get(name, (None, None))
        if node is None or types is None or not node.input:
            return "", ""
        if node.op_type == "DequantizeLinear":
            return types.get(node.input[0])[0], ""
        return "", node.input[0] if node.op_type in _MOVES else ""

    return step
