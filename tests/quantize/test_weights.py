"""GPTQ: it beats rounding to nearest for the inputs it has seen, and its grid is the one that the exporter finds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevl.cli import main as edgevl
from edgevl.errors import InputError
from edgevl.models.checkpoint import LoadedModel
from edgevl.models.kinds import open_deployable
from edgevl.plans.plan import PLAN
from edgevl.plans.weight_codes import block_groups, quantize
from edgevl.quantize.model_folder import quantize_model
from edgevl.quantize.weights import ROUNDED, gptq, with_rounded_weights


def correlated(rows: int = 500, inputs: int = 32) -> torch.Tensor:
    """Inputs [N, K] that go together, as those of a layer do."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, 4, generator=generator) @ torch.randn(4, inputs, generator=generator) + 0.1 * torch.randn(
        rows, inputs, generator=generator
    )


def test_errors_make_up_for_each_other():
    x, weight = correlated(), torch.randn(8, 32, generator=torch.Generator().manual_seed(1))
    steps = (weight.abs().amax(1, keepdim=True) / 7).expand_as(weight)
    nearest, found = (weight / steps).round() * steps, gptq(weight, x.T @ x, steps)
    codes = found / steps
    torch.testing.assert_close(codes, codes.round(), msg="on the grid")
    assert codes.min() >= -8 and codes.max() <= 7
    lost, less = (float((x @ (weight - each).T).square().mean()) for each in (nearest, found))
    assert less < lost / 4


def test_inputs_that_are_always_zero():
    """A dead channel of a ReLU has no statistics; its weights are simply rounded."""
    x, weight = correlated(), torch.randn(8, 32)
    x[:, 5] = 0
    steps = torch.full_like(weight, 0.25)
    found = gptq(weight, x.T @ x, steps)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[:, 5], (weight[:, 5] / 0.25).round().clamp(-8, 7) * 0.25)


@pytest.mark.parametrize("top", [3, 4, 5, 6, 7, 8])
def test_the_exporter_finds_the_grid(top: int):
    """Whatever the largest integer of a block is, negative or positive."""
    random = np.random.default_rng(top)
    codes = random.integers(-min(top, 8), min(top, 7) + 1, (16, 64))
    codes[:, ::32] = -top
    scale = random.uniform(0.01, 0.1, (16, 2)).astype(np.float16)
    weight = codes * np.repeat(scale.astype(np.float32), 32, axis=1)
    found, steps = quantize(weight.astype(np.float32), block_groups(weight.shape) or (), 4, balanced=True)
    back = found * np.repeat(steps.astype(np.float32), 32, axis=1)
    np.testing.assert_array_equal(back, weight.astype(np.float32))


@pytest.fixture(scope="module")
def rounded(toy_folder: Path, tmp_path_factory) -> Path:
    return quantize_model(toy_folder, "w4", samples=64, out=tmp_path_factory.mktemp("w4") / "toy-w4").folder


def test_weights_lie_beside_the_plan(rounded: Path, toy: LoadedModel):
    model = open_deployable(rounded)
    assert model.sha256 == toy.sha256, "the float weights are as they were: what the artifact is compared with"
    (program,) = with_rounded_weights(model, rounded).programs("single")
    exact = dict(toy.model.named_parameters())
    changed = [name for name, value in program.weights().items() if not torch.equal(value, exact[name])]
    assert sorted(changed) == sorted(
        f"{name}.weight" for name in json.loads((rounded / PLAN).read_text(encoding="utf-8"))["modules"]
    )
    assert "core.fusion.blocks.0.mlp.0.weight" in changed and "head.3.weight" not in changed


def test_every_layout_gets_them(rounded: Path):
    """The vision program's module is a part of the model: its weights are found by its place in it."""
    split = with_rounded_weights(open_deployable(rounded), rounded).programs("split")
    (whole,) = with_rounded_weights(open_deployable(rounded), rounded).programs("single")
    weights = whole.weights()
    for program in split:
        assert all(torch.equal(value, weights[name]) for name, value in program.weights().items())
    assert {name for program in split for name in program.weights()} == set(weights)


def test_a_changed_file_is_refused(rounded: Path, tmp_path: Path):
    import shutil

    copied = Path(shutil.copytree(rounded, tmp_path / "copied"))
    content = bytearray((copied / ROUNDED).read_bytes())
    content[-1] ^= 1
    (copied / ROUNDED).write_bytes(bytes(content))
    with pytest.raises(InputError, match="is not the file of its plan"):
        with_rounded_weights(open_deployable(copied), copied)


@pytest.mark.parametrize("option", [["--pareto"], ["--verdict"], ["--max-drop", "0.5"]])
def test_options_of_w8a8(toy_folder: Path, tmp_path: Path, option, capsys):
    given = ["quantize", str(toy_folder), "--precision", "w4", "--samples", "64", "--out", str(tmp_path / "x"), *option]
    assert edgevl(given) == 2
    assert "for the precision w8a8" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_export_takes_them(rounded: Path, toy_folder: Path, tmp_path: Path):
    pytest.importorskip("coremltools")
    for name, folder in (("gptq", rounded), ("plain", toy_folder)):
        given = ["export", str(folder), "--target", "coreml", "--precision", "w4", "--out", str(tmp_path / name)]
        assert edgevl(given) == 0
    weights = [next((tmp_path / name).rglob("weight.bin")).read_bytes() for name in ("gptq", "plain")]
    assert len(weights[0]) == len(weights[1]) and weights[0] != weights[1]
