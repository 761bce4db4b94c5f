"""Read a saved `.mlpackage` from disk: manifest, model description, program, weights."""

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevl.contents.coreml_contents import weight_file
from edgevl.errors import EdgeVLError, InputError, unknown_name
from edgevl.runtime.coreml_quiet import import_coremltools, quiet_coremltools
from edgevl.runtime.coreml_reference.refusals import Location, check_supported, locate

_LOADING = threading.Lock()  # coremltools keeps the program that it builds in globals


@dataclass(frozen=True)
class Package:
    """One function of a package, and the interface that Core ML shows to an app."""

    path: Path
    description: Any  # coremltools.proto.Model_pb2.ModelDescription
    function: Any  # coremltools.converters.mil.mil.Function: operators and weights
    locations: dict[str, Location]  # of the operators, by the name of each output


def read_package(path: str | Path, function: str = "main") -> Package:
    """Read a function of the package at `path`, weights included.

    Raises:
        InputError: the path is not an ML Program package, or it has no such function.
        UnsupportedOp: a program that the executor cannot run, known from its operators and inputs alone.
        EdgeVLError: the package is damaged.
        MissingDependency: coremltools is not installed.
    """
    path = Path(path)
    ct = import_coremltools("reading a Core ML package")
    model_file = _model_file(path)
    spec = _parse(ct, model_file)
    _keep_only(spec, function, path)
    check_supported(spec, function, path)
    weights = model_file.parent / "weights"
    _check_weight_offsets(spec, weights, path)
    with _LOADING, quiet_coremltools():
        from coremltools.converters.mil.frontend.milproto.load import load

        try:
            program = load(spec, specification_version=spec.specificationVersion, file_weights_dir=str(weights))
        except Exception as error:  # the loader raises whatever its asserts, protobuf and the blob reader raise
            raise EdgeVLError(f"{path} cannot be read as an ML Program ({type(error).__name__}: {error})") from error
    return Package(path, spec.description, program.functions[function], locate(spec, function))


def _keep_only(spec: Any, function: str, path: Path) -> None:
    """Drop the other functions of a multi-function package: neither their weights nor their operators are needed."""
    functions = spec.mlProgram.functions
    if function not in functions:
        raise unknown_name(f"function of {path.name}", function, functions)
    for name in set(functions) - {function}:
        del functions[name]


def _model_file(path: Path) -> Path:
    """Return the path of the model specification that the manifest names."""
    if not path.is_dir():
        raise InputError(f"{path} is not an .mlpackage folder")
    manifest_path = path / "Manifest.json"
    if not manifest_path.is_file():
        raise EdgeVLError(f"{path} has no Manifest.json: it is not an .mlpackage, or it is truncated")
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        relative = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    except (ValueError, KeyError, TypeError) as error:
        raise EdgeVLError(f"{manifest_path} is damaged ({type(error).__name__}: {error})") from error
    data = (path / "Data").resolve()
    model_file = (data / relative).resolve()
    if not model_file.is_relative_to(data):
        raise EdgeVLError(f"{manifest_path} points outside its own folder: {relative}")
    if not model_file.is_file():
        raise EdgeVLError(f"{path} has no {relative}, which its manifest names: it is truncated")
    return model_file


def _parse(ct: Any, model_file: Path) -> Any:
    from google.protobuf.message import DecodeError

    spec = ct.proto.Model_pb2.Model()
    try:
        spec.ParseFromString(model_file.read_bytes())
    except DecodeError as error:
        raise EdgeVLError(f"{model_file} is not a Core ML model, or it is damaged") from error
    if spec.WhichOneof("Type") != "mlProgram":
        raise InputError(f'{model_file} holds a "{spec.WhichOneof("Type")}"; only ML Programs can be run here')
    return spec


def _check_weight_offsets(spec: Any, weights: Path, path: Path) -> None:
    """Raise unless every weight lies inside its file: coremltools' reader maps the file and would crash the process."""
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            for value in _blob_values(block):
                file = weight_file(value.fileName, weights)
                size = file.stat().st_size if file.is_file() else -1
                if value.offset + _METADATA_BYTES > size or _blob_end(file, value.offset) > size:
                    raise EdgeVLError(
                        f"{path}: weight file {file.name} is missing or truncated "
                        f"({max(size, 0)} bytes, a weight is said to start at byte {value.offset})"
                    )


def _blob_values(block: Any) -> list[Any]:
    """Every reference into a weight file inside a block of the program."""
    found = []
    for operation in block.operations:
        values = list(operation.attributes.values())
        for argument in operation.inputs.values():
            values += [binding.value for binding in argument.arguments if binding.WhichOneof("binding") == "value"]
        found += [value.blobFileValue for value in values if value.WhichOneof("value") == "blobFileValue"]
        for inner in operation.blocks:
            found += _blob_values(inner)
    return found


# MIL storage format (mlmodel/src/MILBlob/Blob/StorageFormat.hpp in apple/coremltools): each blob has 64 bytes of
# metadata: sentinel u32, dtype u32, size in bytes u64, offset of the data u64, ...
_METADATA_BYTES = 64
_SENTINEL = 0xDEADBEEF


def _blob_end(file: Path, offset: int) -> int:
    """Return the byte after a blob's last one. A destroyed header counts as beyond the end."""
    with file.open("rb") as stream:
        stream.seek(offset)
        header = stream.read(_METADATA_BYTES)
    if int.from_bytes(header[:4], "little") != _SENTINEL:
        return 1 << 62
    return int.from_bytes(header[16:24], "little") + int.from_bytes(header[8:16], "little")
