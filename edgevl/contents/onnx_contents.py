"""Reader of ONNX files."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgevl.contents import Contents, Operation, Weight, bits_of, readers
from edgevl.errors import MissingDependency, VerificationFailed
from edgevl.manifest import check_relative


@readers.register("onnx")
@readers.register("tensorrt")
def read_onnx(path: Path) -> Contents:
    """Read `model.onnx`: initializers, constants inside nodes (subgraphs and functions too), external data."""
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency("onnx", "onnx", "reading an ONNX file") from error
    model = onnx.load(str(path), load_external_data=False)
    if not model.graph.node:
        raise VerificationFailed("the graph is empty: the file is truncated or not ONNX")
    operations, tensors = [], []
    for nodes, initializers in _onnx_graphs(model):
        tensors += initializers
        for node in nodes:
            operations.append(Operation(node.op_type, node.output[0] if node.output else node.name))
            tensors += [_named(attribute.t, node.output[0]) for attribute in node.attribute if attribute.HasField("t")]
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initial]
    weights = tuple(_onnx_weight(tensor, path.parent) for tensor in tensors)
    return Contents(weights, tuple(operations), _onnx_values(inputs), _onnx_values(model.graph.output))


def _named(tensor: Any, name: str) -> Any:
    tensor.name = tensor.name or name
    return tensor


def _onnx_graphs(model: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (nodes, initializers) of the main graph, of every subgraph and of every function."""
    waiting = [(model.graph.node, model.graph.initializer)] + [(function.node, []) for function in model.functions]
    while waiting:
        nodes, initializers = waiting.pop()
        yield nodes, initializers
        for node in nodes:
            for attribute in node.attribute:
                graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
                waiting += [(graph.node, graph.initializer) for graph in graphs]


def _onnx_weight(tensor: Any, folder: Path) -> Weight:
    import onnx

    dtype = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
    dtype = {"float": "float32", "double": "float64"}.get(dtype, dtype)
    shape = tuple(tensor.dims)
    size = math.ceil(math.prod(shape) * bits_of(dtype) / 8)
    stored = len(tensor.raw_data) if tensor.HasField("raw_data") else size  # typed fields cannot be cut unnoticed
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        stored = _external_bytes(tensor, folder)
    if stored < size:
        raise VerificationFailed(f"tensor {tensor.name} needs {size:,} bytes, {stored:,} are there")
    return Weight(tensor.name, dtype, shape, size)


def _external_bytes(tensor: Any, folder: Path) -> int:
    place = {entry.key: entry.value for entry in tensor.external_data}
    try:
        file = folder / check_relative(place["location"])
        available = file.stat().st_size - int(place.get("offset", 0)) if not file.is_symlink() else 0
    except (KeyError, ValueError, OSError):
        raise VerificationFailed(f"tensor {tensor.name} names external data that is not in the bundle") from None
    return min(available, int(place.get("length", available)))


def _onnx_values(values: Any) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((value.name, tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)) for value in values)
