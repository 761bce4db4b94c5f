"""The table of operators: how one operator of an ML Program becomes a function on torch tensors.

An operator's builder runs once, when a program is compiled. It reads the parameters (strides, axes, modes) from its
`Node` and returns a kernel: a function that takes the operands, in the declared order, and returns the result. Where a
builder needs what only a run tells, a shape or a computed parameter, it runs then (`late.py`): builders need not care.
Half precision values arrive as float32 tensors; rounding the result is the executor's business.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from .compressed import decompress
from .node import Node, Unknown, UnsupportedOp, to_tensor

__all__ = ["OPS", "STRICT", "Kernel", "Node", "OpDef", "Table", "Unknown", "UnsupportedOp", "mil_op", "to_tensor"]

Kernel = Callable[..., Any]  # (*operands: Tensor | None) -> Tensor, or a sequence of tensors for several outputs
Builder = Callable[[Node], Kernel]

TORCH_DTYPES = {
    "fp16": torch.float32,  # half precision is computed in, and accumulated in, float32
    "fp32": torch.float32,
    "bool": torch.bool,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "uint16": torch.int32,  # torch cannot index with uint16
    "int32": torch.int32,
    "uint32": torch.int64,
    "int64": torch.int64,
}
T = TypeVar("T")
Item = TypeVar("Item")


class Table(dict[str, T]):
    """A dict filled by a decorator. A name that is taken twice is a mistake in this package."""

    def register(self, name: str) -> Callable[[Item], Item]:
        def add(item: Item) -> Item:
            assert name not in self, f'operator "{name}" is defined twice'
            self[name] = item  # pyright: ignore[reportArgumentType]
            return item

        return add


@dataclass(frozen=True)
class OpDef:
    """How operators of one type are compiled."""

    build: Builder
    operands: tuple[
        str, ...
    ]  # MIL inputs that become tensors, in the kernel's argument order; all others are parameters
    exact: bool = False  # only moves or picks values, so its result needs no rounding


OPS: Table[OpDef] = Table()
STRICT: Table[Builder] = Table()  # operators of more than one rounded step in strict half precision: see strict.py
OP_MODULES = (
    "elementwise",
    "activation",
    "linear",
    "conv_pool",
    "reduce_norm",
    "recurrent",
    "shape",
    "slicing",
    "indexing",
    "scatter",
    "resize",
    "sampling",
    "detection",
    "quantized",
    "states",
)
_STRICT_MODULES = ("strict", "strict_norm", "strict_activation", "strict_recurrent")


def operators() -> Table[OpDef]:
    """Return the table with every operator in it."""
    for module in OP_MODULES:
        importlib.import_module(f".{module}", __package__)
    return OPS


def strict_kernels() -> Table[Builder]:
    """Return the builders of the operators that take more than one rounded step in strict half precision."""
    for module in _STRICT_MODULES:
        importlib.import_module(f".{module}", __package__)
    return STRICT


def mil_op(*names: str, operands: tuple[str, ...] = ("x",), exact: bool = False) -> Callable[[Builder], Builder]:
    """Decorate a builder `(node) -> kernel` for one or more operator types."""

    def add(build: Builder) -> Builder:
        for name in names:
            OPS.register(name)(OpDef(build, operands, exact))
        return build

    return add


def dtype_name(variable: Any) -> str:
    """Return MIL's name of a variable's element type: fp16, fp32, int32, bool ..."""
    from coremltools.converters.mil.mil import types

    kind = variable.sym_type
    if types.is_state(kind):
        kind = kind.wrapped_type()
    return types.builtin_to_string(kind.get_primitive() if types.is_tensor(kind) else kind)


def constant_value(variable: Any) -> np.ndarray | None:
    """Return the value of a constant, compressed weights decompressed, or `None` for a run-time variable."""
    op = variable.op
    if op is None:
        return None
    if op.op_type == "const":
        return np.asarray(variable.val)
    if op.op_type.startswith("constexpr_"):
        values = decompress(op, constant_value)
        if values is None:
            raise UnsupportedOp(
                f'operator "{op.op_type}" with output "{variable.name}": this kind of compressed weight is not known'
            )
        return values[variable.op_output_idx]
    return None


def rounded(x: Tensor) -> Tensor:
    """Round to half precision, ties to even; from 65520 on the result is infinite. The dtype stays float32."""
    return x.half().float()
