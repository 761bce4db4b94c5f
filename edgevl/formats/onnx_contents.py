"""Reader of ONNX files: the weights here, the operators in `onnx_operations`."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgevl.apps.jetson.bundle_files import check_relative
from edgevl.errors import MissingDependency, VerificationFailed
from edgevl.formats import Contents, Weight, bits_of
from edgevl.formats.graph import SMALLEST_DIGEST, Parts, digest, elements, live_values
from edgevl.formats.onnx_operations import dtype_name, read_operations, shape_of, steps_of, subgraphs


def read_onnx(path: Path) -> Contents:
    """Read `model.onnx`: initializers, constants inside nodes (subgraphs and functions too), external data."""
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency("onnx", "onnx", "reading an ONNX file") from error
    model = onnx.load(str(path), load_external_data=False)
    if not model.graph.node:
        raise VerificationFailed("the graph is empty: the file is truncated or not ONNX")
    live = _live_names(model)
    files: dict[str, Parts] = {}
    weights = tuple(_weight(name, tensor, path.parent, files, live) for name, tensor in _tensors(model))
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initial]
    return Contents(weights, read_operations(model), _values(inputs), _values(model.graph.output))


def _graphs(model: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (nodes, initializers) of the main graph, of every subgraph and of every function."""
    waiting = [(model.graph.node, _initializers(model.graph))] + [(function.node, []) for function in model.functions]
    while waiting:
        nodes, initializers = waiting.pop()
        yield nodes, initializers
        waiting += [(graph.node, _initializers(graph)) for node in nodes for graph in subgraphs(node)]


def _initializers(graph: Any) -> list[Any]:
    """Of a sparse one, the values that are stored."""
    return [*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)]


def _tensors(model: Any) -> Iterator[tuple[str, Any]]:
    """Every constant with the name that others read it by."""
    for nodes, initializers in _graphs(model):
        yield from ((tensor.name, tensor) for tensor in initializers)
        for node in nodes:
            for attribute in node.attribute:
                tensor = _constant(attribute, node.op_type == "Constant")
                if tensor is not None:
                    yield (node.output[0] if node.output else tensor.name), tensor


def _constant(attribute: Any, constant: bool) -> Any:
    """The tensor that an attribute holds; of a `Constant`, numbers that are written out are one too."""
    from onnx import TensorProto

    if attribute.HasField("t"):
        return attribute.t
    if attribute.HasField("sparse_tensor"):
        return attribute.sparse_tensor.values
    if not constant:
        return None
    floats, integers = [*attribute.floats], [*attribute.ints]
    floats += [attribute.f] if attribute.HasField("f") else []
    integers += [attribute.i] if attribute.HasField("i") else []
    if floats:
        return TensorProto(data_type=TensorProto.FLOAT, dims=[len(floats)], float_data=floats)
    return TensorProto(data_type=TensorProto.INT64, dims=[len(integers)], int64_data=integers) if integers else None


def _live_names(model: Any) -> set[str]:
    """What an output depends on. The body of a function counts as read."""
    roots = [value.name for value in model.graph.output]
    roots += [name for function in model.functions for name in function.output]
    steps = [step for nodes, _ in _graphs(model) for step in steps_of(nodes)]
    return live_values(steps, roots)


def _weight(name: str, tensor: Any, folder: Path, files: dict[str, Parts], live: set[str]) -> Weight:
    import onnx

    dtype, shape = dtype_name(tensor.data_type), tuple(tensor.dims)
    if any(side < 0 for side in shape):
        raise VerificationFailed(f"tensor {tensor.name} has a side of {min(shape)}")
    needed = math.ceil(elements(shape) * bits_of(dtype) / 8)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        stored, mark = _external(tensor, folder, files, needed)
    elif tensor.HasField("raw_data"):
        stored, mark = len(tensor.raw_data), digest(tensor.raw_data)
    else:  # typed fields; `to_array` refuses a wrong number of them
        stored, mark = needed, ""
        if needed >= SMALLEST_DIGEST:
            mark = digest(onnx.numpy_helper.to_array(tensor).tobytes())
    if stored < needed:
        raise VerificationFailed(f"tensor {tensor.name} needs {needed:,} bytes, {stored:,} are there")
    return Weight(tensor.name or name, dtype, shape, needed, mark, name in live)


def _external(tensor: Any, folder: Path, files: dict[str, Parts], needed: int) -> tuple[int, str]:
    """Bytes that are there and their digest. `files`: those that were opened before."""
    place = {entry.key: entry.value for entry in tensor.external_data}
    try:
        file, offset = folder / check_relative(place["location"]), int(place.get("offset", 0))
        available = file.stat().st_size - offset if not file.is_symlink() else 0
        stored = min(available, int(place.get("length", available)))
        if offset < 0:
            raise ValueError
        if stored < needed:
            return stored, ""
        parts = files.setdefault(str(file), Parts(file))
        return stored, parts.digest(offset, needed)
    except (KeyError, ValueError, OSError):
        raise VerificationFailed(f"tensor {tensor.name} names external data that is not in the bundle") from None


def _values(values: Iterable[Any]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((value.name, shape_of(value.type.tensor_type)) for value in values)
