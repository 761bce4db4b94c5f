"""The graph inside XNNPACK's delegate of an ExecuTorch program, parsed from its bytes by its schema.

A payload is a header ("XH00"), a flatbuffer ("XN00" or "XN01") and constants; newer ones keep their constants in the
named data of the program. Numbers are those of `backends/xnnpack/serialization/schema.fbs` of ExecuTorch 1.5.
"""

import dataclasses
import functools
import math
import struct
from collections.abc import Iterator, Mapping

from edgevl.errors import VerificationFailed
from edgevl.formats.flatbuffer import Buffer, Table

BACKEND = "XnnpackBackend"
ABSENT = 2**32 - 1  # the number of a value that a node does not have, such as a bias
_HEADER = struct.Struct("<4s4sHIIIQ")  # zeros, magic, its bytes; flatbuffer: where, bytes; constants: where, bytes
_NO_OFFSET = 2**64 - 1
_MAX_RANK = 6  # XNN_MAX_TENSOR_DIMS
_MAX_BYTES = 2**31  # of one value: more is no model for a device
# XNNDatatype -> dtype; the quantized kinds differ in where their scales come from, not in how they are stored
_DTYPES = {
    1: "float32", 2: "float16", 3: "int8", 4: "uint8", 5: "int32", 6: "int8", 7: "int32", 8: "int4", 9: "int8",
    10: "int4", 11: "int8", 12: "int32", 13: "float32", 14: "bfloat16",
}  # fmt: skip
_BITS = {"float32": 32, "float16": 16, "int8": 8, "uint8": 8, "int32": 32, "int4": 4, "bfloat16": 16}
_QUANTIZED_VALUE = 2  # of XValueUnion
_SCALES = {1: (2, 3), 4: (4, 5)}  # kind of quantization -> fields of the constant with the scales and of their number

# Fields with the inputs (data, filter, bias) and the output of a node, by the layout of its table.
_LAYOUTS = {
    "unary": ((0,), 1),
    "binary": ((0, 1), 2),
    "linear": ((0, 1, 2), 3),
    "conv": ((15, 16, 17), 18),
    "pool": ((10,), 11),
    "argmax": ((6,), 7),
    "cat": ((1, 2, 3, 4, 7), 5),
    "shaped": ((2,), 3),  # transpose, resize, reshape
    "ranged": ((3,), 4),  # pad, slice
    "sloped": ((1,), 2),  # ELU, leaky ReLU
    "attention": ((0, 1, 2, 3, 4), 5),
}
# The members of XNodeUnion in order, from 1. Layouts other than "unary" follow.
_NAMES = (
    "Add", "FullyConnected", "Softmax", "Sigmoid", "StaticTranspose", "Clamp", "Conv2d", "Div",
    "StaticResizeBilinear2D", "StaticConstantPad", "AvgPooling2d", "Minimum", "DepthwiseConv2d", "MaxPooling2d",
    "Multiply", "Subtract", "Floor", "Convert", "GlobalAvgPooling2d", "StaticReshape", "ArgMaxPooling2d", "SquareRoot",
    "Ceiling", "Hardswish", "LeakyReLU", "Maximum", "Negate", "Square", "ELU", "Abs", "PReLU", "Concatenate2",
    "Concatenate3", "Concatenate4", "StaticSlice", "ScaledDotProductAttention", "BatchMatrixMultiply", "Concatenate5",
    "ConvTranspose2d", "ReciprocalSquareRoot", "Log", "Gelu", "Tanh", "Exp", "Sin", "Copy", "Cos",
)  # fmt: skip
_LAYOUT_OF = {
    **dict.fromkeys(("Add", "Div", "Minimum", "Multiply", "Subtract", "Maximum", "PReLU"), "binary"),
    **dict.fromkeys(("Conv2d", "DepthwiseConv2d", "ConvTranspose2d"), "conv"),
    **dict.fromkeys(("StaticTranspose", "StaticResizeBilinear2D", "StaticReshape"), "shaped"),
    **dict.fromkeys(("AvgPooling2d", "MaxPooling2d"), "pool"),
    **dict.fromkeys(("Concatenate2", "Concatenate3", "Concatenate4", "Concatenate5"), "cat"),
    **dict.fromkeys(("StaticConstantPad", "StaticSlice"), "ranged"),
    **dict.fromkeys(("ELU", "LeakyReLU"), "sloped"),
    "BatchMatrixMultiply": "binary",
    "FullyConnected": "linear",
    "ArgMaxPooling2d": "argmax",
    "ScaledDotProductAttention": "attention",
}


@dataclasses.dataclass(frozen=True)
class Value:
    """A tensor of the graph; `constant` is the number of its data, 0 for none."""

    dtype: str
    shape: tuple[int, ...]
    constant: int
    external: int  # its number among the arguments of the delegate, `ABSENT` for none
    scales: tuple[int, int] | None = None  # number of the constant with the scales, and how many there are

    @property
    def bytes(self) -> int:
        return math.ceil(math.prod(self.shape) * _BITS[self.dtype] / 8)


@dataclasses.dataclass(frozen=True)
class Node:
    """An operator. `inputs` are numbers of values: data, filter, bias; `ABSENT` for one that it has not."""

    type: str  # as the schema names it: "XNNConv2d"
    inputs: tuple[int, ...]
    output: int
    taps: int = 0  # of a convolution: multiply-adds for each output (of a transposed one, for each input)
    filter_size: int = 0  # of a convolution: elements that its filter must have


class XnnpackGraph:
    """A payload taken apart. Every number leads to something, or `VerificationFailed` says which does not."""

    def __init__(self, payload: Buffer, named_data: Mapping[str, Buffer]):
        flatbuffer, self._constants = _split(payload)
        self._named = named_data
        self._root = Table.root(flatbuffer, "a graph for XNNPACK", (b"XN00", b"XN01"))
        self.values = dict(_value(table) for table in self._root.tables(2))
        self.nodes = tuple(_node(table) for table in self._root.tables(1))
        self.inputs, self.outputs = self._root.scalars(4, "I"), self._root.scalars(5, "I")
        self._check()

    def constant(self, number: int) -> Buffer:
        """The stored bytes of a constant."""
        if number >= len(self._places):
            raise VerificationFailed(f"constant {number} is not among the {len(self._places)} of a graph for XNNPACK")
        offset, size, key = self._places[number]
        if key and key not in self._named:
            raise VerificationFailed(f"the program has no data of the name {key} that a graph for XNNPACK reads")
        found = self._named[key][:size] if key else self._constants[offset : offset + size]
        if len(found) < size:
            raise VerificationFailed(f"constant {number} of a graph for XNNPACK lies outside its {len(found):,} bytes")
        return found

    def check_call(self, arguments: int) -> None:
        """Raise `VerificationFailed` unless a step gives this delegate as many arguments as it takes."""
        wanted = len(self.inputs) + len(self.outputs)
        if arguments != wanted:
            raise VerificationFailed(f"a step gives a delegate {arguments} arguments, its graph has {wanted}")

    def storage(self, number: int) -> str:
        """What names the stored bytes of a constant within the program; "" if it belongs to this graph alone."""
        return self._places[number][2]

    @functools.cached_property
    def _places(self) -> list[tuple[int, int, str]]:
        """Offset, bytes and name of each constant."""
        tables = self._root.tables(8)
        return [(table.scalar(0, "Q", _NO_OFFSET), table.scalar(1, "Q"), table.text(2)) for table in tables]

    def _check(self) -> None:
        """XNNPACK itself trusts these numbers, so none may lead out of the graph or of its data."""
        used = [number for node in self.nodes for number in (*node.inputs, node.output) if number != ABSENT]
        for number in (*used, *self.inputs, *self.outputs):
            if number not in self.values:
                raise VerificationFailed(f"a graph for XNNPACK reads value {number}, which does not exist")
        arguments = [self.values[number].external for number in (*self.inputs, *self.outputs)]
        external = [value.external for value in self.values.values() if value.external != ABSENT]
        count = self._root.scalar(3, "I")  # as a list it could be of 2^32 numbers
        if not (count == len(external) and sorted(arguments) == sorted(external) == list(range(count))):
            raise VerificationFailed(f"a graph for XNNPACK numbers its {len(arguments)} arguments {external[:20]}")
        for number, value in self.values.items():
            self._check_data(number, value)
        self._check_order()
        for node in self.nodes:
            found = math.prod(self.values[node.inputs[1]].shape) if node.filter_size else 0
            if found != node.filter_size:
                raise VerificationFailed(
                    f"a {node.type} needs a filter of {node.filter_size:,} elements, not {found:,}"
                )

    def _check_order(self) -> None:
        """Each value is written once, before it is read."""
        ready = {number for number, value in self.values.items() if value.constant} | set(self.inputs)
        for index, node in enumerate(self.nodes):
            if not ready.issuperset(number for number in node.inputs if number != ABSENT):
                raise VerificationFailed(f"{node.type}_{index} of a graph for XNNPACK reads what is not written yet")
            if node.output in ready:
                raise VerificationFailed(f"{node.type}_{index} of a graph for XNNPACK writes what is there already")
            ready.add(node.output)
        if not ready.issuperset(self.outputs):
            raise VerificationFailed("a graph for XNNPACK does not write all of its outputs")

    def _check_data(self, number: int, value: Value) -> None:
        if value.bytes > _MAX_BYTES:
            raise VerificationFailed(f"value {number} of a graph for XNNPACK has the shape {list(value.shape)}")
        stored = len(self.constant(value.constant)) if value.constant else value.bytes
        if stored < value.bytes:
            raise VerificationFailed(
                f"value {number} of a graph for XNNPACK needs {value.bytes:,} bytes, {stored:,} are there"
            )
        if value.scales and len(self.constant(value.scales[0])) < 2 * value.scales[1]:
            raise VerificationFailed(f"value {number} of a graph for XNNPACK lacks some of its scales")


def _split(payload: Buffer) -> tuple[Buffer, Buffer]:
    """The flatbuffer and the constants of a payload."""
    if len(payload) < _HEADER.size or bytes(payload[4:8]) != b"XH00":
        raise VerificationFailed(f"a graph for XNNPACK starts with {bytes(payload[4:8])!r}, not with its header XH00")
    _, _, _, start, size, constants, constant_size = _HEADER.unpack_from(payload)
    if max(start + size, constants + constant_size) > len(payload):
        raise VerificationFailed(f"a graph for XNNPACK is truncated: {len(payload):,} bytes are there")
    return payload[start : start + size], payload[constants : constants + constant_size]


def _value(table: Table) -> tuple[int, Value]:
    """Number and value. Quantized ones wrap a plain one."""
    kind, found = table.union(0)
    if found is None:
        raise VerificationFailed("a value of a graph for XNNPACK is empty")
    tensor = found.needed(0) if kind == _QUANTIZED_VALUE else found
    dtype, shape = tensor.scalar(0, "h"), tensor.scalars(2, "I")
    if dtype not in _DTYPES:
        raise VerificationFailed(f"a value of a graph for XNNPACK has the unknown datatype {dtype}")
    if len(shape) != tensor.scalar(1, "I") or len(shape) > _MAX_RANK:
        raise VerificationFailed(f"a value of a graph for XNNPACK has the shape {list(shape)[:10]}")
    scales = _scales(found) if kind == _QUANTIZED_VALUE else None
    value = Value(_DTYPES[dtype], shape, tensor.scalar(3, "I"), tensor.scalar(4, "I"), scales)
    return tensor.scalar(6, "I"), value


def _scales(quantized: Table) -> tuple[int, int] | None:
    kind, params = quantized.union(1)
    if params is None or kind not in _SCALES:
        return None
    buffer, count = _SCALES[kind]
    number = params.scalar(buffer, "I")
    return (number, params.scalar(count, "I")) if number else None


def _node(table: Table) -> Node:
    kind, found = table.union(0)
    if found is None or not 1 <= kind <= len(_NAMES):
        raise VerificationFailed(f"a node of a graph for XNNPACK has the unknown type {kind}")
    name = _NAMES[kind - 1]
    layout = _LAYOUT_OF.get(name, "unary")
    inputs, output = _LAYOUTS[layout]
    numbers = tuple(found.scalar(field, "I") for field in inputs)
    if layout == "cat":
        numbers = numbers[: int(name[-1])]  # "Concatenate3": the others are not read
    channels = 11 if name == "ConvTranspose2d" else 10  # of a group: out or in
    taps = math.prod(found.scalar(field, "I") for field in (4, 5, channels)) if layout == "conv" else 0
    full = math.prod(found.scalar(field, "I") for field in (4, 5, 10, 11, 12)) if layout == "conv" else 0
    return Node(f"XNN{name}", numbers, found.scalar(output, "I"), taps, full)


def constants_read(graph: XnnpackGraph) -> Iterator[tuple[str, int, Value]]:
    """Each constant once: a name that says who reads it ("XNNConv2d_3.filter"), its number, its value."""
    seen, roles = set(), ("data", "filter", "bias", "scale", "mask")
    for index, node in enumerate(graph.nodes):
        for role, number in zip(roles, node.inputs):
            value = graph.values.get(number)
            if value and value.constant and value.constant not in seen:
                seen.add(value.constant)
                yield f"{node.type}_{index}.{role}", value.constant, value
