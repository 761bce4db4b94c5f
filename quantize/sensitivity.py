"""What int8 costs the answers, module by module, and which modules should stay in float to keep within a budget.

Everything is measured end to end on the float program, products rounded as `edgevl.quantize.rounding` says.
"""

import bisect
import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.fx import Node

from edgevl.errors import BudgetFailed
from edgevl.evaluate import Evaluation, Samples, draw_samples, judge
from edgevl.models.question_answering import export_program
from edgevl.progress import Progress
from edgevl.quantize.calibrate import BATCH, Observation, batches_of
from edgevl.quantize.plan import Budget, Plan
from edgevl.quantize.rounding import Rounding, is_product
from edgevl.quantize.values import module_of

if TYPE_CHECKING:
    from edgevl.checkpoint import LoadedModel

COST_SAMPLES, DROP_SAMPLES = 128, 1000


@dataclasses.dataclass(frozen=True)
class Point:
    """The model with some modules in float: what it loses against all of it in float, on the same samples."""

    kept_float: tuple[str, ...]
    kl_nats: float  # mean divergence of the answers' distribution from that of the float model
    top1_agreement: float
    accuracy: float
    drop: float  # in points of accuracy; negative where int8 happens to be right more often
    int8_weights: int  # numbers
    samples: int


class Mixed(Rounding):
    """Rounds the products of `modules` alone."""

    modules: Collection[str] = ()

    def run_node(self, n: Node) -> Any:
        if is_product(n) and module_of(n) in self.modules:
            return self.rounded_product(n)
        return super().run_node(n)


class Judge:
    """A model, its plan, and samples to judge every mixture of int8 and float on."""

    def __init__(self, loaded: "LoadedModel", plan: Plan, data: str, samples: int):
        self.loaded, self.plan = loaded, plan
        seed = plan.calibration.seed + 1  # with the calibration's own these would be the very pictures of it
        self.samples: Samples = draw_samples(data, samples, loaded.config.image_size, seed)
        self._batches = list(batches_of(loaded, self.samples))
        observation = Observation(export_program(loaded.model, "raw", BATCH), plan.calibration.observer)
        ranges = {node: plan.values[name] for name, node in observation.nodes.items() if name in plan.values}
        self._program = Mixed(observation.program, ranges)
        self._float = self._evaluate(())

    def point(self, quantized: Collection[str]) -> Point:
        """The model with the modules `quantized` in int8 and all others in float."""
        found, modules = self._evaluate(quantized), self.plan.modules
        ours, exact = (torch.from_numpy(each.logits_NA).double().log_softmax(-1) for each in (found, self._float))
        return Point(
            kept_float=tuple(name for name in modules if name not in quantized),
            kl_nats=float(F.kl_div(ours, exact, log_target=True, reduction="batchmean")),
            top1_agreement=float((found.logits_NA.argmax(1) == self._float.logits_NA.argmax(1)).mean()),
            accuracy=found.accuracy,
            drop=100 * (self._float.accuracy - found.accuracy),
            int8_weights=sum(modules[name].weights for name in quantized),
            samples=len(self.samples),
        )

    def one_sample(self) -> dict[str, np.ndarray]:
        """A picture and a question as an exported program takes them."""
        image, input_ids = self._batches[0]
        return {"image": image[:1].numpy(), "input_ids": input_ids[:1].numpy()}

    def _evaluate(self, quantized: Collection[str]) -> Evaluation:
        self._program.modules = frozenset(quantized)
        with torch.inference_mode():
            rows = [self._program.run(*batch).numpy() for batch in self._batches]
        return judge(_without_overlap(rows, len(self.samples)), self.samples, self.loaded.labels)


def _without_overlap(rows: Sequence[np.ndarray], count: int) -> np.ndarray:
    """The last batch may begin earlier, so that it is full."""
    full = np.concatenate(rows[:-1]) if len(rows) > 1 else rows[0][:0]
    return np.concatenate([full, rows[-1][len(full) - count :]]).astype(np.float32)


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


def with_costs(
    loaded: "LoadedModel", plan: Plan, max_drop: float | None = None, progress: Progress | None = None
) -> Plan:
    """The plan with what each module costs; with `max_drop`, also with the modules in float that keep within it.

    Costs are measured on `COST_SAMPLES` samples of the calibration data, the drop on `DROP_SAMPLES`: others than those
    of the calibration, if there are enough.

    Raises `BudgetFailed` if nothing keeps within the budget.
    """
    data = plan.calibration.data
    found = costs(Judge(loaded, plan, data, COST_SAMPLES), progress)
    modules = {
        name: module.model_copy(update={"kl_nats": found[name].kl_nats} if name in found else {})
        for name, module in plan.modules.items()
    }
    plan = plan.model_copy(update={"modules": modules})
    if max_drop is None:
        return plan
    point = within_budget(Judge(loaded, plan, data, DROP_SAMPLES), list(found), max_drop)
    budget = Budget(max_drop=max_drop, drop=point.drop, samples=point.samples)
    return with_float(plan, point.kept_float).model_copy(update={"budget": budget})


def order_of(plan: Plan) -> list[str]:
    """The modules of a plan that have costs, dearest first."""
    found = {name: module.kl_nats for name, module in plan.modules.items() if module.kl_nats is not None}
    return sorted(found, key=lambda name: -found[name])
