"""Compile an ML Program once into a flat list of bound steps, then run it as often as needed.

Every variable gets a slot in a list. A step knows the slots it reads, those it writes and those that die with it.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgevl.errors import EdgeVLError
from edgevl.runtime.coreml_reference.ops import OPS, Kernel, Node, UnsupportedOp, constant_value, dtype_name, to_tensor

PRECISIONS = ("fp16", "fp32")
_OP_MODULES = (
    "elementwise",
    "activation",
    "linear",
    "conv_pool",
    "reduce_norm",
    "shape",
    "indexing",
    "resize",
    "quantized",
)
_NONE = 0  # the slot of operands that the program leaves out; always None


@dataclass(frozen=True)
class Step:
    """One operator, bound to slots."""

    kernel: Kernel
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    rounded: tuple[bool, ...]  # for each output: is it stored in half precision?
    frees: tuple[int, ...]
    type: str
    name: str


class Executor:
    """A compiled function of an ML Program.

    Args:
        function: a PyMIL function.
        precision: `fp16` rounds the result of every operator to the dtype that the program declares for it, as storing
            it would; `fp32` keeps float32 everywhere. Either way an operator computes, and accumulates, in float32.
        path: the file, for messages.
    Raises:
        UnsupportedOp: an operator that is not in the table; the message names it, its output and the file.
    """

    def __init__(self, function: Any, precision: str, path: Path):
        for module in _OP_MODULES:
            importlib.import_module(f"edgevl.runtime.coreml_reference.{module}")
        self._path = path
        self._round = precision == "fp16"
        self._slots: dict[Any, int] = {}  # PyMIL variable -> slot
        self._values: list[Tensor | None] = [None]  # slot -> constant, or None where a step will write
        self._input_slots = {name: self._new_slot(variable) for name, variable in function.inputs.items()}
        steps = [step for op in function.operations if (step := self._compile(op)) is not None]
        self._output_slots = {variable.name: self._slot(variable) for variable in function.outputs}
        self.steps = self._with_frees(steps)
        self._slots.clear()  # PyMIL variables hold the whole program and a second copy of its weights

    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the program on tensors of the declared shapes. Returns its outputs."""
        values = self._start(inputs)
        for step in self.steps:
            self._execute(step, values)
        return {name: _present(values[slot]) for name, slot in self._output_slots.items()}

    def trace(self, inputs: dict[str, Tensor]) -> Iterator[tuple[str, str, list[Tensor]]]:
        """Run the program and yield (operator type, output name, results) after each operator."""
        values = self._start(inputs)
        for step in self.steps:
            yield step.type, step.name, self._execute(step, values)

    def _start(self, inputs: dict[str, Tensor]) -> list[Tensor | None]:
        values = self._values.copy()
        for name, slot in self._input_slots.items():
            values[slot] = inputs[name]
        return values

    def _execute(self, step: Step, values: list[Tensor | None]) -> list[Tensor]:
        try:
            results = _apply(step, [values[slot] for slot in step.reads])
        except (RuntimeError, IndexError) as error:
            raise EdgeVLError(
                f'{self._path}: operator "{step.type}" with output "{step.name}" failed ({error})'
            ) from error
        for slot, result in zip(step.writes, results):
            values[slot] = result
        for slot in step.frees:
            values[slot] = None
        return results

    def _compile(self, op: Any) -> Step | None:
        """Turn an operator into a step, or into constants where all it reads is constant."""
        if op.op_type == "const" or op.op_type.startswith("constexpr_"):
            return None  # read on demand: most constants are parameters, not tensors
        node = Node(op)
        if op.op_type not in OPS:
            raise UnsupportedOp(
                f"{self._path}: {node} is not supported by the Core ML reference executor. Known operators: "
                + ", ".join(sorted(OPS))
            )
        definition = OPS[op.op_type]
        reads = tuple(slot for name in definition.operands for slot in self._operand_slots(op.inputs.get(name)))
        writes = tuple(self._new_slot(output) for output in op.outputs)
        rounded = tuple(self._round and not definition.exact and dtype_name(output) == "fp16" for output in op.outputs)
        try:
            kernel = definition.build(node)
        except UnsupportedOp as error:
            raise UnsupportedOp(f"{self._path}: {error}") from error
        step = Step(kernel, reads, writes, rounded, (), op.op_type, node.name)
        if all(slot == _NONE or self._values[slot] is not None for slot in reads):
            self._execute(step, self._values)
            return None
        return step

    def _operand_slots(self, variable: Any) -> list[int]:
        variables = variable if isinstance(variable, (list, tuple)) else [variable]
        return [_NONE if item is None else self._slot(item) for item in variables]

    def _slot(self, variable: Any) -> int:
        """Return the slot of a variable; a constant gets one, with its value converted, when it is first read."""
        if variable not in self._slots:
            value = constant_value(variable)
            assert value is not None, f"{variable.name} is read before it is written"
            self._values[self._new_slot(variable)] = _packed(to_tensor(value))
        return self._slots[variable]

    def _new_slot(self, variable: Any) -> int:
        self._values.append(None)
        self._slots[variable] = len(self._values) - 1
        return self._slots[variable]

    def _with_frees(self, steps: list[Step]) -> tuple[Step, ...]:
        """Give each step the slots that nothing reads after it, so that a run holds only what is alive."""
        kept = {_NONE, *self._output_slots.values()}
        kept.update(slot for slot, value in enumerate(self._values) if value is not None)
        finished = []
        for step in reversed(steps):
            dead = {*step.reads, *step.writes} - kept
            kept |= dead
            finished.append(replace(step, frees=tuple(sorted(dead))))
        return tuple(reversed(finished))


def _apply(step: Step, operands: list[Tensor | None]) -> list[Tensor]:
    results = step.kernel(*operands)
    if isinstance(results, Tensor):
        results = (results,)
    return [result.half().float() if half else result for result, half in zip(results, step.rounded)]


def _packed(constant: Tensor) -> Tensor:
    """Store rank-4 constants, in practice the weights of convolutions, with the channels last.

    Convolutions then return channels-last results, which max_pool and depthwise convolutions read faster: nano on one
    thread takes 12.1 ms instead of 14.0. Nothing but the layout in memory changes.
    """
    return constant.contiguous(memory_format=torch.channels_last) if constant.dim() == 4 else constant


def _present(value: Tensor | None) -> Tensor:
    assert value is not None, "an output that no step writes"
    return value
