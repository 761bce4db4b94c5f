"""Reader of Core ML packages: the weight file here, block by block; the operators in `coreml_operations`."""

import dataclasses
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgevl.errors import VerificationFailed
from edgevl.formats import Contents, Weight, bits_of
from edgevl.formats.coreml_operations import MilProgram, tensor_type
from edgevl.formats.graph import Parts, digest, elements

_PACKAGE_MODEL = "Data/com.apple.CoreML/model.mlmodel"
_PACKAGE_WEIGHTS = "Data/com.apple.CoreML/weights"
_WEIGHTS = "@model_path/weights/"  # how a program refers to a file of that folder
_BLOB_HEADER = struct.Struct("<IIQQ")  # sentinel, dtype, bytes, offset of the data
_BLOB_SENTINEL = 0xDEADBEEF


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
    program = MilProgram(spec.mlProgram)
    described = spec.description
    return Contents(
        tuple(_weights(program, path / _PACKAGE_WEIGHTS)),
        program.contents(),
        _values(described.input),
        _values(described.output),
    )


def _check_root(path: Path) -> None:
    """The package's own manifest must name the model that is read here: a package may hold a second one."""
    package = json.loads((path / "Manifest.json").read_text(encoding="utf-8"))
    root = package["itemInfoEntries"][package["rootModelIdentifier"]]["path"]
    if f"Data/{root}" != _PACKAGE_MODEL:
        raise VerificationFailed(f"Manifest.json names the model {root!r}, not {_PACKAGE_MODEL!r}")


def _weights(program: MilProgram, folder: Path) -> Iterator[Weight]:
    """The constants that operators hold: in their attributes, or bound to their inputs by value."""
    stored: set[tuple[str, int]] = set()
    files: dict[str, Parts] = {}
    for operation in program.operations:
        used = program.is_live(operation)
        for key, value in _tensors(operation):
            name = operation.outputs[0].name if operation.outputs else operation.type
            weight = _weight(name if key == "val" else f"{name}.{key}", value, used)
            if weight.dtype == "string":
                continue
            if value.WhichOneof("value") == "blobFileValue":
                place = (value.blobFileValue.fileName, value.blobFileValue.offset)
                if place[0] not in files:
                    files[place[0]] = Parts(weight_file(place[0], folder))
                weight = _read_blob(weight, place[1], weight_file(place[0], folder), files[place[0]])
                if place in stored:  # two constants that share one block take its bytes once
                    weight = dataclasses.replace(weight, bytes=0, digest="")
                stored.add(place)
            yield _packed(weight, operation, key)


def _tensors(operation: Any) -> Iterator[tuple[str, Any]]:
    values = list(operation.attributes.items())
    for key, argument in operation.inputs.items():
        values += [(key, binding.value) for binding in argument.arguments if binding.WhichOneof("binding") == "value"]
    return ((key, value) for key, value in values if key != "name" and value.type.HasField("tensorType"))


def _weight(name: str, value: Any, used: bool) -> Weight:
    dtype, shape = tensor_type(value.type)
    mark = ""
    if value.WhichOneof("value") == "immediateValue":
        mark = digest(value.immediateValue.SerializeToString(deterministic=True))
    return Weight(name, dtype, shape, math.ceil(elements(shape) * bits_of(dtype) / 8), mark, used)


def _packed(weight: Weight, operation: Any, key: str) -> Weight:
    """iOS 16 stores indices into a palette, and the mask of a sparse weight, as bits packed into uint8."""
    if (operation.type, key) == ("constexpr_lut_to_dense", "indices") and "lut" in operation.attributes:
        entries = math.prod(tensor_type(operation.attributes["lut"].type)[1])
        dtype = f"uint{max(1, math.ceil(math.log2(max(entries, 2))))}"
    elif (operation.type, key) == ("constexpr_sparse_to_dense", "mask") and key in operation.attributes:
        dtype = "uint1"
    else:
        return weight
    return dataclasses.replace(weight, dtype=dtype, shape=tensor_type(operation.outputs[0].type)[1])


def weight_file(reference: str, folder: Path) -> Path:
    """The file of `folder`, a package's `weights`, that a program refers to: `@model_path/weights/weight.bin`.

    Raises `VerificationFailed` for any other place: Core ML would look there, and this reader must not.
    """
    name = reference.removeprefix(_WEIGHTS)
    if not reference.startswith(_WEIGHTS) or name in ("", ".", "..") or "/" in name or "\\" in name:
        raise VerificationFailed(f'a weight is said to lie in "{reference}", which is not {_WEIGHTS} and a file name')
    return folder / name


def _read_blob(weight: Weight, place: int, file: Path, parts: Parts) -> Weight:
    """The block of a weight, at `place`, must lie inside the weight file and have the size of the tensor."""
    with file.open("rb") as stream:
        stream.seek(place)
        header = stream.read(_BLOB_HEADER.size)
        if len(header) < _BLOB_HEADER.size:
            raise VerificationFailed(f"{file.name} ends before tensor {weight.name}")
        sentinel, _, stored, offset = _BLOB_HEADER.unpack(header)
        if sentinel != _BLOB_SENTINEL:
            raise VerificationFailed(f"{file.name} holds no block for tensor {weight.name} where the program says")
    if offset + stored > parts.size or stored < weight.bytes:
        raise VerificationFailed(f"tensor {weight.name} needs {weight.bytes:,} bytes, {file.name} is too short for it")
    return dataclasses.replace(weight, digest=parts.digest(offset, weight.bytes))


def _values(values: Any) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((value.name, _shape(value.type)) for value in values)


def _shape(kind: Any) -> tuple[int, ...]:
    if kind.WhichOneof("Type") == "imageType":
        return (1, 3, kind.imageType.height, kind.imageType.width)
    return tuple(kind.multiArrayType.shape)
