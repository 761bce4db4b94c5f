"""The operators of an ML Program (MIL): the dtype and shape of what each computes, its multiply-adds, what they are in.

The program states the type of every value, so nothing is inferred.
"""

from collections.abc import Iterator
from typing import Any

from edgevl.formats import Operation, bits_of
from edgevl.formats.graph import (
    Backwards,
    Shape,
    Step,
    attention_macs,
    constant_values,
    convolution_macs,
    einsum_macs,
    integer_compute,
    live_values,
    product_macs,
    transposed_convolution_macs,
)

_OPERANDS = {
    "conv": ("x", "weight"), "conv_transpose": ("x", "weight"), "linear": ("x", "weight"), "matmul": ("x", "y"),
    "scaled_dot_product_attention": ("query", "key"), "einsum": ("values", "values"),
}  # fmt: skip
# An operator that only moves numbers: a kernel that takes quantized operands takes them through it too.
_MOVES = {"expand_dims", "identity", "reshape", "slice_by_index", "slice_by_size", "squeeze", "transpose"}
_DEQUANTIZED = {"dequantize": "input", "constexpr_affine_dequantize": "quantized_data"}
_DEQUANTIZED["constexpr_blockwise_shift_scale"] = "data"
_EFFECTS = {"write_state", "coreml_update_state"}  # they count although no value depends on them


def tensor_type(kind: Any) -> tuple[str, Shape]:
    """dtype as NumPy names it and shape of a type of MIL, -1 for a side that is not fixed; ("", ()) for no tensor."""
    from coremltools.proto import MIL_pb2

    if not kind.HasField("tensorType"):
        return "", ()
    tensor = kind.tensorType
    dtype = MIL_pb2.DataType.Name(tensor.dataType).lower()  # pyright: ignore[reportAttributeAccessIssue]
    fixed = (side.constant.size if side.WhichOneof("dimension") == "constant" else -1 for side in tensor.dimensions)
    return ("" if dtype == "unused_type" else dtype), tuple(fixed)


class MilProgram:
    """All operators of the functions of an ML Program, nested blocks included, with the types of their values."""

    def __init__(self, program: Any):
        blocks = [block for function in program.functions.values() for block in function.block_specializations.values()]
        self.operations: list[Any] = [operation for block in blocks for operation in _operations(block)]
        self.types: dict[str, tuple[str, Shape]] = {}
        for function in program.functions.values():
            self.types.update((value.name, tensor_type(value.type)) for value in function.inputs)
        for operation in self.operations:
            inner = [value for block in operation.blocks for value in block.inputs]
            self.types.update((value.name, tensor_type(value.type)) for value in (*operation.outputs, *inner))
        self.producers = {value.name: operation for operation in self.operations for value in operation.outputs}
        steps = [_step(operation) for operation in self.operations]
        effects = [name for operation, step in zip(self.operations, steps) if operation.type in _EFFECTS
                   for name in step.reads]  # fmt: skip
        self.live = live_values(steps, [*effects, *(name for block in blocks for name in block.outputs)])
        weights = [value.name for operation in self.operations if _is_weight(operation) for value in operation.outputs]
        self.fixed = constant_values(steps, weights)
        self._quantized = Backwards(self._origin)

    def contents(self) -> tuple[Operation, ...]:
        return tuple(self._describe(operation) for operation in self.operations if operation.type != "const")

    def is_live(self, operation: Any) -> bool:
        return operation.type in _EFFECTS or any(value.name in self.live for value in operation.outputs)

    def _describe(self, operation: Any) -> Operation:
        name = operation.outputs[0].name if operation.outputs else ""
        dtype, shape = self.types.get(name, ("", ()))
        product = operation.type in _OPERANDS
        macs = self._macs(operation, shape) if product else 0
        compute = self._compute(operation) if macs else ""
        live, constant, counted = self.is_live(operation), name in self.fixed, macs > 0 or not product
        return Operation(operation.type, name, dtype, shape, macs, compute, live, constant, counted)

    def _operands(self, operation: Any) -> list[Any]:
        """The bindings of the two operands that are multiplied."""
        keys = _OPERANDS[operation.type]
        if keys[0] == keys[1]:
            return list(operation.inputs[keys[0]].arguments)
        return [operation.inputs[key].arguments[0] for key in keys]

    def _type(self, binding: Any) -> tuple[str, Shape]:
        if binding.WhichOneof("binding") == "value":
            return tensor_type(binding.value.type)
        return self.types.get(binding.name, ("", ()))

    def _macs(self, operation: Any, output: Shape) -> int:
        shapes = [self._type(binding)[1] for binding in self._operands(operation)]
        if operation.type == "einsum":
            return einsum_macs(self._constant(operation, "equation", "strings", ""), shapes)
        data, weight = shapes
        if operation.type == "conv":
            return convolution_macs(output, weight)
        if operation.type == "conv_transpose":
            return transposed_convolution_macs(data, weight)
        if operation.type == "scaled_dot_product_attention":
            return attention_macs(data, weight, output)
        transposed = operation.type == "matmul" and self._constant(operation, "transpose_x", "bools", False)
        return product_macs(output, data[-2 if transposed else -1])

    def _constant(self, operation: Any, key: str, field: str, default: Any) -> Any:
        """A parameter of an operator: bound by value, or to a `const`."""
        if key not in operation.inputs:
            return default
        binding = operation.inputs[key].arguments[0]
        if binding.WhichOneof("binding") == "value":
            value = binding.value
        elif binding.name in self.producers:
            value = self.producers[binding.name].attributes["val"]
        else:
            return default
        values = getattr(value.immediateValue.tensor, field).values
        return values[0] if values else default

    def _compute(self, operation: Any) -> str:
        """The dtype that the operands are multiplied in: an integer one only if both are quantized."""
        operands = self._operands(operation)
        quantized = [self._quantized(binding.name) if _is_name(binding) else "" for binding in operands]
        if len(quantized) == 2 and all(quantized):
            return integer_compute(*quantized)
        floats = [self._type(binding)[0] for binding in operands]
        return max(floats, key=bits_of) if all(floats) else ""

    def _origin(self, name: str) -> tuple[str, str]:
        """A step of `Backwards` to the integer dtype that a value is dequantized from; "" if it is not."""
        operation: Any = self.producers.get(name)
        if operation is not None and operation.type in _DEQUANTIZED:
            key = _DEQUANTIZED[operation.type]
            if key in operation.attributes:
                return tensor_type(operation.attributes[key].type)[0], ""
            return self._type(operation.inputs[key].arguments[0])[0], ""
        if operation is None or operation.type not in _MOVES:
            return "", ""
        moved = operation.inputs["x"].arguments[0]
        return "", moved.name if _is_name(moved) else ""


def _is_name(binding: Any) -> bool:
    return binding.WhichOneof("binding") == "name"


def _is_weight(operation: Any) -> bool:
    return operation.type == "const" or operation.type.startswith("constexpr_")


def _operations(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)


def _step(operation: Any) -> Step:
    return Step(tuple(_reads(operation)), tuple(value.name for value in operation.outputs))


def _reads(operation: Any) -> Iterator[str]:
    for argument in operation.inputs.values():
        yield from (binding.name for binding in argument.arguments if binding.WhichOneof("binding") == "name")
    for block in operation.blocks:
        yield from block.outputs
        for inner in block.operations:
            yield from _reads(inner)
