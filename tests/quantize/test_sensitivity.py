"""What modules cost, and the search for those that stay in float."""

import re

import pytest

pytest.importorskip("torchao", reason='torchao comes with pip install "edgevl[quantize]"')

from edgevl.errors import BudgetFailed
from edgevl.quantize.calibrate import calibrate
from edgevl.quantize.sensitivity import Judge, Point, costs, mixtures, with_float, within_budget
from edgevl.verify.measure import draw


@pytest.fixture(scope="module")
def judge(toy_model) -> Judge:
    return Judge(toy_model, calibrate(toy_model, samples=128), "scenes:val", 40)


def test_nothing_in_int8_is_the_float_model(judge: Judge):
    point = judge.point(())
    assert point.kl_nats == pytest.approx(0, abs=1e-6) and point.top1_agreement == 1 and point.drop == 0
    assert point.int8_weights == 0 and len(point.kept_float) == len(judge.plan.modules)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_pictures_that_judge_are_not_those_of_the_calibration(toy_model, seed):
    judge = Judge(toy_model, calibrate(toy_model, samples=64, seed=seed), "scenes:val", 200)
    own = {sample.query.pictures[0].tobytes() for sample in draw("scenes:val", "vqa", 64, 32, seed)}
    assert sum(sample.query.pictures[0].tobytes() in own for sample in judge.samples) <= 4


def test_every_module_costs_something_and_all_cost_more(judge: Judge):
    found = costs(judge)
    assert found.keys() == judge.plan.modules.keys() - {"head.0", "head.3"}, "the head stays in float"
    silent = re.compile(r"vision\.backbone\.layer\d\.0\.conv\d")  # timm ends untrained residual branches in zeros
    assert all((point.kl_nats > 0) != bool(silent.fullmatch(name)) for name, point in found.items())
    values = [point.kl_nats for point in found.values()]
    assert values == sorted(values, reverse=True)
    first, *_, last = mixtures(judge, list(found), [0, 1, len(found) - 1])
    assert first.kl_nats > last.kl_nats and set(first.kept_float) == {"head.0", "head.3"}
    assert last.kept_float == tuple(name for name in judge.plan.modules if name != list(found)[-1])


class Stairs:
    """A judge of ten modules, of which each in int8 loses a point and the last one nothing."""

    samples = range(100)

    def __init__(self):
        self.asked = 0

    def point(self, quantized) -> Point:
        self.asked += 1
        drop = float(len(set(quantized) - {"9"}))
        return Point(tuple(str(n) for n in range(10) if str(n) not in quantized), 0, 0, 0, drop, 0, 100)


ORDER = [str(number) for number in range(10)]


@pytest.mark.parametrize(("budget", "kept"), [(9.0, 0), (8.5, 1), (3.0, 6), (0.0, 9)])
def test_the_fewest_modules_stay_in_float(budget, kept):
    stairs = Stairs()
    point = within_budget(stairs, ORDER, budget)  # pyright: ignore[reportArgumentType]
    assert len(point.kept_float) == kept and point.drop <= budget
    assert stairs.asked <= 5, "by bisection"


def test_no_mixture_within_the_budget():
    with pytest.raises(BudgetFailed, match="more than -1 points are lost on 100 samples"):
        within_budget(Stairs(), ORDER, -1.0)  # pyright: ignore[reportArgumentType]


def test_the_plan_says_what_stays_in_float(judge: Judge):
    plan = with_float(judge.plan, ["vision.project"])
    assert set(plan.kept_float) == {"head.0", "head.3", "vision.project"}
    assert set(judge.plan.kept_float) == {"head.0", "head.3"}
