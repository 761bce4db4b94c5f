"""Readers of artifacts: every weight, operator, input and output of a file, without running it. One per target."""

import dataclasses
import json
import math
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgevl.errors import MissingDependency, VerificationFailed
from edgevl.manifest import check_relative
from edgevl.registry import Registry


@dataclasses.dataclass(frozen=True)
class Weight:
    """A constant of the artifact."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclasses.dataclass(frozen=True)
class Contents:
    """Everything read from one artifact."""

    weights: tuple[Weight, ...]
    op_types: dict[str, int]
    inputs: tuple[tuple[str, tuple[int, ...]], ...]  # name, shape
    outputs: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def weight_bytes(self) -> dict[str, int]:
        """Bytes per dtype, the largest first."""
        total: Counter[str] = Counter()
        for weight in self.weights:
            total[weight.dtype] += weight.bytes
        return dict(total.most_common())


readers: Registry[Callable[[Path], Contents]] = Registry("artifact format")


@readers.register("onnx")
def read_onnx(path: Path) -> Contents:
    """Read `model.onnx`: initializers, constants inside nodes (subgraphs and functions too), external data."""
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency("onnx", "onnx", "reading an ONNX file") from error
    model = onnx.load(str(path), load_external_data=False)
    if not model.graph.node:
        raise VerificationFailed("the graph is empty: the file is truncated or not ONNX")
    op_types, tensors = Counter[str](), []
    for nodes, initializers in _onnx_graphs(model):
        tensors += initializers
        for node in nodes:
            op_types[node.op_type] += 1
            tensors += [_named(attribute.t, node.output[0]) for attribute in node.attribute if attribute.HasField("t")]
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initial]
    weights = tuple(_onnx_weight(tensor, path.parent) for tensor in tensors)
    return Contents(weights, dict(op_types.most_common()), _onnx_values(inputs), _onnx_values(model.graph.output))


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
    size = math.ceil(math.prod(shape) * _bits(dtype) / 8)
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


def _bits(dtype: str) -> int:
    """Bits of one element, from the digits at the end of its name ("float32", "int4", "bool")."""
    digits = "".join(character for character in dtype.removesuffix("fn") if character.isdigit())
    return 8 if dtype in ("bool", "string") or dtype.startswith("float8") or not digits else int(digits)


_PACKAGE_MODEL = "Data/com.apple.CoreML/model.mlmodel"
_PACKAGE_WEIGHTS = "Data/com.apple.CoreML/weights"
_BLOB_HEADER = struct.Struct("<IIQQ")  # sentinel, dtype, bytes, offset of the data
_BLOB_SENTINEL = 0xDEADBEEF


@readers.register("coreml")
def read_coreml(path: Path) -> Contents:
    """Read `model.mlpackage`: the ML Program's operators and its weight file, block by block."""
    from edgevl.runtime.coreml_quiet import import_coremltools

    import_coremltools("reading a Core ML package")
    from coremltools.proto import Model_pb2

    _check_root(path)
    spec: Any = Model_pb2.Model()  # pyright: ignore[reportAttributeAccessIssue]
    spec.ParseFromString((path / _PACKAGE_MODEL).read_bytes())
    if spec.WhichOneof("Type") != "mlProgram":
        raise VerificationFailed(f"the model is a {spec.WhichOneof('Type')}, not an ML Program")
    op_types: Counter[str] = Counter()
    weights: list[Weight] = []
    for operation in _mil_operations(spec.mlProgram):
        if operation.type != "const":
            op_types[operation.type] += 1
        weights += _mil_weights(operation, path / _PACKAGE_WEIGHTS)
    described = spec.description
    return Contents(
        tuple(weights), dict(op_types.most_common()), _coreml_values(described.input), _coreml_values(described.output)
    )


def _check_root(path: Path) -> None:
    """The package's own manifest must name the model that is read here: a package may hold a second one."""
    package = json.loads((path / "Manifest.json").read_text(encoding="utf-8"))
    root = package["itemInfoEntries"][package["rootModelIdentifier"]]["path"]
    if f"Data/{root}" != _PACKAGE_MODEL:
        raise VerificationFailed(f"Manifest.json names the model {root!r}, not {_PACKAGE_MODEL!r}")


def _mil_operations(program: Any) -> Iterator[Any]:
    waiting = [block for function in program.functions.values() for block in function.block_specializations.values()]
    while waiting:
        for operation in waiting.pop().operations:
            yield operation
            waiting += list(operation.blocks)


def _mil_weights(operation: Any, folder: Path) -> Iterator[Weight]:
    """The constants that an operation holds: in its attributes, or bound to its inputs by value."""
    values = list(operation.attributes.items())
    for key, argument in operation.inputs.items():
        values += [(key, binding.value) for binding in argument.arguments if binding.WhichOneof("binding") == "value"]
    name = operation.outputs[0].name if operation.outputs else operation.type
    for key, value in values:
        if key == "name" or not value.type.HasField("tensorType"):
            continue
        weight = _mil_weight(name if key == "val" else f"{name}.{key}", value)
        if value.WhichOneof("value") == "blobFileValue":
            _check_blob(weight, value.blobFileValue, folder)
        if weight.dtype != "string":
            yield weight


def _mil_weight(name: str, value: Any) -> Weight:
    from coremltools.proto import MIL_pb2

    kind = value.type.tensorType
    dtype = MIL_pb2.DataType.Name(kind.dataType).lower()  # pyright: ignore[reportAttributeAccessIssue]
    shape = tuple(dimension.constant.size for dimension in kind.dimensions)
    return Weight(name, dtype, shape, math.ceil(math.prod(shape) * _bits(dtype) / 8))


def _check_blob(weight: Weight, place: Any, folder: Path) -> None:
    """The blob of a weight must lie inside the weight file and have the size of the tensor."""
    file = folder / place.fileName.rsplit("/", 1)[-1]  # "@model_path/weights/weight.bin"
    size = file.stat().st_size
    with file.open("rb") as stream:
        stream.seek(place.offset)
        header = stream.read(_BLOB_HEADER.size)
    if len(header) < _BLOB_HEADER.size:
        raise VerificationFailed(f"{file.name} ends before tensor {weight.name}")
    sentinel, _, stored, offset = _BLOB_HEADER.unpack(header)
    if sentinel != _BLOB_SENTINEL:
        raise VerificationFailed(f"{file.name} holds no block for tensor {weight.name} where the program says")
    if offset + stored > size or stored < weight.bytes:
        raise VerificationFailed(f"tensor {weight.name} needs {weight.bytes:,} bytes, {file.name} is too short for it")


def _coreml_values(values: Any) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((value.name, _coreml_shape(value.type)) for value in values)


def _coreml_shape(kind: Any) -> tuple[int, ...]:
    if kind.WhichOneof("Type") == "imageType":
        return (1, 3, kind.imageType.height, kind.imageType.width)
    return tuple(kind.multiArrayType.shape)
