"""The sprint: one change of the recipe at a time, the same for every arm; a run ends where its accuracy is reached."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from killed_runs import rows  # pyright: ignore[reportMissingImports]
from safetensors.torch import load_file

from edgevl.cli.app import main
from edgevl.data.scenes import VOCABULARY, Scenes
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.training import finetune, pretrain
from edgevl.training.adapt import labels_for
from edgevl.training.checkpoints import list_checkpoints
from edgevl.training.data import make_samples
from edgevl.training.recipe import build_config, parse_recipe
from edgevl.training.study.grid import run_study
from edgevl.training.study.jobs import make_jobs
from edgevl.training.study.preset import Sprint, finetune_recipe, load_preset, pretrain_recipe
from edgevl.training.study.results import load_results
from edgevl.training.study.sprint_page import render

DOCS = Path(__file__).parents[2] / "docs"
MUON = {"name": "muon", "lr": 2e-3, "matrix_lr": 0.02, "warmup": 2, "clip_norm": 5.0}


@pytest.fixture
def values(pretrain_values):
    """Two changes on one arm and one seed: four rows, a second each."""
    run = {"data": {"texts": 2, "workers": 0}, "batch_size": 4, "log_every": 1, "checkpoint_every": 2}
    asked = {"data": run["data"] | {"kinds": ["exists", "what"]}, "stop_at": 0, "eval_every": 2, "eval_samples": 64}
    return {
        "name": "tiny", "note": "a test", "seeds": [3], "arms": ["language"], "data": "scenes16",
        "model": pretrain_values["model"], "losses": {"itm": {"hard": 0.5}},
        "pretrain": run | {"steps": 2, "optimizer": {"warmup": 2}},
        "finetune": run | asked | {"steps": 6, "optimizer": {"warmup": 2}},
        "changes": {
            "base": {"title": "nothing"},
            "muon": {"title": "Muon", "both": ["optimizer.name=muon"], "pretrain": ["losses.itm.hard=1"]},
            "more": {"title": "slower", "like": "muon", "finetune": ["optimizer.lr=1e-4"]},
        },
    }  # fmt: skip


def write(folder, values):
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def test_a_sprint_ends_at_its_accuracy_and_says_what_has_not_run(tmp_path, values, monkeypatch):
    monkeypatch.setattr("edgevl.training.study.evaluate.SPRINT_SAMPLES", 12)
    path, said = write(tmp_path, values), []
    results = run_study(path, tmp_path / "sprint", only="muon", note=said.append)
    found = load_results(results)["runs"]
    assert set(found) == {"muon/language/pretrain/3", "muon/language/vqa/3"} and len(said) == 2
    assert found["muon/language/vqa/3"]["steps"] == 2, "0 % is there at the first look, of six steps"
    assert set(found["muon/language/vqa/3"]["per_kind"]) <= {"exists", "what"}
    assert 0.3 < found["muon/language/pretrain/3"]["losses"]["itm"] < 2
    assert main(["study", "--results", str(results), "--publish", str(tmp_path / "docs")]) == 0
    page = (tmp_path / "docs" / "study-sprint.md").read_text(encoding="utf-8")
    assert "| Muon | 4 (" in page and "| nothing | not run yet |" in page
    assert "| `more`: slower | as `muon`; fine-tuning: `optimizer.lr=1e-4` |" in page
    assert (tmp_path / "docs" / "study-sprint.json").read_bytes() == results.read_bytes()
    whole = load_results(results)
    whole["preset"]["finetune"]["stop_at"] = 0.9
    row = whole["runs"]["muon/language/vqa/3"]
    row["curve"], row["steps"] = [[2, 0.5], [4, 0.8], [6, 1.0]], 6
    assert "| Muon | 7 (" in render(whole), "two of pretraining, and between 4 and 6"
    row["curve"] = [[2, 0.5], [4, 0.85], [6, 0.8]]
    assert "| Muon | not in 8 (" in render(whole) and " s): 85 % |" in render(whole)


def test_the_published_page_is_that_of_its_results_and_of_todays_preset():
    results = load_results(DOCS / "study-sprint.json")
    assert render(results) == (DOCS / "study-sprint.md").read_text(encoding="utf-8")
    assert load_preset("sprint").makes_rows_of(results["preset"])


def test_changes_may_be_added_and_not_altered(tmp_path, values, monkeypatch):
    monkeypatch.setattr("edgevl.training.study.evaluate.SPRINT_SAMPLES", 12)
    run_study(write(tmp_path, values), tmp_path / "sprint", only="base")
    changes, said = values["changes"], []
    values["changes"] = {"base": changes["base"] | {"title": "as it was"}, "new": {"title": "new"}}
    run_study(write(tmp_path, values), tmp_path / "sprint", only="base", note=said.append)
    assert said == []
    values["changes"] = {"base": {"title": "nothing", "both": ["optimizer.lr=1"]}}
    with pytest.raises(InputError, match="another preset"):
        run_study(write(tmp_path, values), tmp_path / "sprint")
    (tmp_path / "sprint" / "preset.yaml").write_text("changes: [1]", encoding="utf-8")
    with pytest.raises(InputError, match="another preset"):
        run_study(write(tmp_path, values), tmp_path / "sprint")


def test_a_change_is_the_same_for_every_arm_and_for_no_other_change(tmp_path):
    preset = load_preset("sprint")
    assert isinstance(preset, Sprint)
    before = preset.model_dump()
    jobs = make_jobs(preset, tmp_path)  # parses every recipe
    assert len(jobs) == 2 * len(preset.changes) * len(preset.arms) * len(preset.seeds)
    assert preset.model_dump() == before, "an override of one change is in the next"
    plain, ours = (pretrain_recipe(preset, arm, 1, tmp_path) for arm in ("language", "all"))
    assert plain.model_copy(update={"name": ours.name, "losses": ours.losses}) == ours
    for name in preset.changes:
        made = {
            arm: (
                pretrain_recipe(preset, arm, 1, tmp_path, preset.overrides(name, "pretrain")),
                finetune_recipe(preset, arm, "vqa", 1, tmp_path, preset.overrides(name, "finetune")),
            )
            for arm in ("language", "all")
        }
        for language, both in zip(*made.values(), strict=True):
            alike = {key: getattr(both, key) for key in ("name", "losses", "init")}
            assert language.model_copy(update=alike) == both
            shared = language.losses.keys() & both.losses.keys()
            assert all(language.losses[loss] == both.losses[loss] for loss in shared)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"changes": {"a": {"title": "x", "like": "b"}, "b": {"title": "y"}}}, "like b is no change before it"),
        ({"arms": ["regions"]}, "the arm regions needs a detector"),
        ({"finetune": {"steps": 4}}, "finetune needs stop_at, eval_every and data.kinds"),
        ({"changes": {"a": {"title": "x", "both": ["optimizer.rate=1"]}}}, "unknown key in optimizer"),
    ],
)
def test_a_wrong_sprint_is_one_line(tmp_path, values, change, said):
    with pytest.raises(InputError, match=said):
        run_study(write(tmp_path, values | change), tmp_path / "sprint")


def test_only_the_kinds_that_are_named_are_asked(finetune_values):
    finetune_values["data"] |= {"kinds": ["size"], "texts": 2}
    recipe, scenes = parse_recipe(finetune_values, "test"), Scenes("val", size=64)
    tokenizer, labels = Tokenizer.from_words(VOCABULARY), labels_for(scenes, "vqa")
    for training in (True, False):
        samples = make_samples(
            recipe, scenes, tokenizer, build_config(recipe, tokenizer, 160), labels, training=training
        )
        able = [index for index in range(12) if scenes.scene(index).questions(1, ["size"])]
        asked = {labels[answer] for index in able for answer in samples[index]["answers"]}
        assert asked == {"small", "large"}


def test_a_run_that_has_come_to_its_accuracy_trains_no_further_when_it_is_resumed(tmp_path, finetune_values):
    recipe = parse_recipe(finetune_values | {"eval_every": 2, "stop_at": 0}, "test")
    folder = finetune.run(recipe, out=tmp_path / "run")
    assert list(rows(folder, "val_accuracy")) == [2] and list(rows(folder, "lr")) == [1, 2]
    before = (folder / "metrics.jsonl").read_bytes()
    (folder / "model" / "training.json").unlink()  # killed between the last checkpoint and the model
    finetune.run(recipe, out=folder, resume=True)
    assert (folder / "metrics.jsonl").read_bytes() == before and (folder / "model" / "training.json").is_file()


def test_processor_seconds_go_on_where_a_run_was_cut(tmp_path, finetune_values):
    folder = finetune.run(parse_recipe(finetune_values, "test"), out=tmp_path / "run")
    spent = [*rows(folder, "processor_seconds").values()]
    assert spent == sorted(spent) and spent[-1] > 0.01
    line = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    halved = [json.dumps(json.loads(each) | {"processor_seconds": 1000.0}) for each in lines if '"step": 6' not in each]
    (folder / "metrics.jsonl").write_text("\n".join(halved) + "\n", encoding="utf-8")
    for checkpoint in folder.glob("checkpoint-00000006"):
        checkpoint.rename(folder / "aside")
    finetune.run(parse_recipe(finetune_values, "test"), out=folder, resume=True)
    assert rows(folder, "processor_seconds")[6] > 1000 > line["processor_seconds"]


@pytest.mark.parametrize("stage", [pretrain, finetune], ids=["pretrain", "finetune"])
def test_with_muon_a_run_that_was_cut_goes_on_as_one_never_cut(stage, tmp_path, pretrain_values, finetune_values):
    values = pretrain_values if stage is pretrain else finetune_values
    recipe = parse_recipe(values | {"optimizer": MUON}, "test")

    def cut(done, total, text):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.run(recipe, out=tmp_path / "cut", progress=cut)
    runs = stage.run(recipe, out=tmp_path / "cut", resume=True), stage.run(recipe, out=tmp_path / "whole")
    assert rows(runs[0], "loss") == rows(runs[1], "loss")
    resumed, whole = (load_file(list_checkpoints(run)[-1] / "model.safetensors") for run in runs)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
