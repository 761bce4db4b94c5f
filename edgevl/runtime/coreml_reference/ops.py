"""The table of operators: how one operator of an ML Program becomes a function on torch tensors.

An operator's builder runs once, when a program is compiled. It reads the constant parameters (strides, axes, modes)
from its `Node` and returns a kernel: a function that takes the operands, in the declared order, and returns the result.
Half precision values arrive as float32 tensors; rounding the result is the executor's business.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgevl.errors import EdgeVLError
from edgevl.registry import Registry
from edgevl.runtime.coreml_reference.compressed import decompress

Kernel = Callable[..., Any]  # (*operands: Tensor | None) -> Tensor, or a sequence of tensors for several outputs

TORCH_DTYPES = {
    "fp16": torch.float32,  # half precision is computed in, and accumulated in, float32
    "fp32": torch.float32,
    "bool": torch.bool,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "uint16": torch.int32,  # torch cannot index with uint16
    "int32": torch.int32,
    "int64": torch.int64,
}


class UnsupportedOp(EdgeVLError):
    """The program holds an operator, or a use of one, that the reference executor does not know."""


@dataclass(frozen=True)
class OpDef:
    """How operators of one type are compiled."""

    build: Callable[["Node"], Kernel]
    operands: tuple[
        str, ...
    ]  # MIL inputs that become tensors, in the kernel's argument order; all others are parameters
    exact: bool = False  # only moves or picks values, so its result needs no rounding


OPS: Registry[OpDef] = Registry("ML Program operator")
_OP_MODULES = (
    "elementwise",
    "activation",
    "linear",
    "conv_pool",
    "reduce_norm",
    "shape",
    "indexing",
    "scatter",
    "resize",
    "sampling",
    "detection",
    "recurrent",
    "quantized",
)


def operators() -> Registry[OpDef]:
    """Return the table with every operator in it."""
    for module in _OP_MODULES:
        importlib.import_module(f"edgevl.runtime.coreml_reference.{module}")
    return OPS


def mil_op(*names: str, operands: tuple[str, ...] = ("x",), exact: bool = False) -> Callable[..., Any]:
    """Decorate a builder `(node) -> kernel` for one or more operator types."""

    def add(build: Callable[["Node"], Kernel]) -> Callable[["Node"], Kernel]:
        for name in names:
            OPS.register(name)(OpDef(build, operands, exact))
        return build

    return add


class Node:
    """Read access to one operator of a PyMIL program, with its parameters as plain Python values."""

    def __init__(self, op: Any):
        self.op = op
        self.type: str = op.op_type
        self.name: str = op.outputs[0].name

    def __str__(self) -> str:
        return f'operator "{self.type}" with output "{self.name}"'

    def param(self, name: str, default: Any = None) -> Any:
        """Return a constant parameter: a number, bool, string or list; `default` where the program leaves it out."""
        variable = self.op.inputs.get(name)
        if variable is None:
            return default
        if isinstance(variable, (list, tuple)):
            return [_plain(item.val) for item in variable]
        if variable.val is None:
            raise UnsupportedOp(f'{self}: parameter "{name}" is computed at run time, only constants are supported')
        return _plain(variable.val)

    def tensor(self, name: str) -> Tensor | None:
        """Return a constant parameter as a tensor, or `None` where the program leaves it out."""
        variable = self.op.inputs.get(name)
        if variable is None:
            return None
        value = constant_value(variable)
        if value is None:
            raise UnsupportedOp(f'{self}: parameter "{name}" is computed at run time, only constants are supported')
        return to_tensor(value)

    def required(self, name: str) -> Tensor:
        """Return a constant parameter that the operator cannot do without, as a tensor."""
        value = self.tensor(name)
        if value is None:
            raise UnsupportedOp(f'{self}: parameter "{name}" is missing')
        return value

    def shape(self, name: str = "x") -> tuple[int, ...]:
        """Return the static shape of an input."""
        return self._static(self.op.inputs[name].shape, f'input "{name}"')

    def rank(self, name: str = "x") -> int:
        return len(self.op.inputs[name].shape)

    def axis(self, name: str = "axis", of: str = "x") -> int:
        """Return an axis parameter, counted from the front."""
        return self.param(name) % self.rank(of)

    def axes(self, name: str = "axes", of: str = "x") -> list[int]:
        """Return a list of axes, counted from the front; all axes where the program leaves them out."""
        axes, rank = self.param(name), self.rank(of)
        return list(range(rank)) if axes is None else [axis % rank for axis in axes]

    def output_shape(self, index: int = 0) -> tuple[int, ...]:
        """Return the static shape of an output."""
        return self._static(self.op.outputs[index].shape, "its output")

    def _static(self, shape: Any, of: str) -> tuple[int, ...]:
        if not all(isinstance(side, (int, np.integer)) for side in shape):
            raise UnsupportedOp(f"{self}: the shape of {of} is not static: {list(shape)}")
        return tuple(int(side) for side in shape)


def dtype_name(variable: Any) -> str:
    """Return MIL's name of a variable's element type: fp16, fp32, int32, bool ..."""
    from coremltools.converters.mil.mil import types

    return types.builtin_to_string(variable.dtype)


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
            raise UnsupportedOp(f"{Node(op)}: this kind of compressed weight is not known")
        return values[variable.op_output_idx]
    return None


def rounded(x: Tensor) -> Tensor:
    """Round to half precision, ties to even; from 65520 on the result is infinite. The dtype stays float32."""
    return x.half().float()


def to_tensor(value: np.ndarray) -> Tensor:
    """Return a contiguous tensor of a constant; half precision is widened, which is exact."""
    if value.dtype == np.float16 or value.dtype == np.float64:
        value = value.astype(np.float32)
    elif value.dtype == np.uint16:
        value = value.astype(np.int32)
    return torch.from_numpy(np.array(value, order="C"))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value
