"""What is done to a converted LiteRT model before it is written: readable names, half precision, int8, bytes."""

import copy
import re
from collections import Counter
from typing import Any

import numpy as np

import edgevl
from edgevl.errors import InputError, MissingDependency
from edgevl.export.passes import graph_pass
from edgevl.plans.weight_codes import quantize_channels
from edgevl.runtime.litert_file import IDENTIFIER, LiteModel, numbers, parse_model, tensor_name, tensor_shape

SMALLEST = 256  # elements: below that the bytes saved are not worth an operator more
ALIGNMENT = 16  # of the constants in the file; the schema says force_align: 16
LAYER = "Layer"  # in the converter's tensor names: Layer_NAME is a part of the path of a layer
_LAYER = re.compile(rf"\b{LAYER}_(\w+)")
_OPERANDS = {1: "weight", 2: "bias"}  # of the operators below; other constants are numbered
_LAYERS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "EMBEDDING_LOOKUP"}


def rename_tensors(model: LiteModel) -> LiteModel:
    """Name every tensor after the layer and the operator that computes or reads it, in place.

    The converter's names repeat Python's class paths, up to a thousand characters for one tensor, and some constants
    are `arith.constant17` only. Inputs and outputs get the names that the signature has for them.
    """
    names = {index: name for kind in ("inputs", "outputs") for name, index in model.signature(kind).items()}
    seen: Counter[str] = Counter()
    for operator in model.operators:
        kind, results = model.operator_type(operator), list(numbers(operator.outputs))
        base = _unique(f"{_layer(model, operator)}/{kind}", seen)
        for index in results:
            names.setdefault(index, base if index == results[0] else _unique(base, seen))
        for place, index in enumerate(numbers(operator.inputs)):
            if index >= 0 and index not in names:  # a constant, or it would have been computed by now
                names[index] = f"{base}.{_OPERANDS.get(place, place) if kind in _LAYERS else place}"
    for index, tensor in enumerate(model.tensors):
        tensor.name = names.get(index, f"unused.{index}").encode()
    return model


def _layer(model: LiteModel, operator: Any) -> str:
    """The layer of an operator: that of its weight, or of its result, or of its constants where that is an output's."""
    inputs = list(numbers(operator.inputs))
    weight = inputs[1:2] if model.operator_type(operator) in _LAYERS else []
    indices = [*weight, *numbers(operator.outputs), *reversed(inputs)]
    layers = (layer_of(tensor_name(model.tensors[index])) for index in indices if index >= 0)
    return next((layer for layer in layers if layer), "program")


def layer_of(name: str) -> str:
    """The dotted path of the layer in a converter's tensor name; of an operator fused from several, the first of them.

    `Layer/Layer_model/Layer_head;12` is `model.head`; "" is none.
    """
    parts = [".".join(_LAYER.findall(part)) for part in name.split(";;")]
    return next((part for part in reversed(parts) if part), "")


def _unique(name: str, seen: Counter[str]) -> str:
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}:{seen[name]}"


def halve_weights(model: LiteModel) -> LiteModel:
    """Store the large float32 constants as float16, in place; a DEQUANTIZE in front of their readers widens them again.

    That is the form that LiteRT's delegates look for: XNNPACK unpacks such weights once when it loads, a GPU computes
    in float16. Raises `InputError` for a weight that float16 cannot hold.
    """
    found = [index for index, tensor in enumerate(model.tensors) if _is_large(model, tensor)]
    front = [_widened(model, index) for index in found]
    model.graph.operators = model.operators = [*front, *model.operators]
    return model


def _is_large(model: LiteModel, tensor: Any) -> bool:
    stored = model.stored(tensor)
    return stored is not None and model.dtype(tensor) == "float32" and len(stored) >= 4 * SMALLEST


def _widened(model: LiteModel, index: int) -> Any:
    """Put a float16 constant in the place of tensor `index`, which becomes the result of the operator returned."""
    schema, wide = model.schema, model.tensors[index]
    values = np.asarray(model.stored(wide)).view(np.float32)
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not np.isfinite(halves).all():
        largest = np.abs(values).max()
        raise InputError(f"{tensor_name(wide)} holds {largest:g}, float16 ends at 65504: use precision fp32 or w8")
    half = schema.TensorT(shape=wide.shape, type=schema.TensorType.FLOAT16, buffer=wide.buffer, hasRank=True)
    half.name, half.quantization = wide.name + b".fp16", schema.QuantizationParametersT()
    model.tree.buffers[wide.buffer] = schema.BufferT(data=halves.view(np.uint8))
    wide.buffer = 0  # by convention the empty one
    return _dequantize(model, half, index)


def _dequantize(model: LiteModel, narrow: Any, index: int) -> Any:
    """Add the tensor `narrow` and return the operator that widens it to tensor `index`."""
    model.tensors.append(narrow)
    model.graph.tensors = model.tensors
    operator = model.schema.OperatorT(opcodeIndex=_operator_code(model, "DEQUANTIZE"))
    operator.inputs, operator.outputs = [len(model.tensors) - 1], [index]
    return operator


def _operator_code(model: LiteModel, name: str) -> int:
    """The number of an operator code of this model, added if it is not there."""
    number = getattr(model.schema.BuiltinOperator, name)
    for index, code in enumerate(model.tree.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == number:
            return index
    code = model.schema.OperatorCodeT(deprecatedBuiltinCode=min(number, 127), builtinCode=number, version=3)
    model.tree.operatorCodes.append(code)
    return len(model.tree.operatorCodes) - 1


@graph_pass("float-outputs", "litert", "runs", "dequantizes outputs that the converter leaves in int8")
def dequantize_outputs(model: LiteModel) -> LiteModel:
    """Make outputs in int8 float32, in place, by a DEQUANTIZE behind each.

    The converter takes away the one that the program ends with: callers would have to know scale and zero point.
    """
    schema = model.schema
    for index in numbers(model.graph.outputs):
        wide = model.tensors[index]
        if model.dtype(wide) != "int8":
            continue
        narrow = copy.copy(wide)
        narrow.name = wide.name + b".int8"
        wide.type, wide.quantization = schema.TensorType.FLOAT32, schema.QuantizationParametersT()
        for operator in model.operators:
            for place in ("inputs", "outputs"):
                named = list(numbers(getattr(operator, place)))
                setattr(operator, place, [len(model.tensors) if number == index else number for number in named])
        model.operators.append(_dequantize(model, narrow, index))
    model.graph.operators = model.operators
    return model


@graph_pass("litert-int8-tables", "litert", "small", "stores large embedding tables in int8")
def quantize_tables(model: LiteModel) -> LiteModel:
    """Store the large float32 tables of EMBEDDING_LOOKUP as int8 with a scale for each row, in place."""
    for operator in model.operators:
        if model.operator_type(operator) != "EMBEDDING_LOOKUP":
            continue
        table = model.tensors[list(numbers(operator.inputs))[1]]
        if _is_large(model, table):
            _quantize_table(model, table)
    return model


def _quantize_table(model: LiteModel, table: Any) -> None:
    stored = model.stored(table)
    assert stored is not None, "a large constant is stored"
    rows = stored.view(np.float32).reshape(tensor_shape(table))
    steps, scales = quantize_channels(rows, 0)
    model.tree.buffers[table.buffer] = model.schema.BufferT(data=steps.reshape(-1).view(np.uint8))
    table.type = model.schema.TensorType.INT8
    table.quantization = model.schema.QuantizationParametersT(
        scale=scales, zeroPoint=np.zeros(len(rows), np.int64), quantizedDimension=0
    )


def quantize_weights(model: LiteModel, recipe: str = "dynamic_wi8_afp32") -> LiteModel:
    """Return `model` with int8 weights, one scale for each output channel, by Google's ai-edge-quantizer.

    "Dynamic range": the kernels quantize the values to int8 as they come, row by row, and give back float32. On the
    embedded model that was as accurate as weights alone (`weight_only_wi8_afp32`: widened when the file is loaded) and
    took 0.4 of the time, XNNPACK on AVX-512 VNNI.
    """
    try:
        from ai_edge_quantizer import quantizer
        from ai_edge_quantizer import recipe as recipes
    except ImportError as error:
        raise MissingDependency("ai-edge-quantizer", "litert", "int8 weights for LiteRT") from error
    work = quantizer.Quantizer(bytes(to_bytes(model)), getattr(recipes, recipe)())
    result = work.quantize(enable_progress_bar=False, enable_progress_report=False)
    return parse_model(bytes(result.quantized_model or b""), model.name, model.schema)


def to_bytes(model: LiteModel) -> bytes:
    """Serialize: the same bytes for the same model, each constant aligned to 16 bytes as the schema demands."""
    import flatbuffers

    tree = model.tree
    tree.description = f"edgevl {edgevl.__version__}".encode()
    tree.buffers = [_aligned(model, buffer) for buffer in tree.buffers]
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _aligned(model: LiteModel, buffer: Any) -> Any:
    """The same buffer, inside the flatbuffer, with a `Pack` that aligns: the generated one for Python does not."""

    class AlignedBuffer(model.schema.BufferT):
        def Pack(self, builder: Any) -> int:
            schema, data = model.schema, np.ascontiguousarray(self.data, np.uint8).tobytes()
            builder.StartVector(1, len(data), ALIGNMENT)
            builder.head -= len(data)
            builder.Bytes[builder.head : builder.head + len(data)] = data
            vector = builder.EndVector()
            schema.BufferStart(builder)
            schema.BufferAddData(builder, vector)
            return schema.BufferEnd(builder)

    data = model.stored_buffer(buffer)
    return model.schema.BufferT() if data is None else AlignedBuffer(data=data)
