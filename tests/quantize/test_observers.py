"""Ranges of known numbers: what each observer keeps and what it clips."""

import numpy as np
import pytest
import torch

pytest.importorskip("torchao", reason='torchao comes with pip install "edgevl[quantize]"')

from edgevl.errors import InputError
from edgevl.quantize.observers import OBSERVERS, observed, sample

OPTIONS = {"dtype": torch.uint8, "quant_min": 0, "quant_max": 255, "qscheme": torch.per_tensor_affine}


def found(name: str, *batches: torch.Tensor) -> tuple[float, float]:
    observer = OBSERVERS[name](**OPTIONS)
    for batch in batches:
        assert observer(batch) is batch, "an observer hands on what it sees"
    result = observed(observer, "value")
    return result.low, result.high


def normal(count: int = 50_000, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def test_minmax_keeps_everything():
    assert found("minmax", torch.tensor([1.0, -3.0]), torch.tensor([7.0, 0.0])) == (-3.0, 7.0)


def test_moving_average_weighs_the_last_batches_more():
    low, high = found("moving", torch.tensor([-1.0, 1.0]), torch.tensor([-2.0, 2.0]))
    assert (low, high) == pytest.approx((-1.1, 1.1))


def test_percentile_agrees_with_numpy():
    values = normal()
    wanted = np.percentile(values.numpy(), [0.005, 99.995])
    assert found("percentile", *values.split(10_000)) == pytest.approx(wanted, abs=0.15)


@pytest.mark.parametrize("shift", [0.0, 3.0, -100.0])
def test_a_histogram_loses_nothing_when_it_grows(shift):
    """Batches in any order, each wider than the one before or not: the same range."""
    batches = [normal(20_000, seed) * scale + shift for seed, scale in enumerate((0.01, 1.0, 30.0))]
    for name in ("percentile", "histogram"):
        assert found(name, *batches) == pytest.approx(found(name, *batches[::-1]), abs=1e-3)


@pytest.mark.parametrize("values", [normal(), normal().relu(), normal() ** 3, normal() + 3, normal().abs().neg()])
def test_the_range_of_histogram_has_the_smallest_error(values):
    """Against a search that really quantizes the numbers."""

    def error(low: float, high: float) -> float:
        scale = max((high - low) / 255, 1e-9)
        zero = min(255, max(0, round(-low / scale)))
        return float((torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, 255) - values).square().mean())

    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    shares = np.linspace(0.2, 1, 41)
    best = min(error(low * a, high * b) for a in shares for b in shares)
    assert error(*found("histogram", values)) <= 1.05 * best
    assert error(*found("histogram", values)) <= 1.001 * error(low, high), "no worse than minmax"


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("value", [0.0, 2.5, -2.5])
def test_a_constant_is_inside_its_range(name, value):
    low, high = found(name, torch.full((100,), value))
    assert min(low, 0) - 1e-6 <= value <= max(high, 0) + 1e-6 and abs(low) + abs(high) <= 2 * abs(value) + 1e-6


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_named(name, value):
    with pytest.raises(InputError, match='"value" of the model is not finite'):
        found(name, torch.tensor([1.0, value, 2.0]))


@pytest.mark.parametrize("shape", [(16, 32, 64, 64), (16, 7, 49, 49), (3, 65536), (5,), (1,)])
def test_a_sample_holds_every_channel(shape):
    channels = torch.arange(shape[-1]).expand(shape).contiguous()
    seen = sample(channels)
    assert 1 <= seen.numel() <= 70_000
    assert seen.unique().numel() >= min(shape[-1], 10_000)
