"""Distillation: what each loss compares, what the teacher may and may not be, and whole runs."""

import pytest
import torch
import yaml
from killed_runs import check_kill, rows  # pyright: ignore[reportMissingImports]
from safetensors.torch import load_file

from edgevl.cli.app import main
from edgevl.data.scenes import ANSWERS, VOCABULARY
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import VqaModel, build_model
from edgevl.models.checkpoint import load_model, save_model
from edgevl.training import checkpoints, distill, finetune
from edgevl.training.grow import block_origins, grow
from edgevl.training.losses.base import make_losses
from edgevl.training.losses.distillation import DISTILLATION, resize_grid
from edgevl.training.recipe import build_config, parse_recipe

LOSSES = {
    "logits": {"weight": 1.0},
    "features": {"at": ["vision", "fusion"]},
    "relation": {"at": ["vision", "fusion"]},
    "attention": {},
}
LARGER = {"width": 48, "depth": 3, "heads": 3, "image_size": 96}  # a teacher that differs in all that may differ


@pytest.fixture
def tokenizer():
    return Tokenizer.from_words(VOCABULARY)


@pytest.fixture
def model(finetune_values, tokenizer):
    """Builds a model of the tiny test config with changes. No parameter is as it begins: that would hide much."""

    def build(seed: int, **changes) -> VqaModel:
        torch.manual_seed(seed)
        config = build_config(parse_recipe(finetune_values, "test"), tokenizer, len(ANSWERS)).replace(**changes)
        built = build_model(config)
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        return built

    return build


@pytest.fixture
def teacher(tmp_path, model, tokenizer):
    return save_model(tmp_path / "teacher", model(7, **LARGER), tokenizer, list(ANSWERS))


@pytest.fixture
def distill_values(finetune_values, teacher):
    return finetune_values | {"stage": "distill", "teacher": str(teacher), "losses": LOSSES}


@pytest.fixture
def batch(tokenizer):
    torch.manual_seed(0)
    ids = tokenizer.encode_batch(["what color is the cat?", "is there a dog?"] * 2, 12).reshape(2, 2, 12)
    return {"image": torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8), "questions": torch.from_numpy(ids)}


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_is_zero_for_the_teacher_itself_and_positive_for_another(name, model, batch):
    first, second = model(0), model(1)
    loss = make_losses({name: LOSSES[name]}, DISTILLATION, first.config, second.config)[name]
    same = loss(distill.trace(first, batch), distill.trace(first, batch))
    other = loss(distill.trace(first, batch), distill.trace(second, batch))
    assert all(key.split(".")[0] == name and abs(value.item()) < 1e-6 for key, value in same.items())
    assert all(value.item() > 1e-5 for value in other.values()), other


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_takes_a_teacher_of_another_size_and_trains_the_student(name, model, batch):
    student, teacher = model(0).train(), model(1, **LARGER)
    loss = make_losses({name: LOSSES[name]}, DISTILLATION, student.config, teacher.config)[name]
    with torch.no_grad():
        target = distill.trace(teacher, batch)
    losses = loss(distill.trace(student, batch), target)
    torch.stack([*losses.values()]).sum().backward()
    gradient = student.core.vision.project.weight.grad
    assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def test_the_attention_that_is_compared_is_the_one_that_the_model_computes(model, batch):
    found = model(0)
    last = found.core.fusion.blocks[-1].attention
    seen = []
    trace = distill.trace(found, batch)
    softmax = torch.softmax
    try:
        torch.softmax = lambda x, dim: seen.append(softmax(x, dim)) or seen[-1]
        normed_NLD = found.core.fusion.blocks[-1].attention_norm(trace.states_NLD)
        last(normed_NLD.flatten(0, 1), normed_NLD[:, 0], mask(trace))
    finally:
        torch.softmax = softmax
    torch.testing.assert_close(trace.attention(trace.cells), seen[0].mean(1)[:, 0])
    coarse = trace.attention(4)
    assert coarse.shape == (4, 12 + 4)
    torch.testing.assert_close(coarse.sum(1), torch.ones(4))


def mask(trace):
    return torch.cat([(1 - trace.kept_NT) * -1e4, torch.zeros(len(trace.kept_NT), trace.cells)], 1)[:, None, None]


def test_padding_changes_no_loss(model, batch):
    first, second = model(0), model(1)
    longer = batch | {"questions": torch.nn.functional.pad(batch["questions"], (0, 6))}
    for name, loss in make_losses(LOSSES, DISTILLATION, first.config, second.config).items():
        short, long = (loss(distill.trace(first, b), distill.trace(second, b)) for b in (batch, longer))
        for key in short:
            torch.testing.assert_close(short[key], long[key], msg=f"{name}: {key}")


def test_a_grid_keeps_its_orientation_when_it_is_resized():
    ramp = torch.arange(16.0).reshape(1, 16, 1)
    assert resize_grid(ramp, 4).flatten().tolist() == sorted(resize_grid(ramp, 4).flatten().tolist())
    assert resize_grid(ramp, 16) is ramp


def test_the_heads_are_not_saved_and_the_teacher_is_in_no_checkpoint(tmp_path, distill_values):
    folder = distill.run(parse_recipe(distill_values, "test"), out=tmp_path / "run")
    assert load_model(folder / "model").training["recipe"]["stage"] == "distill"
    saved = load_file(checkpoints.list_checkpoints(folder)[-1] / "model.safetensors")
    assert {name.split(".")[0] for name in saved} == {"model", "losses"}
    assert set(rows(folder, "features.fusion")) == set(range(1, 7))


def test_without_the_teachers_losses_in_the_sum_it_is_fine_tuning(tmp_path, distill_values, finetune_values):
    """The two arms of a comparison see the same samples and begin at the same weights."""
    values = distill_values | {"losses": {"logits": {"weight": 1e-30}}, "steps": 2, "eval_samples": 0}
    values["data"] = values["data"] | {"workers": 0}
    same = load_model(distill_values["teacher"])
    small = save_model(tmp_path / "small", small_twin(same, finetune_values), same.tokenizer, same.labels)
    with_teacher = distill.run(parse_recipe(values | {"teacher": str(small)}, "test"), out=tmp_path / "a")
    without = finetune.run(parse_recipe(finetune_values | {"steps": 2, "eval_samples": 0}, "test"), out=tmp_path / "b")
    assert rows(with_teacher, "vqa") == rows(without, "vqa")


def small_twin(loaded, finetune_values):
    return build_model(build_config(parse_recipe(finetune_values, "test"), loaded.tokenizer, len(ANSWERS)))


def test_a_killed_distillation_goes_on_as_one_never_killed(tmp_path, distill_values):
    check_kill(distill, distill_values | {"steps": 12}, tmp_path, "loss")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": None}, "has no teacher"),
        ({"teacher": "nowhere"}, 'no model folder "nowhere"'),
        ({"losses": {}}, "has no losses"),
        ({"losses": {"logit": {}}}, 'did you mean "logits"'),
        ({"losses": {"features": {"at": ["visoin"]}}}, 'did you mean "vision"'),
        ({"losses": {"logits": {"temperature": 0}}}, "temperature 0 must be above 0"),
        ({"losses": {"logits": {"heat": 2}}}, 'option of losses.logits "heat"'),
    ],
)
def test_a_wrong_recipe_is_one_line_and_writes_nothing(tmp_path, distill_values, change, message):
    with pytest.raises(InputError, match=message) as error:
        distill.run(parse_recipe(distill_values | change, "test"), out=tmp_path / "x")
    assert "\n" not in str(error.value) and not (tmp_path / "x").exists()


def test_nothing_to_resume_is_named_before_a_teacher_is_loaded(tmp_path, distill_values):
    with pytest.raises(InputError, match="no run to go on with"):
        distill.run(parse_recipe(distill_values | {"teacher": "nowhere"}, "test"), out=tmp_path / "x", resume=True)


def test_a_teacher_with_other_labels_is_refused(tmp_path, distill_values, model, tokenizer):
    folder = save_model(tmp_path / "other", model(0), tokenizer, list(reversed(ANSWERS)))
    with pytest.raises(InputError, match="has other labels than the student") as error:
        distill.run(parse_recipe(distill_values | {"teacher": str(folder)}, "test"), out=tmp_path / "x")
    assert "\n" not in str(error.value) and not (tmp_path / "x").exists()


def test_a_teacher_with_another_tokenizer_is_refused(tmp_path, distill_values, model):
    folder = save_model(tmp_path / "other", model(0), Tokenizer.from_words([*VOCABULARY, "aardvark"]), list(ANSWERS))
    with pytest.raises(InputError, match="has another tokenizer than the student"):
        distill.run(parse_recipe(distill_values | {"teacher": str(folder)}, "test"), out=tmp_path / "x")


def test_a_teacher_that_reads_less_text_is_refused(tmp_path, distill_values, model, tokenizer):
    folder = save_model(tmp_path / "short", model(0, text_length=8), tokenizer, list(ANSWERS))
    with pytest.raises(InputError, match="reads 8 tokens, the student 24"):
        distill.run(parse_recipe(distill_values | {"teacher": str(folder)}, "test"), out=tmp_path / "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": "nano"}, "teacher is for distill, not for finetune"),
        ({"losses": LOSSES}, "losses is for pretrain and distill, not for finetune"),
        ({"grow": 8}, "grow needs init"),
        ({"quantize": {}}, "quantize needs init"),
    ],
)
def test_a_key_that_the_stage_would_ignore_is_refused(finetune_values, change, message):
    with pytest.raises(InputError, match=message):
        parse_recipe(finetune_values | change, "test")


def test_the_command_line_distills_and_says_how_to_go_on(tmp_path, distill_values, capsys):
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump(distill_values | {"steps": 1, "eval_samples": 0}), encoding="utf-8"
    )
    assert main(["distill", str(tmp_path / "recipe.yaml"), "log_every=1", "--out", str(tmp_path / "run")]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "run") and "edgevl export" in captured.err


def test_a_grown_model_gives_the_same_logits_and_its_new_blocks_learn(model, batch):
    small = model(3)
    grown = grow(small, 5)
    image, ids = distill.to_size(batch["image"], 64), batch["questions"][:, 0]
    assert torch.equal(grown(image, ids), small(image, ids))
    assert (grown.config.depth, grown.config.name) == (5, "test_depth5")
    grown(image, ids).square().sum().backward()
    for block in grown.core.fusion.blocks:
        gradient = block.mlp[2].weight.grad  # pyright: ignore
        assert gradient is not None and gradient.abs().sum() > 0


def test_copies_stand_in_front_of_their_originals_and_the_last_block_stays_last():
    assert block_origins(5, 8) == [0, 0, 1, 1, 2, 3, 3, 4]
    assert block_origins(1, 3) == [0, 0, 0]


def test_a_recipe_grows_its_start(tmp_path, finetune_values, teacher):
    values = finetune_values | {"init": str(teacher), "model": {}, "grow": 5, "steps": 1, "eval_samples": 0}
    folder = finetune.run(parse_recipe(values, "test"), out=tmp_path / "run")
    assert load_model(folder / "model").config.depth == 5
    with pytest.raises(InputError, match="has 3 blocks already"):
        finetune.run(parse_recipe(values | {"grow": 3}, "test"), out=tmp_path / "x")
    assert not (tmp_path / "x").exists()
