"""A plan: the same for the same seed, with the errors of modules that it says, and biases that give back the means."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("torchao", reason='torchao comes with pip install "edgevl[quantize]"')

from edgevl.contracts import Deployable, Sample
from edgevl.errors import InputError
from edgevl.models.capture import capture
from edgevl.opened import eager
from edgevl.plans.plan import PLAN, Plan, load_plan, save_plan
from edgevl.plans.ptq import quantize_program
from edgevl.plans.rounding import round_weight
from edgevl.plans.spec import get_dialect
from edgevl.quantize.calibrate import BATCH, GraphSession, Observation, answering_model, batches_of, calibrate
from edgevl.quantize.module_errors import judge_modules
from edgevl.quantize.observers import OBSERVERS
from edgevl.verify.measure import ask, draw, stacked

FEW = 64


@pytest.fixture(scope="module")
def plan(toy_model: Deployable) -> Plan:
    return calibrate(toy_model, samples=FEW)


def drawn(count: int = FEW) -> tuple[Sample, ...]:
    return draw("scenes:val", "vqa", count, 32, seed=0)


def float_logits(model: Deployable, samples) -> torch.Tensor:
    return torch.from_numpy(stacked(ask(eager(model), samples), "logits"))


@pytest.mark.parametrize("observer", OBSERVERS)
def test_the_same_seed_gives_the_same_bytes(toy_model, tmp_path, observer):
    texts = []
    for seed in (1, 1, 2):
        draw.cache_clear()
        save_plan(calibrate(toy_model, samples=FEW, observer=observer, seed=seed), tmp_path)
        texts.append((tmp_path / PLAN).read_bytes())
    assert texts[0] == texts[1] != texts[2]


def test_a_plan_is_read_as_it_was_written(plan, tmp_path):
    save_plan(plan, tmp_path)
    assert load_plan(tmp_path, plan.checkpoint_sha256) == plan
    assert json.loads((tmp_path / PLAN).read_text(encoding="utf-8")) == plan.model_dump(mode="json")


def test_a_plan_for_other_weights_is_refused(plan, tmp_path):
    save_plan(plan, tmp_path)
    with pytest.raises(InputError, match="was made for other weights: make it again with `edgevl quantize"):
        load_plan(tmp_path, "0" * 64)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 2}', '{"values": NaN}'])
def test_what_is_no_plan_is_refused(tmp_path, text):
    (tmp_path / PLAN).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="is not a quantization plan"):
        load_plan(tmp_path, "0" * 64)


def test_every_module_with_products_has_an_entry(toy, plan):
    products = {
        name.removeprefix("core.")
        for name, module in toy.model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    assert products == {name for name, module in plan.modules.items() if module.operator != "matmul"}
    assert {name for name, module in plan.modules.items() if module.operator == "matmul"} == {
        "fusion.blocks.0.attention"
    }
    weights = sum(m.weight.numel() for m in toy.model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    assert sum(module.weights for module in plan.modules.values()) == weights
    ratios = [module.sqnr_db for module in plan.modules.values()]
    assert ratios == sorted(ratios) and 15 < ratios[0] < 70
    assert ratios[-1] == 300, "a fresh residual branch ends in zeros (timm's norms), of which nothing is lost"


def test_the_error_of_a_module_is_what_its_definition_says(toy_model):
    """The answer head's last layer, computed by hand from what a hook saw."""
    (program,) = toy_model.programs("single")
    observation, layer = Observation(program, "minmax"), program.module.head[-1]
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    float_logits(toy_model, drawn())
    hook.remove()
    answering = answering_model(toy_model, {program.name: observation})
    for batch in batches_of(drawn()):
        answering.answer([sample.query for sample in batch])
    ranges = observation.by_node(observation.ranges())
    plans, _ = judge_modules(observation.program, ranges, observation.first, program.keep)
    x, found = torch.cat(seen), plans["head.3"].input
    assert found and found.low == pytest.approx(float(x.min()), abs=1e-5)
    scale, zero = get_dialect("x86").parameters(found)
    q = ((x / scale + zero).round().clamp(0, 255) - zero) * scale
    exact = nn.functional.linear(x, layer.weight, layer.bias).detach()
    noise = exact - nn.functional.linear(q, round_weight(layer.weight, 0), layer.bias).detach()
    ratio = 10 * np.log10(float(exact.square().sum() / noise.square().sum()))
    assert plans["head.3"].sqnr_db == pytest.approx(ratio, abs=0.05)


def logits(model: Deployable, plan: Plan, samples) -> torch.Tensor:
    """Of the program with Q/DQ."""
    (program,) = model.programs("single")
    rounded: Any = quantize_program(capture(program, "raw", BATCH), plan, get_dialect("x86")).module()
    answering = answering_model(model, {program.name: GraphSession(program.spec, rounded)})
    return torch.from_numpy(stacked(ask(answering, samples), "logits"))


def all_int8(plan: Plan) -> Plan:
    """The plan without modules in float."""
    modules = {name: module.model_copy(update={"precision": "w8a8"}) for name, module in plan.modules.items()}
    return plan.model_copy(update={"modules": modules})


def test_corrected_biases_give_back_the_means(toy_model):
    """The mean of each logit, over the samples that were calibrated on, is that of the float model."""
    plan = all_int8(calibrate(toy_model, samples=FEW, observer="minmax"))  # what is clipped has no mean to give back
    wanted, drift = float_logits(toy_model, drawn()), {}
    for name, given in (("corrected", plan), ("plain", plan.model_copy(update={"bias_shifts": {}}))):
        drift[name] = float((logits(toy_model, given, drawn()) - wanted).mean(0).abs().mean())
    assert drift["corrected"] < 0.5 * drift["plain"], drift


def test_correction_leaves_the_model_alone(toy, toy_model, plan):
    before = {name: value.clone() for name, value in toy.model.state_dict().items()}
    program = capture(toy_model.programs("single")[0], "raw", BATCH)
    stored = {name: value.clone() for name, value in program.state_dict.items()}
    quantize_program(program, plan, get_dialect("x86"))
    assert all(torch.equal(value, before[name]) for name, value in toy.model.state_dict().items())
    assert all(torch.equal(value, stored[name]) for name, value in program.state_dict.items())


def test_a_layer_without_a_bias_gets_no_shift(toy, plan):
    assert "fusion.blocks.0.attention.key" in plan.modules
    assert "fusion.blocks.0.attention.key" not in plan.bias_shifts
    assert len(plan.bias_shifts["head.3"]) == toy.config.num_answers


def test_a_module_in_float_keeps_its_bias(toy_model, plan):
    """Shifts of 1 000 in a module that the plan keeps in float change nothing."""
    assert plan.is_float("head.3")
    wide = (1e3,) * len(plan.bias_shifts["head.3"])
    wild = plan.model_copy(update={"bias_shifts": {**plan.bias_shifts, "head.3": wide}})
    assert torch.equal(logits(toy_model, plan, drawn()), logits(toy_model, wild, drawn()))
    assert float(logits(toy_model, all_int8(wild), drawn()).mean()) > 900


def test_all_samples_are_observed():
    """70 samples: the fifth batch begins before the fourth ends, and no sample is left out."""
    samples = drawn(70)
    batches = batches_of(samples)
    assert len(batches) == 5 and all(len(batch) == BATCH for batch in batches)
    assert {id(sample) for batch in batches for sample in batch} == set(map(id, samples))


@pytest.mark.slow
def test_the_embedded_model_loses_little():
    """Bias correction on the embedded model: closer to float than without it, on samples it never saw."""
    from edgevl.models.kinds import open_deployable
    from edgevl.verify.measure import compare_output

    model = open_deployable()
    plan = calibrate(model, samples=128)
    samples = draw("scenes:test", "vqa", 160, 128)
    wanted = float_logits(model, samples).numpy()
    plain = plan.model_copy(update={"bias_shifts": {}})
    psnr = [compare_output(logits(model, p, samples).numpy(), wanted).psnr_db for p in (plan, plain)]
    assert psnr[0] > psnr[1] + 0.3 and psnr[0] > 43
