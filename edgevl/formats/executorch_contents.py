"""Reader of ExecuTorch programs (`.pte`): what the program holds, and what its delegates hold.

ExecuTorch is not needed for it. Weights of XNNPACK are read where they lie, in the named data of the program. Their
dtypes are those that its graphs declare; the stored bytes must be as many as dtype and shape ask for.
"""

import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgevl.errors import VerificationFailed
from edgevl.formats import Contents, Operation, Weight
from edgevl.formats.executorch_program import Call, Method, PteProgram, Tensor
from edgevl.formats.flatbuffer import Buffer
from edgevl.formats.graph import Once, attention_macs, convolution_macs, digest, product_macs, size
from edgevl.formats.graph import transposed_convolution_macs as transposed_macs
from edgevl.formats.xnnpack_graph import BACKEND, Node, Value, XnnpackGraph, constants_read

COREML = "CoreMLBackend"
_PRODUCTS = {"aten::bmm.out": 0, "aten::mm.out": 0, "aten::addmm.out": 1, "aten::linear.out": 0}  # the left operand
_CONVOLUTION, _TRANSPOSED = "aten::convolution.out", 6  # an argument: is it transposed?
_PACKAGE = ("Manifest.json", "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin")
_COREML_DIRECTORY = 1 << 20  # bytes at the end of a Core ML payload that are searched for its table of files


def read_executorch(path: Path) -> Contents:
    """Read `model.pte`.

    Weights of the program itself are named `constant_N`, those of a delegate by who reads them first:
    `delegate_0.XNNConv2d_3.filter`. Operations are ExecuTorch's own (`aten::embedding.out`), the nodes of XNNPACK
    (`XNNConv2d`) and, for a Core ML delegate, the operators of its ML Program; any other delegate is one operation.

    Raises `VerificationFailed` if a part lies outside the file or a number leads nowhere.
    """
    reader = _Reader(PteProgram.load(path))
    for call in reader.program.forward.calls:
        reader.read(call)
    reader.read_rest()
    inputs, outputs = reader.program.inputs, reader.program.outputs
    return Contents(
        tuple(reader.weights),
        tuple(reader.operations),
        tuple((name, tensor.shape) for name, tensor in inputs),
        tuple((name, tensor.shape) for name, tensor in outputs),
    )


class _Reader:
    """Collects weights and operations, call by call. Data that several read is counted once."""

    def __init__(self, program: PteProgram):
        self.program = program
        self._hashed = Once(len(program.data), "the program")
        self.weights: list[Weight] = []
        self.operations: list[Operation] = []
        self._seen: set[tuple[str, str | int]] = (
            set()
        )  # ("data", its name), ("constant", its number), ("delegate", ...)

    def read(self, call: Call) -> None:
        method = self.program.forward
        for number in call.args:
            self._constant(number, method.tensor(number))
        if call.operator:
            self.operations.append(_own_operation(call, method))
        elif ("delegate", call.delegate) not in self._seen:
            self._seen.add(("delegate", call.delegate))
            self._delegate(f"delegate_{call.delegate}", call.delegate)

    def read_rest(self) -> None:
        """What nothing reads: constants that no step takes, data that no delegate names."""
        for method in self.program.methods.values():
            for number, value in enumerate(method.values):
                self._constant(number, value if isinstance(value, Tensor) else None, used=False)
        for name, data in self.program.named_data.items():
            if ("data", name) not in self._seen:
                self.weights.append(Weight(f"data {name}", "uint8", (len(data),), len(data), self._digest(data), False))

    def _constant(self, number: int, tensor: Tensor | None, used: bool = True) -> None:
        if tensor is None or not tensor.constant or ("constant", tensor.constant) in self._seen:
            return
        self._seen.add(("constant", tensor.constant))
        data, name = self.program.constant(tensor), f"constant_{tensor.constant}"
        self.weights.append(Weight(name, tensor.dtype, tensor.shape, len(data), self._digest(data), used))

    def _delegate(self, name: str, index: int) -> None:
        delegate = self.program.forward.delegates[index]
        if delegate.backend == BACKEND:
            self._xnnpack(name, XnnpackGraph(delegate.payload, self.program.named_data))
        elif delegate.backend == COREML:
            contents = _coreml_contents(delegate.payload)
            self.weights += [dataclasses.replace(item, name=f"{name}.{item.name}") for item in contents.weights]
            self.operations += contents.operations
        else:
            data = delegate.payload
            self.operations.append(Operation(delegate.backend, name))
            self.weights.append(Weight(name, "unknown", (len(data),), len(data), self._digest(data)))

    def _xnnpack(self, name: str, graph: XnnpackGraph) -> None:
        self.operations += [_xnnpack_operation(name, index, graph) for index in range(len(graph.nodes))]
        for reader, number, value in constants_read(graph):
            self._stored(graph, number, f"{name}.{reader}", value.dtype, value.shape, value.bytes)
            if value.scales:
                place, count = value.scales
                bits = 8 * len(graph.constant(place)) // max(1, count)
                dtype = "float32" if bits >= 32 else "bfloat16"
                self._stored(graph, place, f"{name}.{reader}.scales", dtype, (count,), count * bits // 8)

    def _stored(
        self, graph: XnnpackGraph, number: int, name: str, dtype: str, shape: tuple[int, ...], length: int
    ) -> None:
        data, key = graph.constant(number), graph.storage(number)
        if key and ("data", key) in self._seen:
            return
        self._seen.add(("data", key))
        self.weights.append(Weight(name, dtype, shape, length, self._digest(data[:length])))

    def _digest(self, data: Buffer) -> str:
        self._hashed.add(len(data))
        return digest(data)


def _own_operation(call: Call, method: Method) -> Operation:
    """An operator that ExecuTorch runs itself. Its last argument is its output, or a list of them."""
    numbers = [method.first(number) for number in call.args]
    tensors = [method.tensor(number) for number in numbers]
    found = tensors[-1] if tensors else None
    output = found or Tensor("", (), 0)
    macs, compute = _own_macs(call, method, tensors, output)
    return Operation(call.operator, f"value_{numbers[-1] if numbers else 0}", output.dtype, output.shape, macs, compute)


def _own_macs(call: Call, method: Method, tensors: list[Tensor | None], output: Tensor) -> tuple[int, str]:
    left = tensors[_PRODUCTS.get(call.operator, 0)] if len(tensors) > 2 else None
    weight = tensors[1] if len(tensors) > 2 else None
    if left is None or weight is None or not left.shape:
        return 0, ""
    if call.operator in _PRODUCTS:
        return product_macs(output.shape, left.shape[-1]), left.dtype
    if call.operator == _CONVOLUTION and len(call.args) > _TRANSPOSED:
        transposed = method.values[call.args[_TRANSPOSED]]
        count = (
            transposed_macs(left.shape, weight.shape) if transposed else convolution_macs(output.shape, weight.shape)
        )
        return count, weight.dtype
    return 0, ""


def _xnnpack_operation(delegate: str, index: int, graph: XnnpackGraph) -> Operation:
    node = graph.nodes[index]
    output = graph.values[node.output]
    macs = _xnnpack_macs(node, graph, output)
    compute = _compute(*(graph.values[number].dtype for number in node.inputs[:2])) if macs else ""
    return Operation(node.type, f"{delegate}.{node.type}_{index}", output.dtype, output.shape, macs, compute)


def _xnnpack_macs(node: Node, graph: XnnpackGraph, output: Value) -> int:
    shapes = [graph.values[number].shape for number in node.inputs if number in graph.values]
    if node.taps:
        return size(shapes[0] if node.type == "XNNConvTranspose2d" else output.shape) * node.taps
    if node.type == "XNNFullyConnected" and output.shape:
        return size(output.shape[:-1]) * size(shapes[1])
    if node.type == "XNNBatchMatrixMultiply" and shapes[0]:
        return product_macs(output.shape, shapes[0][-1])
    if node.type == "XNNScaledDotProductAttention":
        return attention_macs(shapes[0], shapes[1], output.shape)
    return 0


def _compute(left: str, right: str) -> str:
    """XNNPACK multiplies integers if both operands are (4-bit weights are unpacked), else floats of the wider kind."""
    if all(dtype.startswith(("int", "uint")) for dtype in (left, right)):
        return "int8"
    return "float16" if left == right == "float16" else "float32"


def _coreml_contents(payload: Buffer) -> Contents:
    """Read the Core ML package inside a delegate's payload, from a folder that lives as long as that takes."""
    from edgevl.formats.coreml_contents import read_coreml

    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "model.mlpackage"
        for name, data in _coreml_files(payload):
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            (package / name).write_bytes(data)
        return read_coreml(package)


def _coreml_files(payload: Buffer) -> Iterator[tuple[str, Buffer]]:
    """The three files of a package that matter, by their fixed names: no path of the payload is followed.

    Files lie one after another; behind them, written backwards, is a JSON tree that says where each is.
    """
    text = bytes(payload[-_COREML_DIRECTORY:])[::-1].decode("utf-8", errors="replace")
    try:
        nodes = json.JSONDecoder().raw_decode(text)[0]["nodes"]
        places = {node["name"]: (node["dataRegion"]["offset"], node["dataRegion"]["size"]) for node in nodes}
    except (ValueError, KeyError, TypeError):
        raise VerificationFailed("the Core ML delegate holds no table of files where it should end") from None
    for name in _PACKAGE:
        start, length = places.get(Path(name).name, (0, 0))
        if not 0 <= start <= start + length <= len(payload):
            raise VerificationFailed(f"{name} of the Core ML delegate lies outside its {len(payload):,} bytes")
        yield name, payload[start : start + length]
