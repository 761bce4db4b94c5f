"""Percentiles and intervals against NumPy and against data whose answer is known."""

import numpy as np
import pytest

from edgevl.bench.schema import Ratio
from edgevl.bench.stats import bootstrap_interval, pair_ratios, percentile, ratio_interval, variation
from edgevl.cli.show_bench import faster
from edgevl.errors import InputError


@pytest.mark.parametrize("q", [0, 50, 90, 99, 100])
def test_percentile_is_numpys(q):
    samples = np.random.default_rng(1).lognormal(size=101).tolist()
    assert percentile(samples, q) == pytest.approx(np.percentile(samples, q))


def test_percentile_of_nothing_is_refused():
    with pytest.raises(InputError, match="at least one sample"):
        percentile([], 50)


def test_variation_of_known_samples():
    assert variation([1.0, 2.0, 3.0]) == pytest.approx(0.5)
    assert variation([7.0]) == 0.0


def test_pairs_are_ratios_of_block_medians():
    assert pair_ratios([[10, 11, 90], [20]], [[1, 2, 3], [4, 4]]) == pytest.approx([5.5, 5.0])


def test_unequal_numbers_of_blocks_are_no_pairs():
    with pytest.raises(InputError, match="not pairs"):
        pair_ratios([[1.0]], [])


def test_bootstrap_is_seeded_and_ordered():
    pairs = np.random.default_rng(2).normal(10, 1, 30).tolist()
    low, high = bootstrap_interval(pairs, seed=3)
    assert (low, high) == bootstrap_interval(pairs, seed=3)
    assert low < np.median(pairs) < high


def test_bootstrap_covers_the_true_median_about_as_often_as_it_says():
    rng = np.random.default_rng(4)
    inside = [
        low <= 1.0 <= high for low, high in (bootstrap_interval(rng.normal(1, 0.2, 25).tolist()) for _ in range(100))
    ]
    assert 88 <= sum(inside) <= 100


def test_few_pairs_get_a_wider_interval_than_their_range():
    rng = np.random.default_rng(1)
    draws = [rng.lognormal(0, 0.1, 3).tolist() for _ in range(400)]
    hits = [low <= 1 <= high for low, high in map(ratio_interval, draws)]
    assert 0.92 <= np.mean(hits) <= 0.98
    assert ratio_interval([1.0, 1.1, 1.2, 1.3, 1.4]) == bootstrap_interval([1.0, 1.1, 1.2, 1.3, 1.4])


@pytest.mark.parametrize(
    ("ratio", "ci95", "words"),
    [
        (16.2, (15.0, 17.0), "16.2x faster than vilt"),
        (0.5, (0.4, 0.8), "2.0x slower than vilt"),
        (1.01, (0.9, 1.2), "for sure neither faster nor slower than vilt"),
    ],
)
def test_a_ratio_in_words(ratio, ci95, words):
    found = Ratio(baseline="vilt", candidate="ours", scope="model", ratio=ratio, ci95=ci95, pairs=[ratio])
    assert faster(found) == f"model: ours is {words}"
