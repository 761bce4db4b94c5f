"""The operators of an ONNX file: the dtype and shape of what each computes, its multiply-adds, what they are done in.

Types are inferred from the weights and the inputs, as a runtime does when it loads the file. What the file itself says
of its inner values (`value_info`) is only used where nothing can be inferred: it may be missing or wrong.
"""

import math
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edgevl.contents import Operation, bits_of
from edgevl.contents.graph import (
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
from edgevl.errors import VerificationFailed

Types = Mapping[str, tuple[str, Shape | None]]  # value -> dtype, shape; None: not even the rank is known
_MOST_NODES = 1_000_000  # a few functions that call each other twice are more operators than any machine holds
_STANDARD = ("", "ai.onnx")
_LARGE = 64  # elements: longer initializers are no shapes or axes, and inference need not look into them
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
    walked = list(_walk(_inferred(model), {}))
    nodes = [node for node, _ in walked]
    steps = list(steps_of(nodes))
    live = live_values(steps, [value.name for value in model.graph.output])
    graphs = [*_all_graphs(model.graph)]
    tensors = [tensor.name for graph in graphs for tensor in graph.initializer]
    tensors += [sparse.values.name for graph in graphs for sparse in graph.sparse_initializer]
    constants = [name for node in nodes if node.op_type == "Constant" for name in node.output]
    fixed = constant_values(steps, ["", *tensors, *constants])
    producers = {name: (node, types) for node, types in walked for name in node.output}
    return tuple(
        _operation(node, types, producers, live, fixed) for node, types in walked if node.op_type != "Constant"
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
    for node in nodes:
        inner = [name for graph in subgraphs(node) for name in _reads_of(graph)]
        yield Step((*node.input, *inner), tuple(name for name in node.output if name))


def _reads_of(graph: Any) -> Iterator[str]:
    yield from (value.name for value in graph.output)
    for step in steps_of(graph.node):
        yield from step.reads


def _all_graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from _all_graphs(inner)


def _walk(graph: Any, outer: Mapping[str, Any]) -> Iterator[tuple[Any, Types]]:
    """Every node with the types that it sees: those of its own graph and of the graphs around it."""
    types: Types = ChainMap(dict(_value_types(graph)), *([outer] if outer else []))  # pyright: ignore[reportArgumentType]
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


def _inferred(model: Any) -> Any:
    """The graph without its long weights, with the types of its inner values. A value nobody can type has none."""
    import onnx

    bare = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    bare.graph.name = "graph"
    bare.graph.node.extend(model.graph.node)
    bare.graph.output.extend(model.graph.output)
    known = {tensor.name for tensor in model.graph.initializer}
    bare.graph.input.extend(value for value in model.graph.input if value.name not in known)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _LARGE and tensor.data_location != onnx.TensorProto.EXTERNAL:
            bare.graph.initializer.append(tensor)
        else:
            bare.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for sparse in model.graph.sparse_initializer:
        name, dtype = sparse.values.name, sparse.values.data_type
        bare.graph.input.append(onnx.helper.make_tensor_value_info(name, dtype, sparse.dims))
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, strict_mode=False, data_prop=True).graph
    except Exception:  # an invalid graph: what it says of itself is all there is, and no runtime will load it
        inferred = bare.graph
    found = {value.name for value in inferred.value_info if value.type.tensor_type.elem_type}
    inferred.value_info.extend(value for value in model.graph.value_info if value.name not in found)
    return inferred


def _operation(node: Any, types: Types, producers: Mapping[str, Any], live: set[str], fixed: set[str]) -> Operation:
    name = node.output[0] if node.output else node.name
    dtype, shape = types.get(name, ("", None))
    used, constant = not live.isdisjoint(node.output), name in fixed
    domain = "" if node.domain in _STANDARD else node.domain
    own = not domain and node.op_type in _OPERANDS
    macs = _macs(node, types) if own else 0
    compute = _compute(node, producers, types) if macs else ""
    counted = macs > 0 if own else not (domain and any(word in node.op_type for word in _VENDOR_PRODUCTS))
    return Operation(node.op_type, name, dtype, shape or (), macs, compute, used, constant, counted, domain)


def _macs(node: Any, types: Types) -> int:
    """Multiply-adds; 0 where the shapes of the operands or of the result are not known."""
    left, right = (types.get(node.input[index], ("", None))[1] for index in _OPERANDS[node.op_type])
    output = types.get(node.output[0], ("", None))[1]
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


def _compute(node: Any, producers: Mapping[str, Any], types: Types) -> str:
    """The dtype that the operands are multiplied in: an integer one only if both are quantized."""
    operands = [node.input[index] for index in _OPERANDS[node.op_type]]
    if node.op_type in _INTEGER:
        return integer_compute(*(types[name][0] for name in operands))
    quantized = [_quantized(name, producers) for name in operands]
    if all(quantized):
        return integer_compute(*quantized)
    floats = [types.get(name, ("", None))[0] for name in operands]
    return max(floats, key=bits_of) if all(floats) else ""


def _quantized(name: str, producers: Mapping[str, Any]) -> str:
    """The integer dtype that a float operand is dequantized from; "" if it is not."""
    seen = set()
    while name in producers and name not in seen:
        seen.add(name)
        node, types = producers[name]
        if node.op_type == "DequantizeLinear":
            return types.get(node.input[0], ("", None))[0]
        if node.op_type not in _MOVES or not node.input:
            return ""
        name = node.input[0]
    return ""
