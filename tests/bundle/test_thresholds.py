"""How many answers may differ: judged as draws, so that few samples are not stricter than many."""

import itertools

import pytest

from edgevl.precisions import FULL, PRECISIONS

THRESHOLDS = {name: each.thresholds for name, each in PRECISIONS.items()}


def test_the_full_count_proves_what_is_promised():
    """Points of accuracy on 1 000 samples: 0.2 for half precision, 0.3 for int8 weights, 0.5 for int8, 1 for 4 bits."""
    points = {precision: 100 * limits.drift(FULL) for precision, limits in THRESHOLDS.items()}
    assert points == pytest.approx({"fp32": 0.1, "fp16": 0.2, "w8": 0.3, "w8a8": 0.5, "w4": 1.0})
    assert int(THRESHOLDS["w8"].different(FULL)) == 28 and int(THRESHOLDS["fp32"].different(FULL)) == 1


@pytest.mark.parametrize("precision", THRESHOLDS)
def test_more_samples_are_never_looser(precision):
    limits = THRESHOLDS[precision]
    for few, many in ((10, 50), (50, 200), (200, 1000), (1000, 5000)):
        assert limits.drift(few) >= limits.drift(many) and limits.different(few) <= limits.different(many)
        assert limits.different(few) / few >= limits.different(many) / many
    assert limits.different(1) >= 1 and limits.drift(1) >= 1


def test_a_lower_precision_is_allowed_more():
    order = [THRESHOLDS[name] for name in ("fp32", "fp16", "w8", "w4")]
    for tighter, looser in itertools.pairwise(order):
        assert tighter.snr_db > looser.snr_db and tighter.top1_agreement > looser.top1_agreement
        assert tighter.accuracy < looser.accuracy


def test_int8_is_allowed_more_answers_than_int8_weights_and_less_than_4_bits():
    order = [THRESHOLDS[name] for name in ("w8", "w8a8", "w4")]
    for tighter, looser in itertools.pairwise(order):
        assert tighter.snr_db >= looser.snr_db and tighter.top1_agreement > looser.top1_agreement
        assert tighter.accuracy < looser.accuracy
