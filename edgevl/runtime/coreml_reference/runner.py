"""Run compiled steps on a list of values, one value for each slot."""

from collections.abc import Generator, Sequence

from torch import Tensor

from .limits import LimitReached, Limits, Meter
from .node import Shape
from .ops import rounded
from .seam import ExecutorError, InputError, first_line
from .steps import AnyStep, Body, Branch, Loop, Ran, Result, Step

Values = list[Tensor | None]
Trace = Generator[Ran, None, None]


class Run:
    """One run of a program.

    Args:
        values: the constants, inputs and states; the run writes the rest.
        traced: give every step after its execution; otherwise a run gives nothing.
        metered: count the memory of the values.
    """

    def __init__(self, values: Values, limits: Limits, path: object, traced: bool, metered: bool):
        self.values = values
        self._meter, self._path, self._traced, self._metered = Meter(limits), path, traced, metered

    def block(self, body: Body) -> Trace:
        """Run the steps of a block whose inputs are set."""
        self._spend(max(1, len(body.steps)))
        for step in body.steps:
            if isinstance(step, Step):
                ran = self._execute(step)
                if ran is not None:
                    yield ran
            elif isinstance(step, Branch):
                yield from self._branch(step)
            else:
                yield from self._loop(step)
            for slot in step.frees:
                self._drop(slot)

    def _execute(self, step: Step) -> Ran | None:
        operands = [self.values[slot] for slot in step.reads] if self._traced else []
        try:
            if self._metered:
                for slot in step.writes:
                    self._drop(slot)
            results = run_step(step, self.values)
            if self._metered:
                self._meter.hold(sum(map(_size, results)))
        except ExecutorError as error:
            raise type(error)(f"{self._path}: {error} ({step.location})") from error
        except Exception as error:  # torch raises what it likes; some of it over many lines
            raise InputError(
                f'{self._path}: operator "{step.type}" with output "{step.name}" ({step.location}) failed '
                f"({first_line(error)})"
            ) from error
        return Ran(step, step.reads, step.writes, operands, results) if self._traced else None

    def _branch(self, step: Branch) -> Trace:
        condition = self.values[step.reads[0]]
        decision = self._decided(step, condition)
        if self._traced:
            yield Ran(step, step.reads[:1], (), [condition], [], decision)
        body = step.bodies[0 if decision else 1]
        yield from self.block(body)
        yield from self._pass_on(step, body.outputs, step.writes)
        self._leave(body)

    def _loop(self, step: Loop) -> Trace:
        condition, body = step.bodies
        current = step.start
        while True:
            yield from self._pass_on(step, current, condition.inputs)
            yield from self.block(condition)
            value = self.values[condition.outputs[0]]
            decision = self._decided(step, value)
            if self._traced:
                yield Ran(step, condition.outputs, (), [value], [], decision)
            if not decision:
                break
            yield from self._pass_on(step, current, body.inputs)
            yield from self.block(body)
            current = body.outputs
        yield from self._pass_on(step, current, step.writes)
        self._leave(condition)
        self._leave(body)

    def _decided(self, step: AnyStep, condition: Tensor | None) -> bool:
        if condition is None or condition.numel() != 1:
            raise InputError(f'{self._path}: the condition of "{step.name}" ({step.location}) is not a single value')
        return bool(condition)

    def _pass_on(self, step: AnyStep, sources: Sequence[int], targets: Sequence[int]) -> Trace:
        """Copy values from slots to slots, all at once: a loop may swap its variables."""
        moved = [self.values[slot] for slot in sources]
        for source, target, value in zip(sources, targets, moved):
            self._drop(target)
            self.values[target] = value
            if self._metered and value is not None:
                self._meter.hold(_size(value))
            if self._traced and value is not None:
                yield Ran(step, (source,), (target,), [value], [value])

    def _leave(self, body: Body) -> None:
        """Forget what a block defined."""
        for slot in body.own:
            self._drop(slot)

    def _drop(self, slot: int) -> None:
        if self._metered and (value := self.values[slot]) is not None:
            self._meter.hold(-_size(value))
        self.values[slot] = None

    def _spend(self, operators: int) -> None:
        try:
            self._meter.spend(operators)
        except LimitReached as error:
            raise LimitReached(f"{self._path}: the program {error}") from error


def run_step(step: Step, values: Values) -> list[Tensor]:
    """Execute one operator: write its results, each checked against what the program declares of it, and return them.

    Raises whatever torch raises, or `ValueError` for a result that is not what the program declares.
    """
    results = step.kernel(*[values[slot] for slot in step.reads])
    if isinstance(results, Tensor):
        results = (results,)
    if len(results) != len(step.results):
        raise ValueError(f"{len(results)} results where the program declares {len(step.results)}")
    checked = [_checked(result, declared) for result, declared in zip(results, step.results)]
    for slot, result in zip(step.writes, checked):
        values[slot] = result
    return checked


def _checked(result: Tensor, declared: Result) -> Tensor:
    if declared.shape is not None and result.shape != declared.shape and not _fits(result.shape, declared.shape):
        raise ValueError(f"a result of shape {list(result.shape)} where the program declares {list(declared.shape)}")
    if declared.dtype is not None and result.dtype != declared.dtype:
        if result.is_floating_point() or declared.dtype.is_floating_point:
            raise ValueError(f"a result of {result.dtype} where the program declares {declared.dtype}")
        result = result.to(declared.dtype)
    return rounded(result) if declared.half else result


def _fits(shape: Sequence[int], declared: Shape) -> bool:
    return len(shape) == len(declared) and all(side in (own, None) for own, side in zip(shape, declared))


def _size(tensor: Tensor) -> int:
    """Bytes. Views count as if they were copies."""
    return tensor.numel() * tensor.element_size()
