"""Reader of Core AI assets (`.aimodel`), with Core AI's own parser.

What is read: of the function `main` every operator, the dtype and shape of its first result, and its multiply-adds; of
every graph every constant with its dtype, shape and bytes; inputs and outputs. A composite operator (`layer_norm`) is
one operator: of the graph that defines it only the constants are listed.

What cannot be read: names of weights, which the format does not keep (they are named after who reads them first), and
the stored bytes of a large one, which the Python binding does not hand out: no digests, so no duplicates are found. The
parser is coreai-core's unversioned binding of MLIR, under `AIModelAsset.program`; the asset of another version may need
another one.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgevl.errors import VerificationFailed
from edgevl.formats import Contents, Operation, Weight, bits_of
from edgevl.formats.graph import Step, constant_values, convolution_macs, live_values, product_macs
from edgevl.runtime.coreai_asset import PROGRAM, check_asset, import_coreai, quiet_coreai

ENTRY = "main"
_PREFIXES = ("coreai.decomposable.", "coreai.")
_CONSTANT, _OUTPUT = "coreai.constant", "coreai.output"
_CALLEE = re.compile(r"@(\w+?)(?:_composite)?(?:_\d+|_[a-z]{8})?>")  # @layer_norm_3, @avg_pool2d_composite_qwertyui
_PRODUCTS = {"batch_matmul", "broadcasting_batch_matmul"}
_DTYPES = {"i1": "bool", "bf16": "bfloat16", "f16": "float16", "f32": "float32", "f64": "float64", "index": "int64"}

Shape = tuple[int, ...]


def read_coreai(path: Path) -> Contents:
    """Read `model.aimodel`.

    Raises:
        MissingDependency: coreai-torch, which brings Core AI, is not installed.
        EdgeVLError: a file is missing, or the program is not the one that its hash says.
        VerificationFailed: there is no function `main`, or its constants are larger than the file.
    """
    authoring = import_coreai("coreai.authoring", "reading a Core AI asset")
    check_asset(path)
    with quiet_coreai():
        program = authoring.AIModelAsset.load(path).program  # keeps the graphs alive
    graphs = {_attribute(graph, "sym_name"): graph for graph in program._module._mlir_module.body.operations}
    if ENTRY not in graphs:
        raise VerificationFailed(f"{path.name} holds no function {ENTRY}")
    main = _Graph(graphs.pop(ENTRY))
    weights = [weight for graph in (main, *map(_Graph, graphs.values())) for weight in graph.weights()]
    size = (path / PROGRAM).stat().st_size
    if sum(weight.bytes for weight in weights) > size:
        raise VerificationFailed(f"{path.name}: the constants need more bytes than {PROGRAM} has, {size:,}")
    return Contents(tuple(weights), tuple(main.describe()), main.inputs, main.outputs)


class _Graph:
    """One graph of a program. Values are named by who computes them."""

    def __init__(self, graph: Any):
        self.name = _attribute(graph, "sym_name")
        block = graph.regions[0].blocks[0]
        self._operations = [operation.operation for operation in block.operations]
        names = [f"{_kind(operation)}_{index}" for index, operation in enumerate(self._operations)]
        self._owned = dict(zip(names, self._operations))
        self._names = {result: name for name, operation in self._owned.items() for result in operation.results}
        self._arguments = dict(zip(block.arguments, _io_names(graph, "arg_attrs")))
        output = next((operation for operation in self._operations if operation.name == _OUTPUT), None)
        returned = list(output.operands) if output is not None else []
        self.inputs = tuple((name, _tensor(value)[1]) for value, name in self._arguments.items())
        self.outputs = tuple(zip(_io_names(graph, "res_attrs"), (_tensor(value)[1] for value in returned)))
        steps = [
            Step(tuple(self._name(value) for value in operation.operands), (name,))
            for name, operation in self._owned.items()
        ]
        self._live = live_values(steps, [self._name(value) for value in returned])
        self._fixed = constant_values(steps, [name for name, one in self._owned.items() if one.name == _CONSTANT])

    def _name(self, value: Any) -> str:
        return self._names.get(value) or self._arguments.get(value, "")

    def weights(self) -> Iterator[Weight]:
        readers_of: dict[str, str] = {}
        for name, operation in self._owned.items():
            for index, value in enumerate(operation.operands):
                readers_of.setdefault(self._name(value), f"{name}.{index}")
        for name, operation in self._owned.items():
            if operation.name != _CONSTANT:
                continue
            dtype, shape = _tensor(operation.results[0])
            called = f"{self.name}/{readers_of.get(name, name)}"
            size = math.ceil(_stored(operation, shape) * bits_of(dtype) / 8)
            yield Weight(called, dtype, shape, size, used=name in self._live)

    def describe(self) -> Iterator[Operation]:
        for name, operation in self._owned.items():
            if operation.name in (_CONSTANT, _OUTPUT):
                continue
            kind, results = _kind(operation), list(operation.results)
            dtype, shape = _tensor(results[0]) if results else ("", ())
            macs = _macs(kind, operation, shape)
            compute = _tensor(operation.operands[1])[0] if macs else ""
            yield Operation(kind, name, dtype, shape, macs, compute, name in self._live, name in self._fixed)


def _kind(operation: Any) -> str:
    """The type of an operator: without the dialect, and of a call the composite operator that it stands for."""
    if operation.name == "coreai.invoke":
        callee = _CALLEE.search(str(operation.attributes["callee"]))
        return callee[1] if callee else "invoke"
    for prefix in _PREFIXES:
        if operation.name.startswith(prefix):
            return operation.name.removeprefix(prefix)
    return operation.name


def _macs(kind: str, operation: Any, output: Shape) -> int:
    if kind in ("conv2d", "conv3d"):
        return convolution_macs(output, _tensor(operation.operands[1])[1])
    if kind in _PRODUCTS:
        return product_macs(output, _tensor(operation.operands[0])[1][-1])
    return 0


def _tensor(value: Any) -> tuple[str, Shape]:
    """dtype as NumPy names it and shape of a value, -1 for a side that is not fixed; ("", ()) for what is no tensor."""
    from coreai._compiler.ir import RankedTensorType

    if not isinstance(value.type, RankedTensorType):
        return "", ()
    kind = str(value.type.element_type)
    signs = {"ui": "uint", "si": "int", "i": "int"}
    prefix = kind.rstrip("0123456789")
    dtype = _DTYPES.get(kind) or (signs[prefix] + kind.removeprefix(prefix) if prefix in signs else kind.lower())
    return dtype, tuple(side if side >= 0 else -1 for side in value.type.shape)


def _stored(operation: Any, shape: Shape) -> int:
    """Elements that the file holds: of a tensor of equal numbers, one."""
    value = operation.attributes["value"]
    return 1 if getattr(value, "is_splat", False) else math.prod(shape)


def _attribute(operation: Any, name: str) -> str:
    return str(operation.operation.attributes[name]).strip('"')


def _io_names(graph: Any, key: str) -> list[str]:
    if key not in graph.operation.attributes:
        return []
    entries = graph.operation.attributes[key]
    return [str(entry["coreai.name"]).strip('"') if "coreai.name" in entry else "" for entry in entries]
