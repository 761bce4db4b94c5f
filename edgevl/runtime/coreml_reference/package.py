"""Read a saved `.mlpackage` from disk: manifest, model description, program, weights."""

import json
import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .interface import TensorSpec, describe
from .limits import LimitReached, Limits
from .node import UnsupportedOp
from .refusals import Places, check_supported, count_operators, locate
from .seam import ExecutorError, InputError, first_line, import_coremltools, quiet_coremltools, unknown_name
from .signature import bind, read_inputs, read_outputs

_LOADING = threading.Lock()  # coremltools keeps the program that it builds in globals


@dataclass(frozen=True)
class Package:
    """One function of a package, and the interface that Core ML shows to an app."""

    path: Path
    name: str  # of the function
    inputs: tuple[TensorSpec, ...]
    states: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: list[Any]  # of a classifier
    function: Any  # coremltools.converters.mil.mil.Function: operators and weights
    places: Places


def read_package(
    path: str | Path,
    function: str | None = None,
    shapes: Mapping[str, Iterable[int]] | None = None,
    limits: Limits | None = None,
) -> Package:
    """Read a function of the package at `path`, weights included.

    Args:
        function: which one; `None` for the package's default.
        shapes: what flexible inputs are bound to, by name; the others stay flexible.
    Raises:
        InputError: the path is not an ML Program package, it is damaged, or it has no such function or shape.
        UnsupportedOp: a program that the executor cannot run, known from its operators alone.
        LimitReached: more operators than may run.
        MissingDependency: coremltools is not installed.
    """
    path, limits = Path(path), limits or Limits()
    ct = import_coremltools("reading a Core ML package")
    model_file = _model_file(path)
    spec = _parse(ct, model_file)
    with _one_line(path):
        name = _keep_only(spec, function, path)
        if count_operators(spec, name) > limits.operators:
            raise LimitReached(f"{path}: the file holds more than {limits.operators:,} operators, which are allowed")
        check_supported(spec, name, path)
        description = describe(spec.description, name)
        inputs, states = read_inputs(spec.mlProgram.functions[name], description)
        inputs = bind(spec.mlProgram.functions[name], inputs, shapes or {})
        _check_weight_offsets(spec, model_file.parent / "weights", path)
        loaded = _load(spec, model_file.parent / "weights").functions[name]
        outputs, labels = read_outputs(loaded, description)
        return Package(path, name, inputs, states, outputs, labels, loaded, locate(spec, name))


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn whatever a malformed file makes protobuf, coremltools or this code raise into one line with its path."""
    try:
        yield
    except ExecutorError as error:
        if str(path) in str(error) or path.name in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error
    except NotImplementedError as error:  # what coremltools' reader says of a tensor whose rank the file leaves open
        raise UnsupportedOp(f"{path}: coremltools cannot read this program back: {first_line(error)}") from error
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as an ML Program ({type(error).__name__}: {first_line(error)})"
        ) from error


def _keep_only(spec: Any, function: str | None, path: Path) -> str:
    """Drop the other functions of a multi-function package: neither their weights nor their operators are needed.

    Returns the function's name.
    """
    functions = spec.mlProgram.functions
    name = function or spec.description.defaultFunctionName or "main"
    if name not in functions:
        raise unknown_name(f"function of {path.name}", name, functions)
    for other in set(functions) - {name}:
        del functions[other]
    if functions[name].opset not in functions[name].block_specializations:
        raise InputError(f'function "{name}" has no operators for its own opset, "{functions[name].opset}"')
    return name


def _load(spec: Any, weights: Path) -> Any:
    """Let coremltools read the program."""
    with _LOADING, quiet_coremltools(), _no_large_values():
        from coremltools.converters.mil.frontend.milproto.load import load

        return load(spec, specification_version=spec.specificationVersion, file_weights_dir=str(weights))


@contextmanager
def _no_large_values() -> Iterator[None]:
    """Keep coremltools from computing large constants while it reads: it evaluates every operator of constants, and a
    file may ask it for terabytes. The executor folds constants itself, within its limits."""
    from coremltools.converters.mil.mil import Operation, types

    original = Operation._auto_val

    def small_only(self: Any, output_types: Any) -> Any:
        tensors = [kind for kind in output_types if types.is_tensor(kind)]
        sizes = [math.prod(side for side in kind.get_shape() if isinstance(side, int)) for kind in tensors]
        if self.op_type == "const" or max(sizes, default=0) <= _LARGE:
            return original(self, output_types)
        return tuple(None for _ in output_types)

    Operation._auto_val = small_only
    try:
        yield
    finally:
        Operation._auto_val = original


_LARGE = 1 << 16  # elements; shapes, indices and parameters have fewer


def _model_file(path: Path) -> Path:
    """Return the path of the model specification that the manifest names."""
    _check_kind(path)
    manifest_path = path / "Manifest.json"
    if not manifest_path.is_file():
        raise InputError(f"{path} has no Manifest.json: it is not an .mlpackage, or it is truncated")
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        relative = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        data = (path / "Data").resolve()
        model_file = (data / relative).resolve()
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise InputError(f"{manifest_path} is damaged ({type(error).__name__}: {first_line(error)})") from error
    if not model_file.is_relative_to(data):
        raise InputError(f"{manifest_path} points outside its own folder: {relative}")
    if not model_file.is_file():
        raise InputError(f"{path} has no {relative}, which its manifest names: it is truncated")
    return model_file


def _check_kind(path: Path) -> None:
    """Say what a path is that is no package, and what to give instead."""
    if path.suffix == ".mlmodelc" or (path / "coremldata.bin").exists():
        raise InputError(
            f"{path} is a compiled model (.mlmodelc), which only Core ML can read: give the .mlpackage that it was "
            "compiled from"
        )
    if not path.exists():
        raise InputError(f"{path} does not exist: it is not an .mlpackage folder")
    if path.is_file() and path.suffix == ".mlmodel":
        raise InputError(
            f"{path} is a single .mlmodel file, not an .mlpackage folder: an ML Program is saved as a package "
            '(coremltools.convert(..., convert_to="mlprogram").save("model.mlpackage"))'
        )
    if not path.is_dir():
        raise InputError(f"{path} is not an .mlpackage folder; unpack an archive first")


def _parse(ct: Any, model_file: Path) -> Any:
    from google.protobuf.message import DecodeError

    spec = ct.proto.Model_pb2.Model()
    try:
        spec.ParseFromString(model_file.read_bytes())
    except DecodeError as error:
        raise InputError(f"{model_file} is not a Core ML model, or it is damaged") from error
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
                    raise InputError(
                        f"{path}: weight file {file.name} is missing or truncated "
                        f"({max(size, 0)} bytes, a weight is said to start at byte {value.offset})"
                    )


def weight_file(reference: str, folder: Path) -> Path:
    """The file of `folder`, a package's `weights`, that a program refers to: `@model_path/weights/weight.bin`.

    Raises `InputError` for any other place: Core ML would look there, and this reader must not.
    """
    name = reference.removeprefix(_WEIGHTS)
    if not reference.startswith(_WEIGHTS) or name in ("", ".", "..") or "/" in name or "\\" in name:
        raise InputError(f'a weight is said to lie in "{reference}", which is not {_WEIGHTS} and a file name')
    return folder / name


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
_WEIGHTS = "@model_path/weights/"  # how a program refers to a file of that folder


def _blob_end(file: Path, offset: int) -> int:
    """Return the byte after a blob's last one. A destroyed header counts as beyond the end."""
    with file.open("rb") as stream:
        stream.seek(offset)
        header = stream.read(_METADATA_BYTES)
    if int.from_bytes(header[:4], "little") != _SENTINEL:
        return 1 << 62
    return int.from_bytes(header[16:24], "little") + int.from_bytes(header[8:16], "little")
