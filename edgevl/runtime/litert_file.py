"""The structure of a `.tflite` file, read with the schema that ai-edge-litert ships, and checked.

LiteRT's own loader runs FlatBuffers' verifier, which finds every cut and most flipped bits. It does not ask whether the
parts fit: an operator that writes its result over a weight killed the process here, and another changed file kept it
busy for good. So what C++ takes on trust is checked first.
"""

import math
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgevl.errors import InputError, MissingDependency, VerificationFailed
from edgevl.formats.flatbuffer import Table

IDENTIFIER = b"TFL3"  # at byte 4 of every file
CUSTOM = "CUSTOM:"  # in front of the code of an operator that is not built in
MAX_BYTES = 2**31  # of one tensor: FlatBuffers' own limit for what is stored
MAX_FLOW = 2**35  # bytes of all values between operators together; they share memory
MAX_SIDES = 16  # of a tensor: its kernels take up to eight
MAX_PARTS = 2**18  # tensors or operators: the largest models known have a few thousand


def import_schema(purpose: str) -> ModuleType:
    """The classes that FlatBuffers generated for the format. Raises `MissingDependency`."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise MissingDependency("ai-edge-litert", "litert", purpose) from error
    return schema_py_generated


def read_model(path: Path, purpose: str) -> "LiteModel":
    """Read and check a file.

    Raises:
        InputError: there is no such file.
        MissingDependency: ai-edge-litert is not installed.
        VerificationFailed: the file is damaged, or its parts do not fit together.
    """
    schema = import_schema(purpose)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return parse_model(content, path.name, schema)


def parse_model(content: bytes, name: str, schema: ModuleType) -> "LiteModel":
    """Like `read_model`, from bytes; `name` is what the messages call them."""
    if content[4:8] != IDENTIFIER:
        raise VerificationFailed(f"{name} is no LiteRT model: the identifier {IDENTIFIER.decode()} is not at byte 4")
    try:
        packed = schema.Model.GetRootAs(content, 0)
        if packed.SubgraphsLength() != 1:
            raise VerificationFailed(f"{name} holds {packed.SubgraphsLength()} graphs, not one")
        graph = packed.Subgraphs(0)
        if max(graph.TensorsLength(), graph.OperatorsLength(), packed.BuffersLength()) > MAX_PARTS:
            raise VerificationFailed(f"{name} claims to have more than {MAX_PARTS:,} tensors or operators")
        _check_parts(content, name)
        model = LiteModel(schema.ModelT.InitFromObj(packed), content, name, schema)
        model.check()
    except VerificationFailed:
        raise
    except Exception as error:  # a damaged offset leads anywhere: struct.error, IndexError, UnicodeDecodeError ...
        raise VerificationFailed(
            f"{name} is truncated or was changed: {type(error).__name__} while reading it"
        ) from error
    return model


def _check_parts(content: bytes, name: str) -> None:
    """Read once what the classes of the schema will copy: `VerificationFailed` if that is many times the file.

    A name of a megabyte that each of a thousand tensors has is a megabyte in the file and a gigabyte in memory. The
    numbers are those of the fields in LiteRT's schema.
    """
    root = Table.root(content, name, (IDENTIFIER,))
    for graph in root.tables(2):
        for tensor in graph.tables(0):
            _check_tensor(tensor, name)
        for operator in graph.tables(3):
            for field in (1, 2):  # operands, results
                operator.scalars(field, "i")
    named = [(code, 1) for code in root.tables(1)]
    named += [(table, 0) for field in (6, 8) for table in root.tables(field)]  # metadata, groups of external buffers
    for signature in root.tables(7):
        named += [(signature, 2), *((entry, 0) for kind in (0, 1) for entry in signature.tables(kind))]
    for table, field in named:
        table.text(field)
    _read_all(root.tables(4), root.tables(9))  # buffers


def _check_tensor(tensor: Table, name: str) -> None:
    tensor.text(3)
    if tensor.count(0) > MAX_SIDES:
        raise VerificationFailed(f"{name} is damaged: a tensor has {tensor.count(0):,} dimensions")
    sparsity = tensor.table(6)
    _read_all(sparsity.tables(2) if sparsity else (), tensor.tables(9))


def _read_all(*vectors: Iterable[Table]) -> None:
    for vector in vectors:
        for _ in vector:
            pass


class LiteModel:
    """A model unpacked from its file: `tree` is the schema's `ModelT`, the rest answers questions about it."""

    def __init__(self, tree: Any, content: bytes, name: str, schema: ModuleType):
        self.tree, self.content, self.name, self.schema = tree, content, name, schema
        self.graph = tree.subgraphs[0]
        self.tensors: list[Any] = list(self.graph.tensors or [])
        self.operators: list[Any] = list(self.graph.operators or [])

    def stored(self, tensor: Any) -> np.ndarray | None:
        """The bytes of a constant (uint8 [n]); None for any other tensor."""
        return self.stored_buffer(self.tree.buffers[tensor.buffer])

    def stored_buffer(self, buffer: Any) -> np.ndarray | None:
        """The bytes of a buffer (uint8 [n]), None if it is empty.

        They are in the flatbuffer or, for a large model, behind it: then `offset` counts from the start of the file.
        """
        if buffer.offset > 1:
            if buffer.offset + buffer.size > len(self.content):
                raise self.broken("a constant ends behind the end of the file")
            return np.frombuffer(self.content, np.uint8, buffer.size, buffer.offset)
        if buffer.data is None or len(buffer.data) == 0:
            return None
        return np.asarray(buffer.data, np.uint8)

    def operator_type(self, operator: Any) -> str:
        """The builtin name of an operator, such as CONV_2D; `CUSTOM:<code>` for one that is not built in."""
        code = self.tree.operatorCodes[operator.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)  # the old field has 7 bits
        names = enum_names(self.schema.BuiltinOperator)
        if number not in names:
            raise self.broken(f"operator code {number} is not known to the installed LiteRT")
        return CUSTOM + (code.customCode or b"").decode() if names[number] == "CUSTOM" else names[number]

    def signature(self, kind: str) -> dict[str, int]:
        """Name -> number of the tensor, of the model's `inputs` or `outputs` as its one signature calls them."""
        return {entry.name.decode(): int(entry.tensorIndex) for entry in getattr(self._signature(), kind)}

    def _signature(self) -> Any:
        signatures = self.tree.signatureDefs or []
        if len(signatures) != 1:
            raise self.broken(f"{len(signatures)} signatures are there, one is needed to know the inputs by name")
        return signatures[0]

    def check(self) -> None:
        """Raise `VerificationFailed` unless every number that names a part names one, and every size fits."""
        for operator in self.operators:
            self._index(operator.opcodeIndex, self.tree.operatorCodes, "an operator's code")
        for tensor in self.tensors:
            self._index(tensor.buffer, self.tree.buffers, f"the buffer of {tensor_name(tensor)}")
        self._check_signature()
        self._check_flow()
        self._check_sizes()

    def _check_signature(self) -> None:
        signature = self._signature()
        if signature.subgraphIndex != 0:
            raise self.broken("the signature names another graph than the one there is")
        for kind in ("inputs", "outputs"):
            entries = [entry.tensorIndex for entry in getattr(signature, kind)]
            for index in entries:
                self._index(index, self.tensors, f"one of the {kind} of the signature")
            if sorted(entries) != sorted(getattr(self.graph, kind)):
                raise self.broken(f"the {kind} of the signature are not those of the graph")

    def _check_flow(self) -> None:
        """Every value is stored, passed in, or computed once by an earlier operator: never two of these."""
        ready = {index for index, tensor in enumerate(self.tensors) if self.stored(tensor) is not None}
        for index in self.graph.inputs:
            if index in ready:
                raise self.broken(f"the input {tensor_name(self.tensors[index])} holds stored values")
        ready.update(self.graph.inputs)
        for operator in self.operators:
            for index in numbers(operator.inputs):
                if index != -1 and index not in ready:  # -1: an optional operand that is not given
                    self._index(index, self.tensors, "an operand")
                    raise self.broken(f"{tensor_name(self.tensors[index])} is used before it is computed")
            for index in numbers(operator.outputs):
                self._index(index, self.tensors, "a result")
                if index in ready:
                    raise self.broken(f"{tensor_name(self.tensors[index])} is computed over a value that is there")
                ready.add(index)
        if not set(self.graph.outputs) <= ready:
            raise self.broken("an output of the graph is never computed")

    def _check_sizes(self) -> None:
        flowing = 0
        for tensor in self.tensors:
            size, stored = self.size(tensor), self.stored(tensor)
            if stored is None:
                flowing += size or 0
            elif size is not None and len(stored) != size:
                raise self.broken(f"tensor {tensor_name(tensor)} needs {size:,} bytes, {len(stored):,} are stored")
        if flowing > MAX_FLOW:
            raise self.broken(f"the values between its operators would take {flowing:,} bytes")

    def size(self, tensor: Any) -> int | None:
        """Bytes that a tensor of this shape and dtype takes; None for strings, resources and variants."""
        shape, bits = tensor_shape(tensor), element_bits(self.dtype(tensor))
        if any(side < 0 for side in shape):
            raise self.broken(f"tensor {tensor_name(tensor)} has the shape {list(shape)}, which is not fixed")
        size = None if bits is None else math.ceil(math.prod(shape) * bits / 8)
        if size is not None and size > MAX_BYTES:
            raise self.broken(f"tensor {tensor_name(tensor)} of shape {list(shape)} would take {size:,} bytes")
        return size

    def dtype(self, tensor: Any) -> str:
        """The dtype of a tensor as NumPy names it, or int4, int2, bfloat16 ..."""
        names = enum_names(self.schema.TensorType)
        if tensor.type not in names:
            raise self.broken(f"tensor {tensor_name(tensor)} has the unknown type {tensor.type}")
        return names[tensor.type].lower()

    def _index(self, index: int, parts: Any, what: str) -> None:
        if not 0 <= index < len(parts or []):
            raise self.broken(f"{what} is number {index} of {len(parts or [])}")

    def broken(self, what: str) -> VerificationFailed:
        return VerificationFailed(f"{self.name} is damaged: {what}")


def tensor_name(tensor: Any) -> str:
    return (tensor.name or b"").decode()


def tensor_shape(tensor: Any) -> tuple[int, ...]:
    return tuple(numbers(tensor.shape))


def numbers(vector: Any) -> Iterator[int]:
    """A vector of the file as Python integers; one that is absent is empty."""
    return iter(()) if vector is None else (int(value) for value in vector)


def element_bits(dtype: str) -> int | None:
    """Bits of one element; None where the schema knows no fixed size."""
    if dtype == "bool":
        return 8
    digits = "".join(character for character in dtype.split("_")[0] if character.isdigit())
    return int(digits) if digits and dtype not in ("string", "resource", "variant") else None


@cache
def enum_names(enum: type) -> dict[int, str]:
    """Number -> name of an enumeration of the schema."""
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}
