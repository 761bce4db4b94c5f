"""Compile an ML Program once into a flat list of bound steps, then run it as often as needed.

Every variable gets a slot in a list. A step knows the slots it reads, those it writes and those that die with it.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from edgevl.errors import EdgeVLError
from edgevl.runtime.coreml_reference.ops import (
    Kernel,
    Node,
    OpDef,
    UnsupportedOp,
    constant_value,
    dtype_name,
    operators,
    rounded,
    to_tensor,
)
from edgevl.runtime.coreml_reference.package import Package
from edgevl.runtime.coreml_reference.refusals import Location

PRECISIONS = ("fp16", "fp32", "strict_fp16")
_STRICT_MODULES = ("strict", "strict_norm", "strict_activation", "strict_recurrent")
_NONE = 0  # the slot of operands that the program leaves out; always None


@dataclass(frozen=True)
class Step:
    """One operator, bound to slots."""

    kernel: Kernel
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    halves: tuple[bool, ...]  # for each output: is it rounded to half precision?
    frees: tuple[int, ...]
    type: str
    name: str
    location: Location


@dataclass(frozen=True)
class Ran:
    """A step that was just executed, with what it read and what came out."""

    step: Step
    operands: list[Tensor | None]
    results: list[Tensor]


class Executor:
    """A compiled function of an ML Program.

    Args:
        package: the function, and where its operators are.
        precision: `fp16` rounds the result of every operator to the dtype that the program declares for it, as storing
            it would; `fp32` keeps float32 everywhere; in both an operator computes, and accumulates, in float32.
            `strict_fp16` rounds inside operators as well: see `strict.py`.
    Raises:
        UnsupportedOp: a use of an operator that its kernel does not know; the message names it, its output, its place
            and the file.
    """

    def __init__(self, package: Package, precision: str):
        self._path, self._locations = package.path, package.locations
        self._operators = operators()
        self._round = precision != "fp32"
        self._strict = strict_kernels() if precision == "strict_fp16" else {}
        self._slots: dict[Any, int] = {}  # PyMIL variable -> slot
        self._values: list[Tensor | None] = [None]  # slot -> constant, or None where a step will write
        function = package.function
        self._input_slots = {name: self._new_slot(variable) for name, variable in function.inputs.items()}
        steps = [step for op in function.operations if (step := self._compile(op)) is not None]
        self._output_slots = {variable.name: self._slot(variable) for variable in function.outputs}
        self.steps = self._with_frees(steps)
        self._slots.clear()  # PyMIL variables hold the whole program and a second copy of its weights

    @property
    def output_slots(self) -> tuple[int, ...]:
        """The slots of the program's outputs."""
        return tuple(self._output_slots.values())

    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the program on tensors of the declared shapes. Returns its outputs."""
        values = self._start(inputs)
        for step in self.steps:
            self._execute(step, values)
        return {name: _present(values[slot]) for name, slot in self._output_slots.items()}

    def trace(self, inputs: dict[str, Tensor]) -> Iterator[Ran]:
        """Run the program and yield each step after its execution. Programs of any precision have the same steps."""
        values = self._start(inputs)
        for step in self.steps:
            operands = [values[slot] for slot in step.reads]
            yield Ran(step, operands, self._execute(step, values))

    def _start(self, inputs: dict[str, Tensor]) -> list[Tensor | None]:
        values = self._values.copy()
        for name, slot in self._input_slots.items():
            values[slot] = inputs[name]
        return values

    def _execute(self, step: Step, values: list[Tensor | None]) -> list[Tensor]:
        try:
            results = _apply(step, [values[slot] for slot in step.reads])
        except (RuntimeError, IndexError, ValueError) as error:
            raise EdgeVLError(
                f'{self._path}: operator "{step.type}" with output "{step.name}" ({step.location}) failed ({error})'
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
        node, definition = Node(op), self._operators[op.op_type]
        reads = tuple(slot for name in definition.operands for slot in self._operand_slots(op.inputs.get(name)))
        writes = tuple(self._new_slot(output) for output in op.outputs)
        halves = tuple(self._round and not definition.exact and dtype_name(output) == "fp16" for output in op.outputs)
        location = self._locations[node.name]
        step = Step(self._kernel(node, definition), reads, writes, halves, (), op.op_type, node.name, location)
        if all(slot == _NONE or self._values[slot] is not None for slot in reads):
            self._execute(step, self._values)
            return None
        return step

    def _kernel(self, node: Node, definition: OpDef) -> Kernel:
        """Return the operator's function: in strict half precision the one of many steps, if it has one."""
        in_steps = self._strict.get(node.type) if dtype_name(node.op.outputs[0]) == "fp16" else None
        try:
            return (in_steps or definition.build)(node)
        except UnsupportedOp as error:
            raise UnsupportedOp(f"{self._path}: {error} ({self._locations[node.name]})") from error

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


def strict_kernels() -> dict[str, Any]:
    """Return the builders of the operators that take more than one rounded step in strict half precision."""
    modules = [importlib.import_module(f"edgevl.runtime.coreml_reference.{name}") for name in _STRICT_MODULES]
    return dict(modules[0].STRICT)


def _apply(step: Step, operands: list[Tensor | None]) -> list[Tensor]:
    results = step.kernel(*operands)
    if isinstance(results, Tensor):
        results = (results,)
    return [rounded(result) if half else result for result, half in zip(results, step.halves)]


def _packed(constant: Tensor) -> Tensor:
    """Store rank-4 constants, in practice the weights of convolutions, with the channels last.

    Convolutions then return channels-last results, which max_pool and depthwise convolutions read faster: nano on one
    thread takes 12.1 ms instead of 14.0. Nothing but the layout in memory changes.
    """
    return constant.contiguous(memory_format=torch.channels_last) if constant.dim() == 4 else constant


def _present(value: Tensor | None) -> Tensor:
    assert value is not None, "an output that no step writes"
    return value
