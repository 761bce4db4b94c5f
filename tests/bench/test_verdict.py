"""The verdict on int8: what is said for which numbers, and that it says so of a real model."""

import pytest

from edgevl.bench.schema import Ratio
from edgevl.bench.verdict import MIXED, NOT_WORTH, UNKNOWN, USE, Verdict, decide


def found(lost=0.1, size=0.3, low=1.5, high=1.7, target="onnx", kept=()) -> Verdict:
    """A verdict of these numbers; with `low` 0 its speed was not measured."""
    ends = (low or high, high)
    speed = Ratio(baseline="fp32", candidate="w8a8", scope="model", ratio=sum(ends) / 2, ci95=ends, pairs=[])
    return Verdict(
        target=target,
        verdict="",
        reason="",
        lost_points=lost,
        size_ratio=size,
        speed=speed if low else None,
        kept_float=kept,
    )


@pytest.mark.parametrize(
    ("verdict", "says", "numbers"),
    [
        (USE, "1.60 times as fast here, 0.30 of the size", {}),
        (MIXED, "1.60 times as fast here", {"kept": ("head.3",)}),
        (NOT_WORTH, "it loses 0.70 points, more than 0.5", {"lost": 0.7}),
        (NOT_WORTH, "it is slower here (0.80x)", {"low": 0.7, "high": 0.9}),
        (USE, "no faster here (1.00x), but 0.30 of the size", {"low": 0.9, "high": 1.1}),
        (USE, "its speed was not measured: TensorRT runs on its GPU", {"low": 0, "target": "tensorrt"}),
        (UNKNOWN, "neither accuracy nor speed could be measured", {"lost": None}),
    ],
)
def test_what_is_said(verdict, says, numbers):
    assert decide(found(**numbers), 0.5)[0] == verdict
    assert says in decide(found(**numbers), 0.5)[1]


def test_counts_of_modules():
    from edgevl.bench.pareto import counts_of

    assert counts_of(50) == [0, 1, 2, 4, 8, 16, 32, 49]
    assert counts_of(2) == [0, 1]
