"""What a compiled program consists of: steps that read and write numbered slots, and blocks of them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .node import Shape
from .ops import Kernel
from .refusals import Location

NONE = 0  # the slot of operands that the program leaves out; always None
Slots = tuple[int, ...]


@dataclass(frozen=True)
class Result:
    """What the program declares of one result."""

    shape: Shape | None  # None: not declared as a tensor
    dtype: torch.dtype | None  # None: not a tensor's
    half: bool  # rounded to half precision


@dataclass(frozen=True)
class Step:
    """One operator, bound to slots."""

    type: str
    name: str
    location: Location
    kernel: Kernel
    reads: Slots
    writes: Slots
    results: tuple[Result, ...]
    frees: Slots = ()  # nothing reads them afterwards


@dataclass(frozen=True)
class Body:
    """A block of steps: a function, a branch, or a loop's condition or body."""

    inputs: Slots
    steps: tuple["AnyStep", ...]
    outputs: Slots
    own: Slots = ()  # what a block inside another one defines, constants left out

    def outer_reads(self) -> set[int]:
        """The slots of what lies outside the block that it reads."""
        own = {*self.inputs, *(slot for step in self.steps for slot in step.writes)}
        return {*self.outputs, *(slot for step in self.steps for slot in step.reads)} - own - {NONE}


@dataclass(frozen=True)
class Branch:
    """`cond`: one of two blocks. It reads the condition, then what its blocks read of what lies outside."""

    type: str
    name: str
    location: Location
    bodies: tuple[Body, Body]  # if true, if false
    reads: Slots
    writes: Slots
    frees: Slots = ()


@dataclass(frozen=True)
class Loop:
    """`while_loop`: a condition and a body, both of the loop's variables."""

    type: str
    name: str
    location: Location
    bodies: tuple[Body, Body]  # condition, body
    start: Slots  # of the variables' first values
    reads: Slots
    writes: Slots
    frees: Slots = ()


AnyStep = Step | Branch | Loop


@dataclass(frozen=True)
class Ran:
    """A step that was just executed, with what it read and what came out. A decision of control flow has no results."""

    step: AnyStep
    reads: Slots
    writes: Slots
    operands: list[Tensor | None]
    results: list[Tensor]
    decision: bool | None = None


def with_frees(steps: Iterable[AnyStep], kept: set[int]) -> tuple[AnyStep, ...]:
    """Give each step the slots that nothing reads after it, so that a run holds only what is alive.

    `kept` are slots that live on: what is read after the steps, and what lies outside their block.
    """
    alive, finished = {NONE, *kept}, []
    for step in reversed(list(steps)):
        dead = {*step.reads, *step.writes} - alive
        alive |= dead
        finished.append(replace(step, frees=tuple(sorted(dead))))
    return tuple(reversed(finished))
