"""Compressed weights of an ML Program: int8, int4 in blocks, palettes of 16 values. `weight_codes` has the numbers.

What is compressed: the weights of `conv` and `linear` and the tables that `gather` reads, from 2 049 numbers up. With 4
bits, embedding and answer head, small and sensitive, get 8 (docs/log.md has the measurements), and so do filters with
few input channels.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgevl.plans.weight_codes import LARGEST_KEPT, SMALLEST, Groups, block_groups, palettize, quantize

_PASS = "edgevl::compress_weights"


@dataclass(frozen=True)
class Compression:
    """What is to become of the weights of a program."""

    bits: int  # 8 or 4
    palette: bool  # 4 bits: a palette; otherwise blocks
    ios18: bool  # the operators of iOS 18; otherwise those of iOS 16, which know no blocks
    tables: bool = False  # only the tables that `gather` reads: what a plan keeps in float stays float


def pipeline(ct: Any, compression: Compression) -> Any:
    """coremltools' default graph passes, and after them the compression of the weights."""
    _register_pass()
    passes = ct.PassPipeline.DEFAULT
    passes.append_pass(_PASS)
    passes.set_options(_PASS, {"compression": compression})
    return passes


@functools.cache
def _register_pass() -> None:
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import register_pass

    @register_pass(namespace="edgevl")
    class compress_weights(AbstractGraphPass):  # the class name is the name of the pass
        compression: Compression | None = None

        def apply(self, prog: Any) -> None:
            assert self.compression is not None, "an option of the pass"
            for function in prog.functions.values():
                with function:
                    compress_block(function, self.compression)

    del compress_weights


def compress_block(block: Any, compression: Compression) -> None:
    """Replace the large float constants that convolutions, linear layers and table look-ups read, in place."""
    constants = [operation for operation in block.operations if operation.op_type == "const"]
    wanted = ("gather",) if compression.tables else ("gather", "conv", "linear")
    places = {constant: place for constant in constants if (place := _place(constant)) in wanted}
    total, heads = sum(constant.outputs[0].val.size for constant in places), _heads(block)
    for constant, place in places.items():
        variable = constant.outputs[0]
        kept = place == "gather" or any(reader in heads for reader in variable.child_ops)
        few_bits = compression.bits < 8 and not (kept and variable.val.size <= LARGEST_KEPT * total)
        smaller = _compressed(constant, place == "conv", few_bits, compression)
        block.replace_uses_of_var_after_op(
            anchor_op=constant, old_var=variable, new_var=smaller, no_check_var_types=True
        )
        block.remove_ops([constant])


def _place(constant: Any) -> str:
    """Type of the operators that read a constant as their weight; "" if it is none, small, or read by others too."""
    variable = constant.outputs[0]
    value, found = variable.val, set()
    if not isinstance(value, np.ndarray) or value.dtype != np.float16 or value.ndim < 2 or value.size <= SMALLEST:
        return ""
    for reader in variable.child_ops:
        key = {"conv": "weight", "linear": "weight", "gather": "x"}.get(reader.op_type)
        found.add(reader.op_type if key and reader.inputs[key] is variable else "")
    return found.pop() if len(found) == 1 else ""


def _heads(block: Any) -> list[Any]:
    """The linear layers that give the outputs of the program, with nothing but casts in between."""
    heads = []
    for output in block.outputs:
        operation = output.op
        while operation is not None and operation.op_type in ("cast", "identity"):
            operation = operation.x.op
        heads += [operation] if operation is not None and operation.op_type == "linear" else []
    return heads


def _compressed(constant: Any, filters: bool, few_bits: bool, compression: Compression) -> Any:
    """Add the operator that stands for the compressed constant, in front of it; return its result."""
    from coremltools.converters.mil.mil import Builder, types

    mb: Any = Builder  # coremltools adds its operators to it when it is imported
    weight = constant.outputs[0].val
    place: dict[str, Any] = {"before_op": constant, "name": constant.name + "_compressed"}
    groups = block_groups(weight.shape) if few_bits else None
    if groups and compression.palette:
        indices, table = palettize(weight, filters)
        if compression.ios18:
            table = table.reshape(*(1 for _ in weight.shape), 16, 1)
            return mb.constexpr_lut_to_dense(indices=indices.astype(types.np_uint4_dtype), lut=table, **place)
        shape = np.array(weight.shape, np.uint32)
        return mb.constexpr_lut_to_dense(indices=_packed(indices), lut=table, shape=shape, **place)
    data, scale = quantize(weight, groups or _channels(weight.shape), 4 if groups else 8, filters)
    if compression.ios18:
        data = data.astype(types.np_int4_dtype if groups else np.int8)
        return mb.constexpr_blockwise_shift_scale(data=data, scale=scale, **place)
    return mb.constexpr_affine_dequantize(
        quantized_data=data, zero_point=np.int8(0), scale=scale.reshape(-1), axis=np.int32(0), **place
    )


def _channels(shape: Groups) -> Groups:
    """One group for each output channel, or row of a table."""
    return (shape[0], *(1 for _ in shape[1:]))


def _packed(indices: np.ndarray) -> np.ndarray:
    """4-bit indices, two to a byte, the first in the low bits: how iOS 16 stores them."""
    flat = indices.reshape(-1)
    flat = np.concatenate([flat, np.zeros(flat.size % 2, np.uint8)])
    return flat[::2] | (flat[1::2] << 4)
