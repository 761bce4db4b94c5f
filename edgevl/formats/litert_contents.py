"""Reader of LiteRT files: constants and operators of a `.tflite`, with nothing but ai-edge-litert installed."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgevl.formats import Contents, Operation, Weight, bits_of
from edgevl.formats.graph import Once, digest
from edgevl.runtime.litert_file import CUSTOM, LiteModel, numbers, read_model, tensor_name, tensor_shape


def read_litert(path: Path) -> Contents:
    """Read `model.tflite`: its stored tensors, its operators, and the inputs and outputs of its signature."""
    model = read_model(path, "reading a LiteRT file")
    live, constant = _live(model), _constant(model)
    operations = tuple(_operation(model, operator, live, constant) for operator in model.operators)
    return Contents(tuple(_weights(model, live)), operations, _interface(model, "inputs"), _interface(model, "outputs"))


def _live(model: LiteModel) -> set[int]:
    """The tensors that an output depends on, by number. Operators are in the order in which they run."""
    live = set(numbers(model.graph.outputs))
    for operator in reversed(model.operators):
        if live.intersection(numbers(operator.outputs)):
            live.update(numbers(operator.inputs))
    return live


def _constant(model: LiteModel) -> set[int]:
    """The tensors that do not depend on an input: those stored, and what is computed from them alone."""
    constant = {index for index, tensor in enumerate(model.tensors) if model.stored(tensor) is not None}
    for operator in model.operators:
        if all(index in constant for index in numbers(operator.inputs) if index >= 0):
            constant.update(numbers(operator.outputs))
    return constant


def _weights(model: LiteModel, live: set[int]) -> Iterator[Weight]:
    """Every stored tensor; of several over one buffer the first, for the file holds the bytes once."""
    seen, hashed = set(), Once(len(model.content), model.name)
    for index, tensor in enumerate(model.tensors):
        stored = model.stored(tensor)
        if stored is None or tensor.buffer in seen:
            continue
        seen.add(tensor.buffer)
        hashed.add(len(stored))
        name, dtype, shape = tensor_name(tensor), model.dtype(tensor), tensor_shape(tensor)
        yield Weight(name, dtype, shape, len(stored), digest(stored.data), index in live)


def _operation(model: LiteModel, operator: Any, live: set[int], constant: set[int]) -> Operation:
    kind, indices = model.operator_type(operator), list(numbers(operator.outputs))
    operands = [model.tensors[index] if index >= 0 else None for index in numbers(operator.inputs)]
    result = model.tensors[indices[0]] if indices else None
    if result is None:
        return Operation(kind, "", used=False)
    macs, pair = _multiply_adds(kind, operator, operands, tensor_shape(result))
    custom = kind.startswith(CUSTOM)
    return Operation(
        kind.removeprefix(CUSTOM),
        tensor_name(result),
        model.dtype(result),
        tensor_shape(result),
        macs,
        _compute(*(model.dtype(tensor) for tensor in pair)) if macs else "",
        used=not live.isdisjoint(indices),
        constant=constant.issuperset(indices),
        domain="custom" if custom else "",
    )


def _multiply_adds(kind: str, operator: Any, operands: list[Any], result: tuple[int, ...]) -> tuple[int, list[Any]]:
    """How many multiply-adds an operator does, and the two tensors that it multiplies. (0, []) for any other operator.

    Weights are [O, H, W, I] (I of one group), depthwise [1, H, W, O], of a FULLY_CONNECTED [O, I].
    """
    if kind == "TRANSPOSE_CONV":  # operands: shape of the result, weights, input
        weight, source = operands[1:3]
        return math.prod(tensor_shape(source)) * math.prod(tensor_shape(weight)[:3]), [source, weight]
    if kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"):
        return 0, []
    pair = operands[:2]
    if kind == "BATCH_MATMUL":
        across = bool(operator.builtinOptions and operator.builtinOptions.adjX)
        depth = tensor_shape(pair[0])[-2 if across else -1]
    else:
        weight = tensor_shape(pair[1])
        depth = math.prod(weight[:-1] if kind == "DEPTHWISE_CONV_2D" else weight[1:])
    return math.prod(result) * depth, pair


def _compute(source: str, weight: str) -> str:
    """The dtype in which a kernel multiplies.

    Float values and integer weights are "dynamic range": the kernel quantizes the values to int8 when it runs, and
    widens int4 weights to that.
    """
    if source.startswith("float") and not weight.startswith("float"):
        return "int8"
    return max(source, weight, key=bits_of)


def _interface(model: LiteModel, kind: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, tensor_shape(model.tensors[index])) for name, index in model.signature(kind).items())
