"""The container of an ExecuTorch program (`.pte`), parsed from its bytes by its schema; ExecuTorch need not be there.

A `.pte` is a flatbuffer ("ET12"). With weights it has an extended header ("eh00") in front and segments of data behind.
Field numbers are those of `schema/program.fbs` of ExecuTorch 1.5.
"""

import dataclasses
import functools
import math
import struct
from pathlib import Path
from typing import Any

from edgevl.errors import VerificationFailed
from edgevl.formats.flatbuffer import Buffer, Table

METHOD = "forward"
INPUT_NAMES, OUTPUT_NAMES = "input_names", "output_names"  # methods that return a constant text, "image,input_ids"
_IDENTIFIER = b"ET12"
_HEADER = struct.Struct("<4sIQQQ")  # magic, bytes of the header, of the program; where segments start, their bytes
_DTYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64", 11: "bool",
    12: "int8", 13: "uint8", 14: "int32", 15: "bfloat16", 23: "float8e5m2", 24: "float8e4m3fn", 27: "uint16",
    28: "uint32", 29: "uint64",
}  # fmt: skip
_ITEM_BYTES = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2}
_ITEM_BYTES |= {"int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8}
_ITEM_BYTES |= {"float8e5m2": 1, "float8e4m3fn": 1}
# The union KernelTypes, from 0. Lists of integers and of tensors hold numbers of values.
KINDS = ("", "None", "int", "bool", "float", "Tensor", "str", "int[]", "float[]", "bool[]", "Tensor[]", "Tensor?[]")
_LISTS = {"int[]": "q", "Tensor[]": "i", "Tensor?[]": "i"}
_MOST_SIDES = 16  # kTensorDimensionLimit of ExecuTorch
ABSENT = -1  # in a "Tensor?[]": no tensor at this place
_KERNEL, _DELEGATE = 1, 2  # of the union InstructionArguments


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A value of a method. `constant` is the number of its data among the constants of the program, 0 for none."""

    dtype: str
    shape: tuple[int, ...]
    constant: int
    planned: bool = False  # does it have a place in the method's working memory?

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]


@dataclasses.dataclass(frozen=True)
class Call:
    """One step of a method: an operator of ExecuTorch's own kernels, or a delegate."""

    operator: str  # "aten::embedding.out"; "" for a delegate
    delegate: int  # number of the delegate; -1 for an operator
    args: tuple[int, ...]  # numbers of values, outputs last


@dataclasses.dataclass(frozen=True)
class Delegate:
    """A part of the graph in the form of a backend."""

    backend: str  # "XnnpackBackend"
    payload: Buffer


@dataclasses.dataclass(frozen=True)
class Method:
    """What one entry point does. `values` are tensors, texts, booleans, tuples of numbers of values, or None."""

    kinds: tuple[str, ...]  # of each value, from KINDS
    values: tuple[Any, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    calls: tuple[Call, ...]
    delegates: tuple[Delegate, ...]

    def tensor(self, number: int) -> Tensor | None:
        """A value if it is a tensor."""
        if not 0 <= number < len(self.values):
            raise VerificationFailed(f"value {number} of a method is not among its {len(self.values)}")
        value = self.values[number]
        return value if isinstance(value, Tensor) else None

    def first(self, number: int) -> int:
        """Of a list of values, the number of the first that is there (`ABSENT`: one left out), else its own."""
        return self._firsts[number]

    @functools.cached_property
    def _firsts(self) -> tuple[int, ...]:
        lists = [value if isinstance(value, tuple) else () for value in self.values]
        return tuple(next((item for item in items if item != ABSENT), index) for index, items in enumerate(lists))


class PteProgram:
    """A `.pte` taken apart. Every part is within the file, or `VerificationFailed` says what is not."""

    def __init__(self, data: bytes):
        self.data, self._view = data, memoryview(data)
        program_bytes, self._segment_base = _check_header(data)
        self._root = Table.root(self._view[:program_bytes], "the program", (_IDENTIFIER,))
        self._segments = [(table.scalar(0, "Q"), table.scalar(1, "Q")) for table in self._root.tables(4)]
        self.methods = {table.text(0): self._method(table) for table in self._root.tables(1)}
        if METHOD not in self.methods:
            raise VerificationFailed(f'there is no method "{METHOD}", only {sorted(self.methods)}')

    @classmethod
    def load(cls, path: Path) -> "PteProgram":
        return cls(path.read_bytes())

    @property
    def forward(self) -> Method:
        return self.methods[METHOD]

    @property
    def inputs(self) -> tuple[tuple[str, Tensor], ...]:
        """Name and tensor of each input of `forward`."""
        return self._named(INPUT_NAMES, "input", self.forward.inputs)

    @property
    def outputs(self) -> tuple[tuple[str, Tensor], ...]:
        return self._named(OUTPUT_NAMES, "output", self.forward.outputs)

    @functools.cached_property
    def named_data(self) -> dict[str, Buffer]:
        """Data that delegates share: key -> bytes. XNNPACK's keys are digests of the weights."""
        return {table.text(0): self.segment(table.scalar(1, "I")) for table in self._root.tables(7)}

    def constant(self, tensor: Tensor) -> Buffer:
        """The stored bytes of a constant tensor."""
        if self._inline:
            stored = self._inline[tensor.constant].bytes(0) if tensor.constant < len(self._inline) else b""
        else:
            offsets, segment = self._offsets
            stored = segment[offsets[tensor.constant] :] if tensor.constant < len(offsets) else b""
        if len(stored) < tensor.bytes:
            raise VerificationFailed(f"constant {tensor.constant} needs {tensor.bytes:,} bytes, {len(stored):,} remain")
        return stored[: tensor.bytes]

    @functools.cached_property
    def _inline(self) -> list[Table]:
        """Constants within the program, one table each."""
        return list(self._root.tables(2))

    @functools.cached_property
    def _offsets(self) -> tuple[tuple[int, ...], Buffer]:
        """Where each constant begins in the segment that holds them all."""
        where = self._root.needed(5)
        return where.scalars(1, "Q"), self.segment(where.scalar(0, "I"))

    @functools.cached_property
    def _payloads(self) -> list[Table]:
        """Payloads of delegates within the program."""
        return list(self._root.tables(3))

    def segment(self, number: int) -> Buffer:
        if number >= len(self._segments):
            raise VerificationFailed(f"segment {number} is not among the {len(self._segments)} of the file")
        offset, size = self._segments[number]
        start = self._segment_base + offset
        if start + size > len(self.data):
            raise VerificationFailed(f"segment {number} ends at byte {start + size:,}, the file has {len(self.data):,}")
        return self._view[start : start + size]

    def _named(self, method: str, kind: str, numbers: tuple[int, ...]) -> tuple[tuple[str, Tensor], ...]:
        """The tensors with the names that `method` returns; input_0, input_1 ... if there is no such method."""
        tensors = [self.forward.tensor(number) for number in numbers]
        names = [f"{kind}_{index}" for index in range(len(numbers))]
        if method in self.methods and self.methods[method].outputs:
            constant = self.methods[method]
            constant.tensor(constant.outputs[0])  # in range?
            names = str(constant.values[constant.outputs[0]]).split(",")
        if len(names) != len(numbers):
            raise VerificationFailed(f"{method} names {len(names)} values, there are {len(numbers)}")
        if len(set(names)) != len(names):
            raise VerificationFailed(f"{method} gives one name to two values: {', '.join(names)}")
        for name, tensor in zip(names, tensors):
            if tensor is None:
                raise VerificationFailed(f"the {kind} {name} is not a tensor")
        return tuple((name, tensor) for name, tensor in zip(names, tensors) if tensor is not None)

    def _method(self, table: Table) -> Method:
        described = [_value(value) for value in table.tables(2)]
        kinds, values = tuple(kind for kind, _ in described), tuple(value for _, value in described)
        operators = [f"{operator.text(0)}.{operator.text(1)}".rstrip(".") for operator in table.tables(6)]
        delegates = tuple(self._delegate(delegate) for delegate in table.tables(7))
        calls = [
            _call(step, operators, len(delegates))
            for chain in table.tables(5)
            for step in chain.tables(2)
            if step.scalar(0, "B") in (_KERNEL, _DELEGATE)
        ]
        if sum(len(delegate.payload) for delegate in delegates) > 2 * len(self.data):
            raise VerificationFailed(f"{len(delegates)} delegates share what the file holds once")
        method = Method(kinds, values, table.scalars(3, "i"), table.scalars(4, "i"), tuple(calls), delegates)
        for number in (*method.inputs, *method.outputs, *(number for call in calls for number in call.args)):
            method.tensor(number)  # in range?
        return method

    def _delegate(self, table: Table) -> Delegate:
        place = table.needed(1)
        index = place.scalar(1, "I")
        if place.scalar(0, "b") == 1:
            return Delegate(table.text(0), self.segment(index))
        if index >= len(self._payloads):
            raise VerificationFailed(f"delegate data {index} is not among the {len(self._payloads)} of the program")
        return Delegate(table.text(0), self._payloads[index].bytes(0))


def _check_header(data: bytes) -> tuple[int, int]:
    """Bytes of the flatbuffer with its header, and where the segments start. The file must be as long as it says."""
    if len(data) < 8 or data[4:8] != _IDENTIFIER:
        raise VerificationFailed(
            f"it is not an ExecuTorch program: bytes 4 to 8 are {data[4:8]!r}, not {_IDENTIFIER!r}"
        )
    if len(data) < 8 + _HEADER.size or data[8:12] != b"eh00":
        return len(data), len(data)
    _, _, program, base, segments = _HEADER.unpack_from(data, 8)
    needed = max(program, base + segments)
    if needed > len(data):
        raise VerificationFailed(f"it is truncated: its header says {needed:,} bytes, {len(data):,} are there")
    return program, base


def _value(table: Table) -> tuple[str, Any]:
    """Kind and value; None for kinds whose value nobody asks for."""
    number, value = table.union(0)
    if value is None or number >= len(KINDS):
        raise VerificationFailed(f"a value of the program is empty or of the unknown kind {number}")
    kind = KINDS[number]
    if kind == "Tensor":
        return kind, _tensor(value)
    if kind == "bool":
        return kind, bool(value.scalar(0, "B"))
    if kind == "str":
        return kind, value.text(0)
    return kind, value.scalars(0, _LISTS[kind]) if kind in _LISTS else None


def _tensor(table: Table) -> Tensor:
    dtype, shape = table.scalar(0, "b"), table.scalars(2, "i")
    if dtype not in _DTYPES:
        raise VerificationFailed(f"a tensor has the scalar type {dtype}, which this reader does not know")
    if any(side < 0 for side in shape) or len(shape) > _MOST_SIDES:
        raise VerificationFailed(f"a tensor has the shape {list(shape)[:10]}, of {len(shape)} dimensions")
    planned = table.table(6) is not None  # then its memory is shared with others, and data only its initial state
    return Tensor(_DTYPES[dtype], shape, 0 if planned else table.scalar(5, "I"), planned)


def _call(step: Table, operators: list[str], delegates: int) -> Call:
    kind, table = step.union(0)
    if table is None:
        raise VerificationFailed("a step of the program is empty")
    index, args = table.scalar(0, "i"), table.scalars(1, "i")
    if not 0 <= index < (len(operators) if kind == _KERNEL else delegates):
        raise VerificationFailed(f"a step calls operator or delegate {index}, which does not exist")
    return Call(operators[index], -1, args) if kind == _KERNEL else Call("", index, args)
