"""Quantization-aware training: it trains what is deployed, and what it leaves is an ordinary model with a plan."""

import dataclasses
import json
import shutil
import sys
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("torchao", reason='torchao comes with pip install "edgevl[quantize]"')

from edgevl.atomic import write_json
from edgevl.data.scenes import ANSWERS, VOCABULARY
from edgevl.errors import InputError, MissingDependency
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import build_model
from edgevl.models.checkpoint import load_model, save_model
from edgevl.models.kinds import deployable_of, open_deployable
from edgevl.models.question_answering import answering_programs, export_program
from edgevl.plans.plan import PLAN, load_plan, save_plan
from edgevl.plans.ptq import quantize_program
from edgevl.plans.spec import DIALECTS, get_dialect
from edgevl.quantize.calibrate import calibrate
from edgevl.quantize.qat import RoundedModel, Scheme, ValueRounding, WeightRounding, measure_rounded, trainable
from edgevl.training import checkpoints, finetune
from edgevl.training.recipe import build_config, parse_recipe
from edgevl.training.study.answers import draw_samples, evaluate_model

PICTURES, QUESTIONS = 2, 3


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A tiny model folder with norms that have seen pictures, so that folding them means something."""
    torch.manual_seed(0)
    tiny = {"config": "nano", "name": "test", "backbone": "resnet10t", "image_size": 64}
    tiny |= {"width": 32, "depth": 2, "heads": 2}
    tokenizer = Tokenizer.from_words(VOCABULARY)
    recipe = parse_recipe({"stage": "finetune", "name": "x", "model": tiny}, "test")
    model = build_model(build_config(recipe, tokenizer, len(ANSWERS)))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)  # pyright: ignore
                torch.nn.init.normal_(module.bias, std=0.3)  # pyright: ignore
        model.train()
        for _ in range(30):
            model.core.encode_image(255 * torch.rand(8, 3, 64, 64))
    folder = save_model(tmp_path_factory.mktemp("qat") / "start", model.eval(), tokenizer, list(ANSWERS))
    write_json(folder / "training.json", {})
    return folder


@pytest.fixture(scope="module")
def plan(start):
    return calibrate(open_deployable(start), samples=64)


@pytest.fixture(scope="module")
def training_plan(plan):
    return trainable(plan)


@pytest.fixture(scope="module")
def batch(start):
    loaded, samples = load_model(start), draw_samples("scenes:test", PICTURES * QUESTIONS, 64)
    ids = torch.from_numpy(loaded.tokenizer.encode_batch(list(samples.questions), loaded.config.text_length))
    return torch.from_numpy(samples.pixels_NSS3[:PICTURES].transpose(0, 3, 1, 2).copy()).float(), ids


@pytest.fixture
def qat_values(finetune_values, start):
    return finetune_values | {"init": str(start), "quantize": {"samples": 64}, "steps": 4, "eval_every": 4}


def rounding(model, plan, scheme, pictures, questions):
    return RoundedModel(model, answering_programs(model, "split"), plan, scheme, pictures, questions)


def logits(model, batch):
    image, ids = batch
    with torch.no_grad():
        return model(image.repeat_interleave(QUESTIONS, 0), ids)


def rounded_logits(rounded, batch):
    with torch.no_grad():
        return rounded(named(batch))["logits"]


def named(batch):
    return dict(zip(("image", "input_ids"), batch))


def relative_error(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(
    "name", [n if n in ("x86", "xnnpack") else pytest.param(n, marks=pytest.mark.slow) for n in DIALECTS]
)
def test_what_is_trained_rounds_as_what_is_deployed(name, start, plan):
    """The same values on the same grids. The logits are as near as two roundings of one model are: a difference of 1e-7
    flips roundings, and padding in front of the first convolution is half a level away (`plans.picture`).
    """
    loaded, samples = load_model(start), draw_samples("scenes:test", 16, 64)
    program: Any = quantize_program(export_program(loaded.model, "raw", 16), plan, get_dialect(name)).module()
    ids = torch.from_numpy(loaded.tokenizer.encode_batch(list(samples.questions), loaded.config.text_length))
    with torch.no_grad():
        deployed = program(torch.from_numpy(samples.pixels_NSS3.copy()), ids)
    rounded = rounding(loaded.model, plan, Scheme(get_dialect(name)), 16, 1)
    trained = rounded_logits(rounded, (torch.from_numpy(samples.pixels_NSS3.transpose(0, 3, 1, 2).copy()).float(), ids))
    exact = evaluate_model(loaded, samples).logits_NA
    error, lost = relative_error(trained, deployed), relative_error(deployed, torch.from_numpy(exact))
    assert error < 2 * lost < 0.1
    assert grids_of_training(rounded) == grids_of_deployment(program)


def grids_of_training(rounded: RoundedModel) -> set[tuple[float, int]]:
    return {(round(float(m.scale), 9), int(m.zero_point)) for m in rounded.modules() if isinstance(m, ValueRounding)}


def grids_of_deployment(program: torch.fx.GraphModule) -> set[tuple[float, int]]:
    """Scale and zero point of every value that is quantized, but for pixels, which are integers already."""
    found = set()
    for node in program.graph.nodes:
        if "quantize_per_tensor" in str(node.target) and "dequantize" not in str(node.target):
            scale, zero_point = node.args[1:3]
            if scale != 1.0:
                found.add((round(scale, 9), zero_point))
    return found


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_weight_of_four_bits_has_fifteen_values_around_zero(per_channel):
    torch.manual_seed(0)
    weight = torch.randn(6, 5, 3, 3) * torch.arange(1, 7.0).reshape(6, 1, 1, 1)
    weight.requires_grad_()
    rounded = WeightRounding(quant_max=7, dtype=torch.int8, per_channel=per_channel)(weight)
    rows = [rounded[0], rounded[5]] if per_channel else [rounded]
    for row in rows:
        step = row.abs().max() / 7
        levels = row / step
        assert torch.allclose(levels, levels.round(), atol=1e-4) and levels.unique().numel() <= 15
    assert (rounded[0].unique().numel() > 7) == per_channel  # one scale for all leaves little to a small channel
    rounded.sum().backward()
    assert weight.grad is not None and torch.equal(weight.grad, torch.ones_like(weight))


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_are_written_back_rounded_and_round_to_themselves(bits, start, training_plan, batch):
    model, scheme = load_model(start).model, Scheme(get_dialect("x86"), bits)
    before = logits(model, batch)
    rounded = rounding(model, training_plan, scheme, PICTURES, QUESTIONS)
    rounded.write_back(model)
    row = model.core.fusion.blocks[0].attention.query.weight[3]  # pyright: ignore
    levels = row / row.abs().max() * (2 ** (bits - 1) - 1)
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    again = rounding(model.half().float(), training_plan, scheme, PICTURES, QUESTIONS)  # as it is saved
    assert relative_error(rounded_logits(again, batch), rounded_logits(rounded, batch)) < 0.01
    assert (relative_error(logits(model, batch), before) < 0.01) == (bits == 8)


@pytest.mark.parametrize("factor", [1.0, 0.0, 1e-8])
def test_the_model_written_back_is_the_one_that_was_trained(factor, start, training_plan, batch):
    """Also where a batch norm's factor is zero, by which no weight can be divided."""
    model = load_model(start).model
    with torch.no_grad():
        model.core.vision.backbone.bn1.weight[::2] *= factor  # pyright: ignore
    scheme = Scheme(get_dialect("x86"))
    rounded = rounding(model, training_plan, scheme, PICTURES, QUESTIONS)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.mul_(1 + 0.1 * torch.randn_like(parameter)).add_(0.01 * torch.randn_like(parameter))
    before = logits(model, batch)
    rounded.write_back(model)
    again = rounding(model, training_plan, scheme, PICTURES, QUESTIONS)
    assert relative_error(rounded_logits(again, batch), rounded_logits(rounded, batch)) < 0.01
    assert relative_error(logits(model, batch), before) > 0.05


def test_every_weight_that_is_rounded_gets_a_gradient(start, training_plan, batch):
    rounded = rounding(
        load_model(start).model, training_plan, Scheme(get_dialect("x86"), 4), PICTURES, QUESTIONS
    ).train()
    rounded(named(batch))["logits"].square().mean().backward()
    norms = {norm for _, norm in rounded._folded}
    for name in rounded._trained():
        if name.rpartition(".")[0] not in norms:
            gradient = dict(rounded.named_parameters())[full_name(rounded, name)].grad
            assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().sum() > 0, name
    assert len(norms) == 12


def full_name(rounded, name):
    candidates = [f"graphs.vision.model.{name.removeprefix('core.')}", f"graphs.fusion.model.{name}"]
    return next(c for c in candidates if c in dict(rounded.named_parameters()))


@pytest.fixture
def planned(tmp_path, start, plan):
    """The start with a plan of its own, unlike the one that a calibration would give."""
    folder = shutil.copytree(start, tmp_path / "planned")
    values = {name: found.model_copy(update={"high": found.high + 1}) for name, found in plan.values.items()}
    save_plan(plan.model_copy(update={"values": values}), folder)
    return folder


def test_a_run_leaves_a_model_and_its_plan_and_goes_on_where_it_was(tmp_path, qat_values, planned):
    recipe = parse_recipe(qat_values | {"init": str(planned)}, "test")
    folder = finetune.run(recipe, out=tmp_path / "run")
    given, found = plan_in(planned), plan_in(folder / "model")
    assert found.values == given.values and given.bias_shifts and not found.bias_shifts
    assert found.checkpoint_sha256 != given.checkpoint_sha256
    whole = {path.name: path.read_bytes() for path in (folder / "model").iterdir()}
    last = load_file(checkpoints.list_checkpoints(folder)[-1] / "model.safetensors")
    shutil.rmtree(checkpoints.list_checkpoints(folder)[-1])
    shutil.rmtree(folder / "model")
    assert [path.name for path in checkpoints.list_checkpoints(folder)] == ["checkpoint-00000002"]
    finetune.run(recipe, out=folder, resume=True)
    again = load_file(checkpoints.list_checkpoints(folder)[-1] / "model.safetensors")
    assert last.keys() == again.keys() and all(torch.equal(last[name], again[name]) for name in last)
    for name in ("model.safetensors", PLAN, "tokenizer.json"):
        assert (folder / "model" / name).read_bytes() == whole[name], name
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted(set(steps)) == [1, 2, 3, 4]


def plan_in(folder):
    """The plan beside a model; `load_plan` refuses one that was made for other weights."""
    found = load_plan(folder, load_model(folder).sha256)
    assert found is not None
    return found


def test_without_a_plan_it_calibrates(tmp_path, qat_values, plan):
    recipe = parse_recipe(qat_values | {"steps": 1, "eval_samples": 0}, "test")
    assert plan_in(finetune.run(recipe, out=tmp_path / "run") / "model").values == plan.values


@pytest.mark.slow
def test_the_run_exports_to_w8a8_and_answers_as_it_was_trained(tmp_path, qat_values):
    pytest.importorskip("onnxruntime")
    from edgevl.bundle.folder import Bundle
    from edgevl.bundle_export import export_bundle
    from edgevl.opened import eager
    from edgevl.verify.measure import ask, draw, stacked

    folder = finetune.run(parse_recipe(qat_values, "test"), out=tmp_path / "run") / "model"
    bundle = Bundle.open(export_bundle(folder, "onnx", "w8a8", tmp_path / "test.edgevl"))
    model, samples = open_deployable(folder), draw("scenes:test", "vqa", 32, 64)
    module = load_model(folder).model
    found = measure_rounded(model, module, plan_in(folder), Scheme(get_dialect("x86")), samples, batch=16)
    trained, artifact = (stacked(answers, "logits") for answers in (found.answers, ask(bundle.opened(1), samples)))
    exact = stacked(ask(eager(model), samples), "logits")
    assert np.linalg.norm(artifact - trained) < np.linalg.norm(trained - exact)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dialect": "x68"}, 'did you mean "x86"'),
        ({"observer": "minmx"}, 'did you mean "minmax"'),
        ({"data": "scenes:vall"}, "vall"),
        ({"samples": 8}, "8"),
    ],
)
def test_a_wrong_section_is_one_line_and_writes_nothing(tmp_path, qat_values, change, message):
    values = qat_values | {"quantize": qat_values["quantize"] | change}
    with pytest.raises(InputError, match=message) as error:
        finetune.run(parse_recipe(values, "test"), out=tmp_path / "x")
    assert "\n" not in str(error.value) and not (tmp_path / "x").exists()


def test_validation_of_less_than_a_batch_is_refused(tmp_path, qat_values, planned):
    values = qat_values | {"eval_samples": qat_values["batch_size"] - 1}
    with pytest.raises(InputError, match="in whole batches"):
        finetune.run(parse_recipe(values, "test"), out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_bits_out_of_range_are_refused(qat_values):
    with pytest.raises(InputError, match=r"quantize\.weight_bits"):
        parse_recipe(qat_values | {"quantize": {"weight_bits": 9}}, "test")


def test_without_torchao_it_says_what_to_install(tmp_path, qat_values, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization.pt2e", None)
    with pytest.raises(MissingDependency, match="quantize"):
        finetune.run(parse_recipe(qat_values, "test"), out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_backbone_that_is_merged_for_deployment_is_refused(tmp_path, start):
    """RepVGG's branches become one convolution: what is trained would have no place in the model."""
    loaded = load_model(start)
    torch.manual_seed(0)
    model = build_model(loaded.config.replace(backbone="repvgg_a0", backbone_options={}, out_index=3)).eval()
    plan = trainable(calibrate(deployable_of(dataclasses.replace(loaded, model=model)), samples=64))
    with pytest.raises(
        InputError, match=r"cannot be trained with quantization: core\.vision\.\S+ is made for deployment"
    ):
        rounding(model, plan, Scheme(get_dialect("x86")), 1, 1)
