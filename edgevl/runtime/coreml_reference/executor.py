"""A compiled function of an ML Program, to be run as often as needed."""

from collections.abc import Iterator

from torch import Tensor

from .compiler import compile_function
from .limits import Limits
from .package import Package
from .runner import Run
from .steps import AnyStep, Body, Ran

PRECISIONS = ("fp16", "fp32", "strict_fp16")
Tensors = dict[str, Tensor]


class Executor:
    """A compiled function.

    Args:
        package: the function, and where its operators are.
        precision: `fp16` rounds the result of every operator to the dtype that the program declares for it, as storing
            it would; `fp32` keeps float32 everywhere; in both an operator computes, and accumulates, in float32.
            `strict_fp16` rounds inside operators as well: see `strict.py`.
        limits: what a run may take.
    Raises: see `compiler.compile_function`.
    """

    def __init__(self, package: Package, precision: str, limits: Limits):
        self._path, self._limits = package.path, limits
        self._program = compile_function(package, precision, limits)

    @property
    def steps(self) -> Iterator[AnyStep]:
        """Every step, those of blocks inside others included."""
        return _all_steps(self._program.body)

    @property
    def output_slots(self) -> tuple[int, ...]:
        """The slots of the program's outputs."""
        return tuple(self._program.outputs.values())

    def run(self, inputs: Tensors, states: Tensors) -> tuple[Tensors, Tensors]:
        """Run the program. Returns its outputs, and its states afterwards."""
        run = self._run(inputs, states, traced=False)
        for _ in run.block(self._program.body):
            pass
        named = (self._program.outputs, self._program.states)
        outputs, after = ({name: _present(run.values[slot]) for name, slot in slots.items()} for slots in named)
        return outputs, after

    def trace(self, inputs: Tensors, states: Tensors) -> Iterator[Ran]:
        """Run the program and yield each step after its execution. Programs of any precision have the same steps, as
        long as their control flow decides alike."""
        return self._run(inputs, states, traced=True).block(self._program.body)

    def _run(self, inputs: Tensors, states: Tensors, traced: bool) -> Run:
        program = self._program
        values = program.values.copy()
        for name, slot in program.inputs.items():
            values[slot] = inputs[name]
        for name, slot in program.states.items():
            values[slot] = states[name]
        return Run(values, self._limits, self._path, traced, program.metered)


def _all_steps(body: Body) -> Iterator[AnyStep]:
    for step in body.steps:
        yield step
        for inner in getattr(step, "bodies", ()):
            yield from _all_steps(inner)


def _present(value: Tensor | None) -> Tensor:
    assert value is not None, "an output that no step writes"
    return value
