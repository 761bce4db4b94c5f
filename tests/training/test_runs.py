"""Whole runs: they write what they say, they resume exactly after a kill, and they refuse what would lose work."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from killed_runs import check_kill, rows  # pyright: ignore[reportMissingImports]
from safetensors.torch import load_file

from edgevl.config import CONFIGS
from edgevl.data.scenes import ANSWERS, VOCABULARY, Scenes
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models.checkpoint import load_model
from edgevl.training import checkpoints, finetune, pretrain
from edgevl.training.data import Positions, VqaSamples, batches, errors_in_one_line, in_order
from edgevl.training.loop import cooling, end_of, learning_rate, parameter_groups
from edgevl.training.recipe import parse_recipe

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def pretrained(tmp_path, pretrain_values):
    return pretrain.run(parse_recipe(pretrain_values, "test"), out=tmp_path / "pre")


def test_pretraining_then_finetuning_gives_a_model_that_loads(tmp_path, pretrained, finetune_values):
    values = finetune_values | {"init": str(pretrained / "model")}
    folder = finetune.run(parse_recipe(values, "test"), out=tmp_path / "ft")
    loaded = load_model(folder / "model")
    assert loaded.training["recipe"]["name"] == "tiny_finetune"
    assert list(rows(folder, "val_accuracy")) == [6]
    assert any((folder / "tensorboard").iterdir())
    assert yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))["steps"] == 6


def test_the_losses_exist_in_pretraining_only(pretrained):
    names = load_file(pretrained / "model" / "model.safetensors")
    assert all(name.startswith(("core.", "head.")) for name in names)


def test_an_answer_starts_as_a_masked_word(pretrained):
    loaded = load_model(pretrained / "model")
    words = loaded.model.core.text.words.weight
    masked_word_head = load_file(checkpoints.list_checkpoints(pretrained)[-1] / "model.safetensors")
    head = loaded.model.head.state_dict()
    assert torch.equal(head["0.weight"], masked_word_head["losses.mlm.transform.0.weight"].half().float())
    red = loaded.labels.index("red")
    expected = words[loaded.tokenizer.pieces("red")].mean(0)
    torch.testing.assert_close(head["3.weight"][red], expected, atol=1e-3, rtol=1e-2)
    finetune.load_pretrained(loaded.model, pretrained / "model", loaded.tokenizer)
    assert torch.equal(words[loaded.tokenizer.cls_id], words[loaded.tokenizer.mask_id])


def test_a_killed_run_goes_on_as_one_never_killed(tmp_path, finetune_values):
    check_kill(finetune, finetune_values | {"steps": 12}, tmp_path, "vqa")


def test_two_runs_of_one_process_may_differ_in_precision(tmp_path, finetune_values):
    logged = []
    for precision in ("no", "bf16"):
        values = finetune_values | {"steps": 1, "eval_samples": 0, "precision": precision}
        logged.append(rows(finetune.run(parse_recipe(values, "test"), out=tmp_path / precision), "vqa")[1])
    assert logged[0] != logged[1] == pytest.approx(logged[0], rel=0.05)


def test_workers_do_not_change_the_samples(tmp_path, finetune_values):
    runs = []
    for workers in (0, 1):
        values = finetune_values | {
            "steps": 2,
            "eval_samples": 0,
            "data": finetune_values["data"] | {"workers": workers},
        }
        runs.append(rows(finetune.run(parse_recipe(values, "test"), out=tmp_path / str(workers)), "vqa"))
    assert runs[0] == runs[1]


class Spoiled(VqaSamples):
    def __getitem__(self, index):
        raise InputError(f"sample {index} cannot be read; make it again")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_cannot_be_read_is_one_line(workers):
    samples = Spoiled(Scenes("train", size=64), Tokenizer.from_words(VOCABULARY), CONFIGS["nano"], ANSWERS)
    with pytest.raises(InputError) as error:
        next(errors_in_one_line(batches(samples, Positions(2, 3, 4), workers)))
    assert str(error.value) == "sample 6 cannot be read; make it again"


def test_a_folder_in_use_is_refused_and_a_changed_recipe_does_not_resume(tmp_path, pretrained, pretrain_values):
    with pytest.raises(InputError, match="--resume"):
        pretrain.run(parse_recipe(pretrain_values, "test"), out=pretrained)
    changed = pretrain_values | {"batch_size": 5}
    with pytest.raises(InputError, match="differs from this recipe"):
        pretrain.run(parse_recipe(changed, "test"), out=pretrained, resume=True)


def test_what_the_recipe_cannot_mean_is_one_line_and_writes_nothing(
    tmp_path, pretrained, pretrain_values, finetune_values
):
    start = finetune_values | {"init": str(pretrained / "model")}
    wrong = {
        "model.width is 48": (finetune, start | {"model": {"width": 48}}),
        "model.config is tiny": (finetune, start | {"model": {"config": "tiny"}}),
        'kind of question in data.focus "coutn"; did you mean "count"': (
            finetune, start | {"data": {"focus": ["coutn"], "focus_texts": 1}}),
        'loss in weights "vqaa"; did you mean "vqa"': (finetune, start | {"weights": {"vqaa": 2.0}}),
        'loss in weights "mlmm.x"; did you mean "mlm"': (pretrain, pretrain_values | {"weights": {"mlmm.x": 2.0}}),
    }  # fmt: skip
    for message, (stage, values) in wrong.items():
        with pytest.raises(InputError, match=message):
            stage.run(parse_recipe(values, "test"), out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_validation_counts_the_last_pictures_too(tmp_path, finetune_values):
    values = finetune_values | {"steps": 1, "eval_samples": 3}  # of three questions each, and a batch is 64
    folder = finetune.run(parse_recipe(values, "test"), out=tmp_path / "few")
    (share,) = rows(folder, "val_accuracy").values()
    assert (9 * share) == pytest.approx(round(9 * share))
    assert in_order(5, 2) == [[0, 1], [2, 3], [4]]


def test_the_first_steps_give_the_losses_that_they_gave(tmp_path, pretrain_values):
    """Whoever changes what is learned sees it here; where that was the intention, the new numbers go into the file."""
    golden = json.loads((GOLDEN / "first_losses.json").read_text(encoding="utf-8"))
    losses = {name.split(".")[0]: {} for name in golden}
    folder = pretrain.run(parse_recipe(pretrain_values | {"losses": losses}, "test"), out=tmp_path / "run")
    found = {name: [round(value, 5) for value in rows(folder, name).values()] for name in golden}
    assert found == {name: pytest.approx(values, rel=2e-3) for name, values in golden.items()}


def test_the_wrong_stage_names_the_right_command(finetune_values, tmp_path):
    with pytest.raises(InputError, match="edgevl finetune"):
        pretrain.run(parse_recipe(finetune_values, "test"), out=tmp_path / "x")


def test_a_missing_pretrained_model_says_what_to_run(finetune_values, tmp_path):
    values = finetune_values | {"init": str(tmp_path / "nowhere")}
    with pytest.raises(InputError, match="edgevl pretrain"):
        finetune.run(parse_recipe(values, "test"), out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_half_written_checkpoint_is_not_one(pretrained):
    (newest := checkpoints.list_checkpoints(pretrained)[-1] / "state.json").unlink()
    assert newest.parent not in checkpoints.list_checkpoints(pretrained)


def test_positions_continue_where_they_stopped():
    assert [*Positions(2, 0, 4)][2:] == [*Positions(2, 2, 4)] == [[4, 5], [6, 7]]


def test_learning_rate_warms_up_and_ends_low(finetune_values):
    values = finetune_values | {"steps": 20, "optimizer": {"lr": 1.0, "warmup": 4, "final_lr": 0.1}}
    recipe = parse_recipe(values, "test")
    rates = [learning_rate(step, recipe, None) for step in range(20)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert (
        rates[4] == 1.0 and rates[-1] == pytest.approx(0.1, abs=0.01) and rates[4:] == sorted(rates[4:], reverse=True)
    )


def looks(*accuracies):
    return [{"step": 2.0 * (number + 1), "val_accuracy": each} for number, each in enumerate(accuracies)]


def test_a_run_ends_after_its_plateau_or_in_time_for_its_cooldown(finetune_values):
    plateau = {"window": 4, "gain": 0.01, "cooldown": 5}
    optimizer = {"lr": 1.0, "warmup": 2, "final_lr": 0.1}
    recipe = parse_recipe(
        finetune_values | {"steps": 40, "eval_every": 2, "optimizer": optimizer, "plateau": plateau}, "test"
    )
    for seen, start in [
        ([], 35),
        (looks(0.1, 0.2, 0.3), 35),
        (looks(0.1, 0.2, 0.3, 0.3, 0.305), 10),
        (looks(0.1, 0.3, 0.2, 0.25, 0.9), 8),  # what comes later does not move it
        (looks(*[0.02 * n for n in range(19)], 0.36), 35),
    ]:
        assert cooling(recipe, seen) == start and end_of(recipe, seen) == start + 5
    rates = [learning_rate(step, recipe, 10) for step in range(15)]
    assert rates == pytest.approx([0.5, *[1.0] * 9, 0.82, 0.64, 0.46, 0.28, 0.1])
    assert cooling(parse_recipe(finetune_values, "test"), looks(0.5, 0.5, 0.5, 0.5)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plateau": {"window": 4, "cooldown": 6}}, "plateau.cooldown is 6, of a run of 6 steps"),
        ({"plateau": {"window": 1, "cooldown": 2}}, "plateau.window is 1, shorter than eval_every, 2"),
        ({"plateau": {"window": 4, "cooldown": 2}, "task": "retrieval"}, "plateau looks at accuracy"),
        ({"plateau": {"windows": 4, "cooldown": 2}}, "window"),
    ],
)
def test_a_plateau_that_cannot_be_seen_is_refused(finetune_values, changes, message):
    with pytest.raises(InputError, match=message):
        parse_recipe(finetune_values | {"steps": 6, "eval_every": 2} | changes, "test")


def test_a_run_that_was_cut_in_its_cooldown_goes_on_as_one_never_cut(tmp_path, finetune_values):
    values = finetune_values | {"steps": 40, "eval_every": 1, "checkpoint_every": 1, "log_every": 1}
    recipe = parse_recipe(values | {"plateau": {"window": 2, "gain": 1.0, "cooldown": 3}}, "test")
    whole, cut = (finetune.run(recipe, out=tmp_path / name) for name in ("whole", "cut"))
    found = [json.loads(line) for line in (whole / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert found[-1]["step"] == 6, "seen at step 3, and three more"
    shutil.rmtree(cut / "checkpoint-00000006")
    shutil.rmtree(cut / "model")
    finetune.run(recipe, out=cut, resume=True)
    assert (cut / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()


def test_norms_biases_and_positions_are_not_decayed(pretrained):
    model = load_model(pretrained / "model").model
    decayed, kept = parameter_groups(model, 0.1)
    shapes = {id(p): name for name, p in model.named_parameters()}
    assert all("norm" not in shapes[id(p)] and "position" not in shapes[id(p)] for p in decayed["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(shapes)


def test_a_run_can_stop_before_its_schedule_ends(tmp_path, finetune_values):
    values = finetune_values | {"steps": 6, "stop_after": 3, "eval_samples": 0}
    stopped = finetune.run(parse_recipe(values, "test"), out=tmp_path / "stopped")
    whole = finetune.run(parse_recipe(values | {"stop_after": None}, "test"), out=tmp_path / "whole")
    assert rows(stopped, "lr") == {step: rate for step, rate in rows(whole, "lr").items() if step <= 3}


def test_focus_gives_its_kinds_most_of_the_questions():
    scenes, tokenizer = Scenes("train", size=64), Tokenizer.from_words(VOCABULARY)
    config = CONFIGS["nano"].replace(image_size=64)
    samples = VqaSamples(scenes, tokenizer, config, ANSWERS, texts=6, focus=["size"], focus_texts=3)
    small_or_large = {ANSWERS.index("small"), ANSWERS.index("large")}
    asked = [set(samples[i]["answers"][: len(scenes.scene(i).questions(3, ["size"]))]) for i in range(8)]
    assert any(asked) and all(answers <= small_or_large for answers in asked)
    assert samples[0]["questions"].shape == (6, config.text_length)


def test_damaged_pretrained_weights_are_one_line(pretrained, finetune_values, tmp_path):
    (pretrained / "model" / "model.safetensors").write_bytes(b"not weights" * 10**6)
    values = finetune_values | {"init": str(pretrained / "model")}
    with pytest.raises(InputError, match="not a readable safetensors file"):
        finetune.run(parse_recipe(values, "test"), out=tmp_path / "x")
