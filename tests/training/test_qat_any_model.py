"""Quantization-aware training of other models than the one that answers questions: a dual encoder, statements."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from killed_runs import rows  # pyright: ignore[reportMissingImports]

pytest.importorskip("torchao", reason='torchao comes with pip install "edgevl[quantize]"')

from edgevl.bundle.folder import Bundle
from edgevl.bundle_export import export_bundle
from edgevl.config import DualEncoderConfig, ModelConfig
from edgevl.contracts import Query
from edgevl.data import open_dataset
from edgevl.data.scenes import ANSWERS, VOCABULARY
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import DualEncoder, build_model
from edgevl.models.capture import capture
from edgevl.models.checkpoint import (
    LoadedDualEncoder,
    load_dual_encoder,
    load_model,
    open_model,
    save_dual_encoder,
    save_model,
)
from edgevl.models.kinds import open_deployable
from edgevl.opened import eager
from edgevl.plans.plan import Plan, load_plan, save_plan
from edgevl.plans.ptq import quantize_program
from edgevl.plans.spec import get_dialect
from edgevl.quantize.calibrate import calibrate
from edgevl.quantize.qat import RoundedModel, Scheme, measure_rounded, programs_to_train
from edgevl.runtime.eager_session import as_taken, as_tensor
from edgevl.training import finetune
from edgevl.training.recipe import parse_recipe
from edgevl.verify.measure import ask, draw, stacked
from edgevl.verify.run import verify_bundle

SIZES: dict[str, Any] = {"backbone": "test_resnet", "backbone_options": {}, "image_size": 32, "width": 64, "heads": 2}
SIZES |= {"text_length": 24, "vocab_size": 480, "depth": 1}
PICTURES, TEXTS = 4, 2


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """A dual encoder with norms that have seen pictures."""
    torch.manual_seed(0)
    model = DualEncoder(DualEncoderConfig(name="small", embedding=16, queries=4, **SIZES)).train()
    for _ in range(20):
        model.embed_picture(255 * torch.rand(8, 3, 32, 32))
    return save_dual_encoder(tmp_path_factory.mktemp("dual"), model.eval(), Tokenizer.from_words(VOCABULARY))


@pytest.fixture(scope="module")
def plan(encoder) -> Plan:
    return calibrate(open_deployable(encoder), samples=64)


@pytest.fixture(scope="module")
def planned(encoder, plan, tmp_path_factory) -> Path:
    folder = Path(shutil.copytree(encoder, tmp_path_factory.mktemp("planned") / "dual"))
    save_plan(plan, folder)
    return folder


@pytest.fixture
def values(planned) -> dict[str, Any]:
    return {
        "stage": "finetune",
        "name": "tiny",
        "task": "retrieval",
        "model": {"kind": "dual_encoder"},
        "init": str(planned),
        "quantize": {"samples": 64},
        "data": {"texts": TEXTS, "workers": 0},
        "optimizer": {"lr": 1e-4, "warmup": 1},
        "steps": 4,
        "batch_size": 8,
        "log_every": 1,
        "eval_every": 4,
        "eval_samples": 20,
        "checkpoint_every": 4,
    }


def test_both_programs_round_as_those_that_are_deployed(encoder, plan):
    """The same grids, and embeddings as near as two roundings of one model are; pictures once for their texts."""
    loaded, model = load_dual_encoder(encoder), open_deployable(encoder)
    programs = programs_to_train(model)
    rounded = RoundedModel(loaded.model, programs, plan, Scheme(get_dialect("x86")), PICTURES, TEXTS)
    assert rounded.batches == {"image_encoder": PICTURES, "text_encoder": PICTURES * TEXTS}
    leaves = read(model, programs)
    with torch.no_grad():
        trained = rounded({name: as_float(programs, name, tensor) for name, tensor in leaves.items()})
    for program in programs:
        graph = capture(program, "raw", rounded.batches[program.name])
        deployed: Any = quantize_program(graph, plan.of(program.name), get_dialect("x86")).module()
        inputs = [leaves[spec.name] for spec in program.inputs]
        exact = getattr(program.module, program.method)(*(as_taken(s, x) for s, x in zip(program.inputs, inputs)))
        found, own = deployed(*inputs), trained[program.outputs[0].name]
        assert (own - found).norm() < 2 * (found - exact).norm() < 0.2 * exact.norm(), program.name


def read(model, programs) -> dict[str, torch.Tensor]:
    records = [open_dataset("scenes:test", size=32)[index] for index in range(PICTURES)]
    opened = eager(model)
    assert opened.runner
    shown = [opened.runner.read(Query(record.pictures), "picture") for record in records]
    captions = [caption for record in records for caption in (record.captions or ())[:TEXTS]]
    said = [opened.runner.read(Query((), (caption,)), "text") for caption in captions]
    return {name: as_tensor(np.stack([row[name] for row in rows])) for rows in (shown, said) for name in rows[0]}


def as_float(programs, name, tensor):
    return as_taken(next(spec for each in programs for spec in each.inputs if spec.name == name), tensor)


def test_a_run_leaves_a_dual_encoder_with_a_plan_that_exports_as_it_was_trained(tmp_path, values, plan, encoder):
    folder = finetune.run(parse_recipe(values, "test"), out=tmp_path / "run")
    losses = list(rows(folder, "contrast").values())
    assert len(losses) == 4 and np.isfinite(losses).all()
    loaded, model = open_model(folder / "model"), open_deployable(folder / "model")
    assert isinstance(loaded, LoadedDualEncoder)
    made = load_plan(folder / "model", model.sha256)
    assert made and made.values == plan.values and plan.bias_shifts and not made.bias_shifts
    before = load_dual_encoder(encoder).model.state_dict()
    moved = {
        name.split(".")[0] for name, value in loaded.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved >= {"vision", "text", "words", "picture_pool", "text_projection"} and "log_scale" not in moved
    samples, scheme = draw("scenes:val", "retrieval", 20, 32), Scheme(get_dialect("x86"))
    found = measure_rounded(model, loaded.model, made, scheme, samples, batch=8)
    (logged,) = rows(folder, "val_text_to_image_r5").values()
    assert found.metrics[1].name == "text_to_image_r5" and found.metrics[1].value == pytest.approx(logged, abs=0.06)
    bundle = export_bundle(folder / "model", "onnx", "w8a8", tmp_path / "x.edgevl")
    artifact = ask(Bundle.open(bundle).opened(1), samples)
    exact = ask(eager(model), samples)
    for name in ("image_embeds", "text_embeds"):
        own, trained, real = (stacked(answers, name) for answers in (artifact, found.answers, exact))
        assert np.linalg.norm(own - trained) < 2 * np.linalg.norm(trained - real), name
    assert verify_bundle(bundle, 32, "scenes:val", checkpoint=folder / "model").ok


def test_statements_are_calibrated_and_trained_as_statements(tmp_path, values):
    torch.manual_seed(0)
    model = build_model(ModelConfig(name="s", task="statement", num_answers=len(ANSWERS), **SIZES))
    init = save_model(tmp_path / "start", model, Tokenizer.from_words(VOCABULARY), list(ANSWERS))
    changed = values | {"task": "statement", "model": {}, "init": str(init), "steps": 1, "eval_samples": 8}
    folder = finetune.run(parse_recipe(changed, "test"), out=tmp_path / "run")
    assert load_model(folder / "model").config.task == "statement"
    made = load_plan(folder / "model", open_deployable(folder / "model").sha256)
    assert made and made.coverage and list(made.coverage.kinds) == ["statement"]
    assert list(rows(folder, "val_accuracy")) == [1]


def test_what_cannot_be_trained_so_is_one_line_and_writes_nothing(tmp_path, values):
    for change, message in (
        ({"freeze": ["vision"]}, "freeze with quantize is not for model.kind dual_encoder"),
        ({"model": {}}, "quantize with task retrieval is for a dual encoder: set model.kind=dual_encoder"),
        ({"init": "nano"}, "nano is another kind of model: fine-tune it first"),
    ):
        with pytest.raises(InputError, match=message) as error:
            finetune.run(parse_recipe(values | change, "test"), out=tmp_path / "x")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "x").exists()
