"""Compile a function of an ML Program into steps. Every variable gets a slot in a list."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .late import Late
from .limits import Limits
from .node import Node, Shape, Unknown, Value, to_tensor
from .ops import TORCH_DTYPES, Builder, OpDef, constant_value, dtype_name, operators, strict_kernels
from .package import Package
from .refusals import Location, Places
from .runner import run_step
from .seam import ExecutorError, InputError, first_line
from .sizes import result_elements
from .steps import NONE, AnyStep, Body, Branch, Loop, Result, Step, with_frees


@dataclass(frozen=True)
class Compiled:
    """A function, ready to run."""

    body: Body
    values: list[Tensor | None]  # slot -> constant, or None where a run writes
    inputs: dict[str, int]
    states: dict[str, int]
    outputs: dict[str, int]
    metered: bool  # may its values need more memory than is allowed?


def compile_function(package: Package, precision: str, limits: Limits) -> Compiled:
    """Compile. `precision`: see `MLProgram.load`.

    Raises:
        UnsupportedOp: a use of an operator that its kernel does not know; the message names it, its output, its place
            and the file.
        InputError: parameters that do not fit, or constants that cannot be computed.
        LimitReached: values that would need more memory than `limits` allow.
    """
    return _Compiler(package, precision, limits).compile()


class _Compiler:
    def __init__(self, package: Package, precision: str, limits: Limits):
        self._package, self._limits = package, limits
        self._operators = operators()
        self._round = precision != "fp32"
        self._strict = strict_kernels() if precision == "strict_fp16" else {}
        self._slots: dict[Any, int] = {}  # PyMIL variable -> slot
        self._values: list[Tensor | None] = [None]
        self._declared = 0.0  # bytes of all results; infinite where a shape is not known

    def compile(self) -> Compiled:
        function, places = self._package.function, self._package.places
        given = {name: self._new_slot(variable) for name, variable in function.inputs.items()}
        kept = {spec.name for spec in self._package.states}
        states = {name: slot for name, slot in given.items() if name in kept}
        inputs = {name: slot for name, slot in given.items() if name not in states}
        steps = self._steps(function.operations, places)
        outputs = {variable.name: self._slot(variable) for variable in function.outputs}
        kept = {*states.values(), *outputs.values(), *self._constants()}
        body = Body(tuple(inputs.values()), with_frees(steps, kept), tuple(outputs.values()))
        return Compiled(body, self._values, inputs, states, outputs, self._declared > self._limits.memory)

    def _steps(self, operations: Iterable[Any], places: Places) -> list[AnyStep]:
        return [step for op in operations if (step := self._compile(op, places)) is not None]

    def _compile(self, op: Any, places: Places) -> AnyStep | None:
        """Turn an operator into a step, or into constants where all it reads is constant."""
        if op.op_type == "const" or op.op_type.startswith("constexpr_"):
            return None  # read on demand: most constants are parameters, not tensors
        location = places.of(op)
        try:
            if op.op_type in ("cond", "while_loop"):
                return self._control_flow(op, location, places)
            return self._folded(self._step(op, location))
        except ExecutorError as error:
            if str(error).startswith(f"{self._package.path}: "):  # said by an operator inside
                raise
            raise type(error)(f"{self._package.path}: {error} ({location})") from error
        except Exception as error:  # whatever malformed parameters make a builder, or torch, raise
            raise InputError(
                f'{self._package.path}: operator "{op.op_type}" with output "{_name(op)}" ({location}) cannot be '
                f"compiled ({type(error).__name__}: {first_line(error)})"
            ) from error

    def _step(self, op: Any, location: Location) -> Step:
        node, definition = self._node(op), self._operators[op.op_type]
        reads = [slot for name in definition.operands for slot in self._operand_slots(op.inputs.get(name))]
        results = self._results(op, definition)
        self._limits.check_memory(4 * result_elements(node))  # coremltools' shapes may have wrapped around
        build = (self._strict.get(node.type) if results[0].half else None) or definition.build
        try:
            kernel = build(node)
        except Unknown:
            kernel, reads = self._late(op, node, build, definition.operands, reads)
        writes = [self._new_slot(output) for output in op.outputs]
        if op.op_type == "coreml_update_state":
            writes.append(self._slot(op.inputs["state"]))
            results *= 2
        return Step(node.type, node.name, location, kernel, tuple(reads), tuple(writes), results)

    def _results(self, op: Any, definition: OpDef) -> tuple[Result, ...]:
        """What the program declares of the results. Raises `LimitReached` before one too large is computed."""
        if op.op_type == "classify":  # declared as a label and a dictionary, computed as tensors
            return (Result(None, None, False),) * 2
        results = []
        for output in op.outputs:
            shape, dtype = _shape(output), dtype_name(output)
            if any(side is not None and side < 0 for side in shape):
                raise InputError(f'"{output.name}" has a side below 0: {list(shape)}')
            size = math.inf if None in shape else 4.0 * math.prod(side or 0 for side in shape)
            if size < math.inf:
                self._limits.check_memory(size)
            self._declared += size
            half = self._round and not definition.exact and dtype == "fp16"
            # coremltools declares for `select` what its two values give, without the condition that spreads them.
            results.append(Result(None if op.op_type == "select" else shape, TORCH_DTYPES.get(dtype), half))
        return tuple(results)

    def _folded(self, step: Step) -> Step | None:
        """Run a step whose operands are constants now, once. States are not constant."""
        computed = any(slot != NONE and self._values[slot] is None for slot in (*step.reads, *step.writes[:-1]))
        if computed or step.type == "coreml_update_state":
            return step
        run_step(step, self._values)
        return None

    def _late(
        self, op: Any, node: Node, build: Builder, operands: Sequence[str], reads: list[int]
    ) -> tuple[Late, list[int]]:
        """A kernel that is built when it runs, and the slots that it reads: the operands, then all else that a run
        computes."""
        names = [name for name in operands for _ in self._operand_slots(op.inputs.get(name))]
        inputs = {}
        for name, value in node.inputs.items():
            inputs[name] = _detached(value, keep=name not in operands)
            if name not in operands and not _is_known(inputs[name]):
                slots = self._operand_slots(op.inputs[name])
                names += [name] * len(slots)
                reads = reads + slots
        return Late(replace(node, inputs=inputs), build, operands, names, self._limits), reads

    def _control_flow(self, op: Any, location: Location, places: Places) -> AnyStep:
        blocks = [self._body(block, inner) for block, inner in zip(op.blocks, places.inside(op))]
        first, second = blocks
        outer = first.outer_reads() | second.outer_reads()
        if op.op_type == "cond":
            start = (self._slot(op.inputs["pred"]),)
        else:
            start = tuple(self._operand_slots(op.inputs["loop_vars"]))
        reads = (*start, *sorted(outer - {*start}))
        writes = tuple(self._new_slot(output) for output in op.outputs)
        if op.op_type == "cond":
            return Branch(op.op_type, _name(op), location, (first, second), reads, writes)
        return Loop(op.op_type, _name(op), location, (first, second), start, reads, writes)

    def _body(self, block: Any, places: Places) -> Body:
        outside, first = dict(self._slots), len(self._values)
        inputs = tuple(self._new_slot(variable) for variable in block.inputs)
        steps = self._steps(block.operations, places)
        outputs = tuple(self._slot(variable) for variable in block.outputs)
        kept = {*range(first), *outputs, *self._constants()}
        # What a block defines ends with it; constants are shared by all blocks.
        inner = {variable: slot for variable, slot in self._slots.items() if self._values[slot] is not None}
        self._slots = {**inner, **outside}
        own = {*range(first, len(self._values))} - self._constants()
        return Body(inputs, with_frees(steps, kept), outputs, tuple(sorted(own)))

    def _node(self, op: Any) -> Node:
        inputs: dict[str, Value | tuple[Value, ...]] = {}
        for name, variable in op.inputs.items():
            if isinstance(variable, (list, tuple)):
                inputs[name] = tuple(self._value(item) for item in variable)
            elif variable is not None and (op.op_type, name) != ("classify", "classes"):  # a list of labels
                inputs[name] = self._value(variable)
        return Node(op.op_type, _name(op), inputs, tuple(_shape(output) for output in op.outputs))

    def _value(self, variable: Any) -> Value:
        return Value(_shape(variable), dtype_name(variable), partial(self._known, variable))

    def _known(self, variable: Any) -> np.ndarray | None:
        """Return the value of a constant, or of what was folded into one."""
        value = self._constant(variable)
        if value is None and (slot := self._slots.get(variable)) is not None:
            tensor = self._values[slot]
            return None if tensor is None else tensor.numpy()
        return value

    def _constant(self, variable: Any) -> np.ndarray | None:
        if variable.op is not None and variable.op.op_type.startswith("constexpr_"):  # it may be larger than its file
            self._limits.check_memory(4 * math.prod(side or 0 for side in _shape(variable)))
        return constant_value(variable)

    def _operand_slots(self, variable: Any) -> list[int]:
        variables = variable if isinstance(variable, (list, tuple)) else [variable]
        return [NONE if item is None else self._slot(item) for item in variables]

    def _slot(self, variable: Any) -> int:
        """Return the slot of a variable; a constant gets one, with its value converted, when it is first read."""
        if variable not in self._slots:
            value = self._constant(variable)
            if value is None:
                raise InputError(f'"{variable.name}" is read before it is written')
            self._values[self._new_slot(variable)] = _packed(to_tensor(value))
        return self._slots[variable]

    def _new_slot(self, variable: Any) -> int:
        self._values.append(None)
        self._slots[variable] = len(self._values) - 1
        return self._slots[variable]

    def _constants(self) -> set[int]:
        return {slot for slot, value in enumerate(self._values) if value is not None}


def _name(op: Any) -> str:
    return op.outputs[0].name if op.outputs else op.name


def _shape(variable: Any) -> Shape:
    """The declared shape; `None` for a side that the file leaves open."""
    return tuple(int(side) if isinstance(side, (int, np.integer)) else None for side in variable.shape)


def _is_known(value: Value | tuple[Value, ...]) -> bool:
    return all(item.read() is not None for item in (value if isinstance(value, tuple) else (value,)))


def _detached(value: Value | tuple[Value, ...], keep: bool) -> Any:
    """A copy that holds no variable of PyMIL, which would hold the whole program; with its value if `keep`."""
    if isinstance(value, tuple):
        return tuple(_detached(item, keep) for item in value)
    known = value.read() if keep else None
    return Value(value.shape, value.dtype, lambda: known)


def _packed(constant: Tensor) -> Tensor:
    """Store rank-4 constants, in practice the weights of convolutions, with the channels last.

    Convolutions then return channels-last results, which max_pool and depthwise convolutions read faster: nano on one
    thread takes 12.1 ms instead of 14.0. Nothing but the layout in memory changes.
    """
    return constant.contiguous(memory_format=torch.channels_last) if constant.dim() == 4 else constant
