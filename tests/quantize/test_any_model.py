"""Whatever answers by programs can be calibrated: boxes, embeddings, captions, by one program or by several."""

import dataclasses
import functools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("torchao", reason='torchao comes with pip install "edgevl[quantize]"')

from edgevl.app.conformance.small_models import MODELS
from edgevl.bench.verdict import judge_target
from edgevl.bundle.folder import Bundle
from edgevl.bundle_export import export_bundle
from edgevl.cli import main
from edgevl.config import DualEncoderConfig
from edgevl.contracts import Answer, Deployable, Sample
from edgevl.data.scenes import VOCABULARY
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import DualEncoder
from edgevl.models.capture import capture
from edgevl.models.checkpoint import save_dual_encoder
from edgevl.models.deployable import with_programs
from edgevl.models.kinds import open_deployable
from edgevl.opened import Opened, eager
from edgevl.plans.plan import Plan, Range
from edgevl.plans.ptq import quantize_program
from edgevl.plans.spec import get_dialect
from edgevl.quantize.calibrate import BATCH, GraphSession, answering_model, calibrate
from edgevl.quantize.model_folder import quantize_model
from edgevl.quantize.sensitivity import Judge
from edgevl.verify.measure import ask, compare_output, draw, stacked
from edgevl.verify.run import verify_bundle

FEW, DATA = 64, "scenes:val"
# Around the mean; measured: 22 to 30, and 9 for the boxes of random weights, which hardly depend on the picture.
LEAST_DB = {"grounding": 7.0, "towers": 19.0, "captioner": 19.0, "prefixed": 22.0, "answerer": 25.0}


def rounded(model: Deployable, plan: Plan) -> Opened:
    """The model over its programs with Q/DQ."""
    sessions = {}
    for program in model.programs(model.layouts[0]):
        own = quantize_program(capture(program, "raw", BATCH), plan.of(program.name), get_dialect("x86"))
        call: Any = own.module()
        sessions[program.name] = GraphSession(program.spec, call)
    return answering_model(model, sessions)


def ratios(own: Sequence[Answer[Any]], reference: Sequence[Answer[Any]]) -> dict[str, float | None]:
    return {name: compare_output(stacked(own, name), stacked(reference, name)).snr_db for name in reference[0].values}


@functools.cache
def planned(name: str) -> tuple[Deployable, Plan]:
    model = MODELS[name]()
    return model, calibrate(model, DATA, samples=256 if name == "captioner" else FEW)


def samples_of(model: Deployable) -> tuple[Sample, ...]:
    return draw(DATA, model.task, FEW, 32, seed=1)


@pytest.mark.parametrize("name", LEAST_DB)
def test_int8_stays_close_to_float(name):
    model, plan = planned(name)
    exact = ask(eager(model), samples_of(model))
    own = ask(rounded(model, plan), samples_of(model), along=exact)
    for output, ratio in ratios(own, exact).items():
        assert ratio is not None and LEAST_DB[name] < ratio < 100, (output, ratio)


def test_each_program_has_names_of_its_own():
    """Both towers call what they make `:div`; the two blocks that a prefix and its decoder share see other values."""
    _, plan = planned("towers")
    assert {name.split("/")[0] for name in (*plan.values, *plan.modules)} == {"image_encoder", "text_encoder"}
    pictures, texts = plan.of("image_encoder"), plan.of("text_encoder")
    assert pictures.values[":div"] == plan.values["image_encoder/:div"] != texts.values[":div"]
    assert set(pictures.bias_shifts) >= {"of_picture"} and "of_text" in texts.modules


def test_a_layout_of_other_programs_finds_its_modules():
    values = {"a/x:conv": Range(low=0, high=1), "b/x:conv": Range(low=0, high=2), "b/y:conv": Range(low=0, high=3)}
    plan = Plan.model_construct(values=values, modules={}, bias_shifts={})
    assert {name: found.high for name, found in plan.of("a").values.items()} == {"x:conv": 1, "y:conv": 3}
    assert {name: found.high for name, found in plan.of("whole").values.items()} == {"x:conv": 2, "y:conv": 3}


@pytest.mark.parametrize("name", ["towers", "answerer"])
def test_mixtures_are_judged_by_the_task_and_the_decoding(name):
    """A sequence is compared along the decisions of the float model, and scored by what it says on its own."""
    model, plan = planned(name)
    judge = Judge(model, plan, DATA, 40)
    exact, whole = judge.point(()), judge.point(plan.modules)
    assert exact.kl_nats == pytest.approx(0, abs=1e-9) and (exact.drop, exact.top1_agreement) == (0, 1)
    assert whole.kl_nats > 0 and whole.int8_weights == sum(module.weights for module in plan.modules.values())
    assert whole.metric == {"towers": "text_to_image_r1", "answerer": "accuracy"}[name]


def test_a_module_that_a_program_keeps_stays_in_float():
    model = MODELS["grounding"]()
    (program,) = model.programs("single")
    kept = with_programs(model, lambda layout: (dataclasses.replace(program, keep={"core.fusion": "fp16"}),))
    floats = calibrate(kept, DATA, samples=FEW).kept_float
    assert floats and all(name.startswith("fusion.") for name in floats)


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    small = {"backbone": "test_resnet", "backbone_options": {}, "image_size": 32, "text_length": 16, "heads": 2}
    config = DualEncoderConfig(name="small", embedding=16, queries=4, depth=1, width=64, **small)  # pyright: ignore
    return save_dual_encoder(tmp_path_factory.mktemp("dual"), DualEncoder(config), Tokenizer.from_words(VOCABULARY))


@pytest.fixture(scope="module")
def quantized(encoder_folder: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("quantized") / "small-w8a8"
    assert main(["quantize", str(encoder_folder), "--samples", "64", "--out", str(out)]) == 0
    return out


def test_a_dual_encoder_becomes_a_bundle(quantized: Path, tmp_path: Path):
    bundle = export_bundle(quantized, "onnx", "w8a8", tmp_path / "small.edgevl")
    assert {program.precision for program in Bundle.open(bundle).manifest.programs} == {"w8a8"}
    report = verify_bundle(bundle, 64, "scenes:val", checkpoint=quantized)
    assert report.ok and report.parity and set(report.parity.outputs) == {"image_embeds", "text_embeds"}


def test_export_without_a_plan_says_how_to_keep_one(encoder_folder: Path, tmp_path: Path, capsys):
    assert main(["export", str(encoder_folder), "--precision", "w8a8", "--out", str(tmp_path / "x.edgevl")]) == 0
    assert f"`edgevl quantize {encoder_folder}` keeps them for every target" in capsys.readouterr().err


def test_the_data_of_training_is_calibrated_on_and_named(encoder_folder: Path, tmp_path: Path, capsys):
    folder = Path(shutil.copytree(encoder_folder, tmp_path / "trained"))
    record = {"recipe": {"data": {"train": "scenes:train", "val": "scenes:test_style"}}}
    (folder / "training.json").write_text(json.dumps(record), encoding="utf-8")
    assert main(["quantize", str(folder), "--samples", "64", "--out", str(tmp_path / "q")]) == 0
    assert "calibrated on scenes:test_style: 64 different pictures, 64 texts of 1 kind" in capsys.readouterr().out


def test_the_verdict_is_on_the_data_that_is_named(quantized: Path, tmp_path: Path):
    found = judge_target(quantized, "tensorrt", tmp_path, "scenes:test_style", 24)
    assert (found.data, found.samples) == ("scenes:test_style", 24) and found.lost_points is not None


def test_clip_is_calibrated_as_it_is(tmp_path: Path):
    """Its towers each call a module `project`; its channels have other means, so that the picture is rounded itself."""
    pytest.importorskip("transformers", reason="a CLIP model is written by transformers")
    from clip_folder import write_clip

    made = quantize_model(write_clip(tmp_path / "clip"), samples=FEW, out=tmp_path / "clip-w8a8")
    model = open_deployable(made.folder)
    assert {"image_encoder/project", "text_encoder/project"} <= made.plan.modules.keys()
    exact = ask(eager(model), samples_of(model))
    own = ask(rounded(model, made.plan), samples_of(model))
    assert all(ratio and 18 < ratio < 100 for ratio in ratios(own, exact).values())
