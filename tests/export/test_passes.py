"""Graph passes can be left out one by one, and each changes something."""

import importlib

import pytest

from edgevl.errors import InputError
from edgevl.export.passes import PASSES, graph_pass, skipping
from edgevl.export.registry import exporters, get_exporter, target_names


@graph_pass("count-up", "nothing", "fast", "adds a number, in a test")
def count_up(graph: list[int], number: int) -> list[int]:
    return [*graph, number]


def test_a_pass_can_be_left_out() -> None:
    assert count_up([1], 2) == [1, 2]
    with skipping("count-up"):
        assert count_up([1], 2) == [1]
        with skipping():
            assert count_up([1], 2) == [1, 2]
    assert count_up([1], 2) == [1, 2]


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with (
        pytest.raises(InputError, match='unknown graph pass "fold-pool"; did you mean "fold-pools"'),
        skipping("fold-pool"),
    ):
        pytest.fail("nothing runs")


def test_every_pass_belongs_to_a_target() -> None:
    for name in target_names():
        importlib.import_module(type(get_exporter(name)).__module__)
    assert {each.target for each in PASSES.values()} - {"nothing"} <= set(exporters)
