"""What int8 costs the answers, module by module, and which modules should stay in float to keep within a budget.

Everything is measured end to end on the float program, products rounded as `edgevl.plans.rounding` says.
"""

import bisect
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgevl.contracts import Answer, Deployable
from edgevl.errors import BudgetFailed
from edgevl.plans.plan import Budget, Plan, Range, prefixes
from edgevl.plans.rounding import Rounding, is_product
from edgevl.plans.values import module_of
from edgevl.progress import Progress
from edgevl.quantize.calibrate import GraphSession, Observation, answering_model
from edgevl.verify.measure import Measured, ask, draw, measure, side_of, stacked

COST_SAMPLES, DROP_SAMPLES = 128, 1000


@dataclasses.dataclass(frozen=True)
class Point:
    """The model with some modules in float: what it loses against all of it in float, on the same samples."""

    kept_float: tuple[str, ...]
    kl_nats: float  # divergence of the answers from those of the float model, as the decoding measures it
    top1_agreement: float  # share of equal decisions
    accuracy: float  # the first metric of the task
    drop: float  # in points of it; negative where int8 happens to be right more often
    int8_weights: int  # numbers
    samples: int
    metric: str = "accuracy"  # its name


class Mixed(Rounding):
    """Rounds the products of `modules` alone. Their names begin with `prefix`."""

    def __init__(self, program: torch.fx.GraphModule, ranges: Mapping[str, Range], prefix: str):
        super().__init__(program, ranges)
        self.prefix, self.modules = prefix, frozenset[str]()

    def run_node(self, n: Node) -> Any:
        if is_product(n) and self.prefix + module_of(n) in self.modules:
            return self.rounded_product(n)
        return super().run_node(n)


class Judge:
    """A model, its plan, and samples to judge every mixture of int8 and float on."""

    def __init__(self, model: Deployable, plan: Plan, data: str, samples: int):
        self.model, self.plan = model, plan
        programs = model.programs(model.layouts[0])
        named = prefixes(programs)
        self._mixed = {
            program.name: _mixed(Observation(program, plan.calibration.observer), plan.of(program.name), prefix)
            for program, prefix in zip(programs, named.values())
        }
        sessions = {program.name: GraphSession(program.spec, self._mixed[program.name].run) for program in programs}
        self.answering = answering_model(model, sessions)
        seed = plan.calibration.seed + 1  # with the calibration's own these would be the very pictures of it
        self.samples = draw(data, model.task, samples, side_of(self.answering), seed, least=1)
        self._float = self._measured(())
        self._exact = values_of(self._float.answers)

    def point(self, quantized: Collection[str]) -> Point:
        """The model with the modules `quantized` in int8 and all others in float."""
        found, modules, decoder = self._measured(quantized), self.plan.modules, self.answering.decoder
        along = self._float.answers
        own = ask(self.answering, self.samples, along) if decoder.sequential else found.answers
        return Point(
            kept_float=tuple(name for name in modules if name not in quantized),
            kl_nats=float(decoder.divergence(values_of(own), self._exact)),
            top1_agreement=decoder.agreement(own, along),
            accuracy=found.metrics[0].value,
            drop=100 * (self._float.metrics[0].value - found.metrics[0].value),
            int8_weights=sum(modules[name].weights for name in quantized),
            samples=len(self.samples),
            metric=found.metrics[0].name,
        )

    def _measured(self, quantized: Collection[str]) -> Measured:
        for program in self._mixed.values():
            program.modules = frozenset(quantized)
        return measure(self.answering, self.samples)


def _mixed(seen: Observation, plan: Plan, prefix: str) -> Mixed:
    return Mixed(seen.program, seen.by_node(plan.values), prefix)


def values_of(answers: Sequence[Answer[Any]]) -> dict[str, Tensor]:
    """Return the values of all answers, stacked, in double precision."""
    return {name: torch.from_numpy(stacked(answers, name)).double() for name in answers[0].values}


def costs(judge: Judge, progress: Progress | None = None) -> dict[str, Point]:
    """What quantizing each module alone costs, dearest first."""
    names = [name for name in judge.plan.modules if not judge.plan.is_float(name)]
    found: dict[str, Point] = {}
    for number, name in enumerate(names):
        found[name] = judge.point((name,))
        if progress:
            progress(number + 1, len(names), f"alone in int8: {name or 'the model'}")
    return dict(sorted(found.items(), key=lambda pair: -pair[1].kl_nats))


def mixtures(judge: Judge, order: Sequence[str], counts: Sequence[int]) -> Iterator[Point]:
    """The model with the first `count` modules of `order` in float, for each of `counts`."""
    for count in counts:
        yield judge.point(frozenset(order[count:]))


def within_budget(judge: Judge, order: Sequence[str], max_drop: float) -> Point:
    """The mixture with the fewest modules in float that loses at most `max_drop` points. Greedy along `order`.

    The number is found by bisection, which takes it that a module more in float does no harm.

    Raises `BudgetFailed` if even the last module alone in int8 loses more.
    """
    points: dict[int, Point] = {}

    def fits(count: int) -> bool:
        points[count] = judge.point(frozenset(order[count:]))
        return points[count].drop <= max_drop

    fewest = bisect.bisect_left(range(len(order)), True, key=fits)
    if fewest == len(order):
        raise BudgetFailed(
            f"even with one module of {len(order)} in int8 more than {max_drop:g} points are lost on "
            f"{len(judge.samples)} samples: raise --max-drop"
        )
    return points[fewest]


def with_float(plan: Plan, kept_float: Collection[str]) -> Plan:
    """The plan with these modules in float, too."""
    modules = {
        name: module.model_copy(update={"precision": "fp32"} if name in kept_float else {})
        for name, module in plan.modules.items()
    }
    return plan.model_copy(update={"modules": modules})


def with_costs(model: Deployable, plan: Plan, max_drop: float | None = None, progress: Progress | None = None) -> Plan:
    """The plan with what each module costs; with `max_drop`, also with the modules in float that keep within it.

    Costs are measured on `COST_SAMPLES` samples of the calibration data, the drop on `DROP_SAMPLES`: others than those
    of the calibration, if there are enough.

    Raises `BudgetFailed` if nothing keeps within the budget.
    """
    data = plan.calibration.data
    found = costs(Judge(model, plan, data, COST_SAMPLES), progress)
    modules = {
        name: module.model_copy(update={"kl_nats": found[name].kl_nats} if name in found else {})
        for name, module in plan.modules.items()
    }
    plan = plan.model_copy(update={"modules": modules})
    if max_drop is None:
        return plan
    point = within_budget(Judge(model, plan, data, DROP_SAMPLES), list(found), max_drop)
    budget = Budget(max_drop=max_drop, drop=point.drop, samples=point.samples)
    return with_float(plan, point.kept_float).model_copy(update={"budget": budget})


def order_of(plan: Plan) -> list[str]:
    """The modules of a plan that have costs, dearest first."""
    found = {name: module.kl_nats for name, module in plan.modules.items() if module.kl_nats is not None}
    return sorted(found, key=lambda name: -found[name])
