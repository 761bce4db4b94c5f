"""Reader of Core ML packages: the ML Program's operators and its weight file, block by block."""

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgevl.contents import Contents, Operation, Weight, bits_of, readers
from edgevl.errors import VerificationFailed

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
    operations: list[Operation] = []
    weights: list[Weight] = []
    for operation in _mil_operations(spec.mlProgram):
        if operation.type != "const":
            operations.append(Operation(operation.type, operation.outputs[0].name if operation.outputs else ""))
        weights += _mil_weights(operation, path / _PACKAGE_WEIGHTS)
    described = spec.description
    return Contents(
        tuple(weights), tuple(operations), _coreml_values(described.input), _coreml_values(described.output)
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
    return Weight(name, dtype, shape, math.ceil(math.prod(shape) * bits_of(dtype) / 8))


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
