"""A dual encoder trained by contrast: samples, the objective, the optimizer, whole runs."""

import json

import numpy as np
import pytest
import torch
from killed_runs import check_kill, rows  # pyright: ignore[reportMissingImports]
from torch import nn

from edgevl.config import DualEncoderConfig, ModelConfig
from edgevl.data import open_dataset
from edgevl.data.scenes import ANSWERS, VOCABULARY
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import DualEncoder, build_model
from edgevl.models.checkpoint import LoadedDualEncoder, load_dual_encoder, load_model, open_model, save_model
from edgevl.models.kinds import deployable_of
from edgevl.training import finetune
from edgevl.training.contrast import ContrastSamples, mirrored, recall_of
from edgevl.training.loop import make_optimizer
from edgevl.training.muon import Muon, muon_groups, orthogonal
from edgevl.training.recipe import OptimizerSection, parse_recipe

SIZES = {"backbone": "test_resnet", "backbone_options": {}, "image_size": 64, "width": 32, "heads": 2}


@pytest.fixture
def values() -> dict:
    return {
        "stage": "finetune",
        "name": "tiny_retrieval",
        "task": "retrieval",
        "model": {"kind": "dual_encoder", "name": "tiny", "embedding": 16, "queries": 2, "depth": 1, **SIZES},
        "data": {"texts": 2, "mirror": True, "workers": 0},
        "optimizer": {"name": "muon", "lr": 2e-3, "warmup": 2, "clip_norm": 5.0},
        "steps": 6,
        "batch_size": 8,
        "log_every": 1,
        "checkpoint_every": 2,
        "eval_every": 6,
        "eval_samples": 16,
    }


@pytest.fixture
def answering(tmp_path):
    """The folder of a model that answers questions, whose eyes and words a dual encoder can begin with."""
    tokenizer = Tokenizer.from_words(VOCABULARY)
    config = ModelConfig(name="eyes", depth=1, vocab_size=480, num_answers=len(ANSWERS), **SIZES)  # pyright: ignore
    return save_model(tmp_path / "eyes", build_model(config), tokenizer, list(ANSWERS))


def samples(mirror: bool) -> ContrastSamples:
    config = DualEncoderConfig(**SIZES)  # pyright: ignore
    return ContrastSamples(open_dataset("scenes:train", size=64), Tokenizer.from_words(VOCABULARY), config, 2, mirror)


def test_half_of_the_pictures_are_mirrored_and_their_captions_change_sides():
    assert mirrored("a cat left of a dog right of the bright leftover") == (
        "a cat right of a dog left of the bright leftover"
    )
    plain, turned = samples(False), samples(True)
    flipped = [i for i in range(40) if not np.array_equal(plain[i]["image"], turned[i]["image"])]
    assert 10 <= len(flipped) <= 30
    for index in flipped[:5]:
        assert np.array_equal(plain[index]["image"], turned[index]["image"][:, :, ::-1])
        said = [mirrored(text) for text in plain.captions(plain.dataset[index])]
        ids = plain.tokenizer.encode_batch(said, plain.config.text_length)
        assert np.array_equal(turned[index]["captions"], ids)


def test_the_longest_captions_come_first():
    drawn = samples(False)
    record = drawn.dataset[3]
    assert drawn.captions(record) == sorted(record.captions[:8], key=lambda text: -len(text))[:2]  # pyright: ignore


def test_a_killed_run_goes_on_as_one_never_killed(tmp_path, values):
    check_kill(finetune, values | {"steps": 12, "eval_samples": 0}, tmp_path, "contrast")


def test_a_run_leaves_a_model_that_finds_pictures(tmp_path, values):
    folder = finetune.run(parse_recipe(values, "test"), out=tmp_path / "run")
    loaded = open_model(folder / "model")
    assert isinstance(loaded, LoadedDualEncoder) and loaded.training["recipe"]["name"] == "tiny_retrieval"
    (logged,) = rows(folder, "val_text_to_image_r5").values()
    (low,), (high,) = (rows(folder, f"{end}_val_text_to_image_r5").values() for end in ("low", "high"))
    assert low <= logged <= high
    assert loaded.training["curve"][-1]["val_text_to_image_r5"] == logged
    found = {metric.name: metric.value for metric in recall_of(deployable_of(loaded), open_dataset("scenes:val"), 16)}
    assert found["text_to_image_r5"] == pytest.approx(logged, abs=0.13)  # the same model, but its weights are fp16


def test_contrast_is_learned(tmp_path, values):
    """Eight pictures and their captions, seen again and again, are told apart within a few steps."""

    class Few(ContrastSamples):
        def __getitem__(self, index):
            return super().__getitem__(index % 8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "ContrastSamples", Few)
        longer = {"steps": 40, "eval_samples": 0, "checkpoint_every": 40}
        folder = finetune.run(parse_recipe(values | longer, "test"), out=tmp_path / "run")
    losses = list(rows(folder, "contrast").values())
    assert losses[-1] < 0.5 < np.log(8) < losses[0]  # log(8): of a guess


def test_it_begins_with_the_eyes_and_words_of_another_model_and_what_is_frozen_stays(tmp_path, values, answering):
    own = {"kind": "dual_encoder", "embedding": 16, "queries": 2, "depth": 1}
    changed = values | {"model": own, "init": str(answering), "freeze": ["vision"], "steps": 2, "eval_samples": 0}
    model = load_dual_encoder(finetune.run(parse_recipe(changed, "test"), out=tmp_path / "run") / "model").model
    core = load_model(answering).model.core
    for name, value in core.vision.state_dict().items():
        assert torch.equal(model.vision.state_dict()[name], value), name
    assert not torch.equal(model.text.words.weight, core.text.words.weight)
    assert model.config.name == "eyes-retrieval"


def test_what_a_recipe_cannot_mean_is_one_line_and_writes_nothing(tmp_path, values, answering, finetune_values):
    start = values | {"init": str(answering)}
    kind = {"kind": "dual_encoder"}
    for changed, message in (
        (start | {"model": kind | {"width": 48, "heads": 2}}, r"model.width is 48, but .* has 32"),
        (start | {"model": kind, "freeze": ["visoin"]}, 'part of the model in freeze "visoin"; did you mean "vision"'),
        (values | {"freeze": ["vision"]}, "freeze needs init"),
        (values | {"model": values["model"] | {"kind": "dual"}}, 'kind of model "dual"'),
        (values | {"model": kind | {"num_answers": 3}}, 'model config field "num_answers"'),
        (values | {"weights": {"itc": 2.0}}, 'loss in weights "itc"'),
        (values | {"grow": 3, "init": str(answering)}, "grow is not for model.kind dual_encoder"),
        (finetune_values | {"data": {"mirror": True}}, "data.mirror is for model.kind dual_encoder"),
        (finetune_values | {"model": kind}, "model.kind dual_encoder is for the task retrieval"),
        (finetune_values | {"optimizer": {"matrix_lr": 0.1}}, "matrix_lr is for muon, not for adamw"),
    ):
        with pytest.raises(InputError, match=message):
            finetune.run(parse_recipe(changed, "test"), out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


# ---- Muon ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8), (1, 9)])
def test_orthogonal_brings_every_singular_value_near_one(shape):
    found = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
    assert found.min() > 0.6 and found.max() < 1.25


@pytest.mark.parametrize("shape", [(12, 20), (40, 10)])
def test_matrices_move_as_those_of_torch_do(shape):
    torch.manual_seed(0)
    weight, gradients = torch.randn(shape), [torch.randn(shape) for _ in range(3)]
    ours, theirs = nn.Parameter(weight.clone()), nn.Parameter(weight.clone())
    own = Muon([{"params": [ours], "matrices": True, "weight_decay": 0.05}], lr=0.02)
    other = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.05, momentum=0.95)
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        own.step()
        other.step()
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)  # theirs iterates in bfloat16
    assert (ours - weight).abs().max() > 0.01


def test_the_rest_moves_as_by_adamw():
    torch.manual_seed(0)
    start, gradients = torch.randn(30), [torch.randn(30) for _ in range(3)]
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    own = Muon([{"params": [ours], "weight_decay": 0.1}], lr=1e-2)
    other = torch.optim.AdamW([theirs], lr=1e-2, betas=(0.9, 0.98), weight_decay=0.1)
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        own.step()
        other.step()
    torch.testing.assert_close(ours, theirs)


def test_filters_go_by_muon_words_and_positions_do_not():
    model = DualEncoder(DualEncoderConfig(**SIZES))  # pyright: ignore
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    matrices, tables, rest = ([names[id(p)] for p in group["params"]] for group in muon_groups(model, 0.05, 10.0))
    assert "vision.backbone.conv1.0.weight" in matrices and "picture_pool.score.weight" in matrices
    assert tables == ["text.words.weight"]
    assert {"vision.position", "text.position", "log_scale", "vision.norm.weight"} <= set(rest)
    assert len(matrices) + len(tables) + len(rest) == len(names)
    optimizer = make_optimizer(model, OptimizerSection(name="muon", lr=2e-3, matrix_lr=0.02))  # pyright: ignore
    assert optimizer.param_groups[0]["factor"] == pytest.approx(10)


def test_a_filter_moves_as_the_matrix_of_its_rows():
    torch.manual_seed(0)
    weight, gradient = torch.randn(4, 3, 3, 3), torch.randn(4, 3, 3, 3)
    filters, matrix = nn.Parameter(weight.clone()), nn.Parameter(weight.reshape(4, 27).clone())
    filters.grad, matrix.grad = gradient, gradient.reshape(4, 27)
    Muon([{"params": [filters, matrix], "matrices": True}], lr=0.1).step()
    torch.testing.assert_close(filters.reshape(4, 27), matrix)


def test_the_state_of_the_optimizer_is_tensors_that_a_checkpoint_holds():
    model = nn.Linear(3, 2)
    optimizer = Muon(muon_groups(model, 0.0, 1.0), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    for parameter in model.parameters():
        state, expected = optimizer.state[parameter], optimizer.expected_state(parameter)
        assert {key: value.shape for key, value in state.items()} == {key: v.shape for key, v in expected.items()}
    assert json.dumps([*optimizer.state[model.weight]]) == '["momentum"]'
