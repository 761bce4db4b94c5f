"""The study as a grid: it resumes after a kill with the same numbers, a row runs alone, wrong names are one line."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import yaml

from edgevl.cli.app import main
from edgevl.errors import InputError
from edgevl.training import checkpoints
from edgevl.training.recipe import parse_recipe
from edgevl.training.study import costs, grid
from edgevl.training.study.arms import ABLATION, ARMS, LANGUAGE, MORE_LANGUAGE, SIDES
from edgevl.training.study.grid import run_study
from edgevl.training.study.jobs import Job, make_jobs, wanted_jobs
from edgevl.training.study.preset import PRESETS, Preset, detect_recipe, finetune_recipe, load_preset, pretrain_recipe
from edgevl.training.study.results import load_results

ROOT = Path(__file__).parents[2]


@pytest.fixture
def preset(tmp_path, pretrain_values):
    """Two arms that are fine-tuned for questions only: six rows, a second each."""
    run = {"data": {"texts": 2, "workers": 0}, "batch_size": 4, "log_every": 1, "checkpoint_every": 2}
    values = {
        "name": "tiny", "note": "a test", "seeds": [3], "arms": ["language_slow", "language_fast"],
        "model": pretrain_values["model"], "losses": {"itm": {"hard": 0.5}},
        "pretrain": run | {"steps": 4, "optimizer": {"warmup": 2}},
        "finetune": run | {"steps": 6, "eval_every": 3, "eval_samples": 64, "optimizer": {"warmup": 2}},
        "tasks": {"vqa": {}, "statement": {}, "retrieval": {"steps": 3}},
        "test_samples": 12, "retrieval_pictures": 12, "blind_scenes": 20, "timing_rounds": 1, "timing_steps": 2,
    }  # fmt: skip
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def result(path):
    return load_results(path)["runs"]


def test_a_killed_study_goes_on_and_ends_with_the_same_numbers(tmp_path, preset):
    whole = run_study(preset, tmp_path / "whole", only="language_slow")
    code = "import sys; from pathlib import Path; from edgevl.training.study.grid import run_study; "
    code += "run_study(sys.argv[1], Path(sys.argv[2]), only='language_slow')"
    cut = tmp_path / "cut"
    process = subprocess.Popen([sys.executable, "-c", code, str(preset), str(cut)], stderr=subprocess.DEVNULL)
    deadline, place = time.monotonic() + 300, cut / "language_slow" / "vqa" / "3"
    while not checkpoints.list_checkpoints(place):  # in the middle of the second row
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (cut / "language_slow" / "pretrain" / "3" / "result.json").is_file()
    assert not (place / "result.json").exists(), "the kill came too late to prove anything"
    assert result(run_study(preset, cut, only="language_slow")) == result(whole)
    assert not [*cut.rglob("checkpoint-*")], "checkpoints of finished rows go"


@pytest.mark.slow
def test_a_study_in_pieces_ends_with_the_same_numbers(tmp_path, preset):
    """Each piece is stopped wherever it is, and the next goes on in another folder from one file."""
    values = yaml.safe_load(preset.read_text(encoding="utf-8"))
    values["pretrain"]["steps"] = values["finetune"]["steps"] = 120  # several seconds each
    preset.write_text(yaml.safe_dump(values), encoding="utf-8")
    whole, tool = run_study(preset, tmp_path / "whole", only="language_slow"), ROOT / "tools" / "study_piece.py"
    command = [sys.executable, str(tool), "--preset", str(preset), "--only", "language_slow", "--seconds", "9"]
    source: list[str] = []
    last, pieces = None, 0
    while not last or "language_slow/vqa/3" not in last:
        (place := tmp_path / f"piece-{pieces}").mkdir()
        out = ["--out", str(tmp_path / f"out-{pieces}")]
        subprocess.run([*command, *out, *source], check=True, cwd=place, env=os.environ | {"PYTHONPATH": str(ROOT)})
        source = ["--from", str(tmp_path / f"out-{pieces}" / "study.tar")]
        results, pieces = tmp_path / f"out-{pieces}" / "results.json", pieces + 1
        last = result(results) if results.is_file() else None
        assert pieces < 12, "it does not get on"
    assert pieces > 1, "one piece was enough: this proves nothing"
    assert last == result(whole)


def test_a_piece_refuses_what_no_piece_has_left(tmp_path, preset, monkeypatch):
    archive = tmp_path / "study.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(preset, "../outside.yaml")
    monkeypatch.syspath_prepend(ROOT / "tools")
    from study_piece import unpack  # pyright: ignore[reportMissingImports]

    for source in (archive, preset, tmp_path / "missing.tar"):
        with pytest.raises(InputError, match="is not what a piece of a study left"):
            unpack(source, tmp_path / "folder")
    assert not (tmp_path / "outside.yaml").exists()


def test_a_row_runs_alone_with_what_it_needs_and_again(tmp_path, preset):
    folder, said = tmp_path / "study", []
    found = result(run_study(preset, folder, only="language_fast/vqa", note=said.append))
    assert set(found) == {"language_fast/pretrain/3", "language_fast/vqa/3"}
    assert found["language_fast/vqa/3"]["macs_per_step"] > 1e6
    model = folder / "language_fast" / "vqa" / "3" / "model" / "model.safetensors"
    before = model.stat().st_mtime_ns
    assert result(run_study(preset, folder, only="language_fast", note=said.append)) == found
    assert model.stat().st_mtime_ns == before and len(said) == 2
    assert result(run_study(preset, folder, only="language_fast/vqa/3", again=True, note=said.append)) == found
    assert model.stat().st_mtime_ns > before and len(said) == 3


def test_rows_of_another_machine_are_not_run_again(tmp_path, preset, capsys):
    """Its results go with the repository, its models do not: a row whose model is still needed is run anew."""
    done = run_study(preset, tmp_path / "there", only="language_slow")
    results, said = json.loads(done.read_text(encoding="utf-8")), []
    here = run_study(preset, tmp_path / "here", only="language_slow", taken=done, note=said.append)
    assert result(here) == results["runs"] and said == []
    del results["runs"]["language_slow/vqa/3"]
    (tmp_path / "cut.json").write_text(json.dumps(results), encoding="utf-8")
    again = run_study(preset, tmp_path / "again", only="language_slow", taken=tmp_path / "cut.json", note=said.append)
    assert len(said) == 2 and result(again) == load_results(done)["runs"]
    without = tmp_path / "here" / "language_slow"
    assert [path.name for path in (without / "pretrain" / "3").iterdir()] == ["result.json"]
    run_study(preset, tmp_path / "here", only="language_slow/vqa/3", again=True, note=said.append)
    assert said[2:] == ["1/6 language_slow/pretrain/3", "2/6 language_slow/vqa/3"]  # the model that it starts from, too
    published = results["runs"]["language_slow/pretrain/3"] | {"score": "as published"}
    (tmp_path / "cut.json").write_text(
        json.dumps(results | {"runs": {"language_slow/pretrain/3": published}}), encoding="utf-8"
    )
    kept = run_study(preset, tmp_path / "kept", only="language_slow", taken=tmp_path / "cut.json")
    assert result(kept)["language_slow/pretrain/3"] == published  # it was trained again for its model alone
    again = run_study(preset, tmp_path / "kept", only="language_slow/pretrain/3", again=True)
    assert "score" not in result(again)["language_slow/pretrain/3"]  # which --again is not
    results["preset"] |= {"arms": ["language_slow"], "note": "fewer arms"}  # a study may be widened later
    (tmp_path / "cut.json").write_text(json.dumps(results), encoding="utf-8")
    show = ["study", "--preset", str(preset), "--out", str(tmp_path / "none"), "--show", "--only", "language_slow"]
    assert main([*show, "--from", str(tmp_path / "cut.json")]) == 0
    shown = capsys.readouterr().out
    assert shown.count(" done ") == shown.count(" open ") == 1 and not (tmp_path / "none").exists()
    run_study(preset, tmp_path / "wider", only="once/blind", taken=tmp_path / "cut.json")
    results["preset"]["seeds"] = [4]
    (tmp_path / "other.json").write_text(json.dumps(results), encoding="utf-8")
    with pytest.raises(InputError, match="another preset"):
        run_study(preset, tmp_path / "new", taken=tmp_path / "other.json")
    assert not (tmp_path / "new").exists()


def test_a_row_that_another_process_trains_is_not_thrown_away(tmp_path, preset):
    job = next(job for job in make_jobs(load_preset(preset), tmp_path) if job.name == "once/blind/0")
    run_study(preset, tmp_path, only=job.name)
    with grid._mine(tmp_path, job), pytest.raises(InputError, match="another process is running once/blind/0"):
        run_study(preset, tmp_path, only=job.name, again=True)
    assert grid.is_done(tmp_path, job.name)


def test_nothing_runs_beside_what_measures_time(tmp_path):
    jobs = make_jobs(load_preset("quick"), tmp_path)
    assert {job.name for job in jobs if job.quiet} == {"once/speed/0", "once/latency/0"}
    speed, latency = (job for job in jobs if job.quiet)
    with grid._mine(tmp_path, speed) as mine, grid._mine(tmp_path, latency) as theirs:
        assert (mine, theirs) == (True, False)


def test_what_comes_first_comes_with_every_seed(tmp_path, preset):
    values = yaml.safe_load(preset.read_text(encoding="utf-8")) | {
        "seeds": [3, 4],
        "arms": ["object", "all", "map"],
        "first": ["all"],
    }
    preset.write_text(yaml.safe_dump(values), encoding="utf-8")
    order = [job.name for job in make_jobs(load_preset(preset), tmp_path) if "/pretrain/" in job.name]
    assert order == [f"{arm}/pretrain/{seed}" for arm, seed in
                     (("all", 3), ("all", 4), ("object", 3), ("map", 3), ("object", 4), ("map", 4))]  # fmt: skip
    made = load_preset(preset).model_dump(mode="json")
    preset.write_text(yaml.safe_dump(values | {"others": 1}), encoding="utf-8")
    order = [job.name for job in make_jobs(load_preset(preset), tmp_path) if "/pretrain/" in job.name]
    assert order == ["all/pretrain/3", "all/pretrain/4", "object/pretrain/3", "map/pretrain/3"]
    assert load_preset(preset).makes_rows_of(made), "fewer seeds of some change no row that is there"
    preset.write_text(yaml.safe_dump(values | {"first": ["region"]}), encoding="utf-8")
    with pytest.raises(InputError, match="region is not among the arms"):
        load_preset(preset)


def test_two_processes_do_not_run_the_same_row(tmp_path):
    first, second = (Job(name, lambda folder, progress: {}) for name in ("all/vqa/0", "all/vqa/1"))
    with (
        grid._mine(tmp_path, first) as mine,
        grid._mine(tmp_path, first) as theirs,
        grid._mine(tmp_path, second) as other,
    ):
        assert (mine, theirs, other) == (True, False, True)
    with grid._mine(tmp_path, first) as free:
        assert free


def test_wrong_names_are_one_line_and_exit_2(tmp_path, preset, capsys):
    values = yaml.safe_load(preset.read_text(encoding="utf-8"))
    for change in ({"arms": ["languag"]}, {"sedes": [1]}, {"seeds": []}, {"tasks": {"vqa": {}}}, {"pretrain": {}}):
        preset.write_text(yaml.safe_dump(values | change), encoding="utf-8")
        assert main(["study", "--preset", str(preset), "--out", str(tmp_path / "x")]) == 2
    assert main(["study", "--preset", "quik"]) == 2
    preset.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert main(["study", "--preset", str(preset), "--only", "language_fsat/vqa", "--out", str(tmp_path / "x")]) == 2
    assert main(["study", "--results", str(preset), "--publish", str(tmp_path / "x")]) == 2
    assert main(["study", "--results", str(preset)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 9 and all(line.startswith("error: ") for line in lines)
    assert '"language"' in lines[0] and "sedes" in lines[1] and '"quick"' in lines[5] and "language_fast" in lines[6]
    assert lines[3].endswith("tiny.yaml: tasks lacks retrieval") and lines[4].endswith("pretrain lacks batch_size")
    assert not (tmp_path / "x").exists()


def test_another_preset_does_not_go_on_in_the_same_folder(tmp_path, preset):
    run_study(preset, tmp_path / "study", only="once/blind")
    values = yaml.safe_load(preset.read_text(encoding="utf-8"))
    preset.write_text(yaml.safe_dump(values | {"arms": ["object"], "first": ["object"]}), encoding="utf-8")
    run_study(preset, tmp_path / "study", only="once/blind")
    assert yaml.safe_load((tmp_path / "study" / "preset.yaml").read_text(encoding="utf-8"))["arms"] == ["object"]
    preset.write_text(
        preset.read_text(encoding="utf-8").replace("blind_scenes: 20", "blind_scenes: 21"), encoding="utf-8"
    )
    with pytest.raises(InputError, match="another preset"):
        run_study(preset, tmp_path / "study")


@pytest.mark.parametrize("name", sorted({path.stem for path in PRESETS.glob("*.yaml")} - {"sprint"}))
def test_every_preset_makes_valid_recipes_and_treats_arms_alike(name, tmp_path):
    preset = load_preset(name)
    assert isinstance(preset, Preset)
    assert {*ABLATION, "all_10", "regions", "pseudo_labels"} <= {*preset.arms}
    jobs = make_jobs(preset, tmp_path)  # parses every recipe
    names = [job.name for job in jobs]
    assert len(names) == len({*names})
    assert all(names.index(need) < place for place, job in enumerate(jobs) for need in job.needs)
    base = pretrain_recipe(preset, "language", 1, tmp_path)
    assert set(base.losses) == {*LANGUAGE, *(loss for loss in MORE_LANGUAGE if loss in preset.losses)}
    for name in ABLATION:
        recipe = pretrain_recipe(preset, name, 1, tmp_path)
        assert set(recipe.losses) == {*base.losses, *ARMS[name].losses}
        alike = {"name": base.name, "losses": base.losses}
        assert recipe.model_copy(update=alike) == base
        tuned = [finetune_recipe(preset, arm, "vqa", 1, tmp_path) for arm in ("language", name)]
        assert tuned[1].model_copy(update={"name": tuned[0].name, "init": tuned[0].init}) == tuned[0]
    assert base.data.seed != tuned[0].data.seed, "fine-tuning sees other pictures than pretraining"
    apart = detect_recipe(preset, 1, ARMS["pseudo_labels"]).data.seed
    assert apart not in (base.data.seed, tuned[0].data.seed), "its labels are not those that it learned from"
    teacher = pretrain_recipe(preset, "detector_teacher", 1, tmp_path).losses["region_distillation"]["teacher"]
    assert teacher == str(tmp_path / "detector" / "detect_apart" / "1" / "model")
    short = pretrain_recipe(preset, "all_10", 1, tmp_path)
    assert (short.steps, short.optimizer.warmup) == (base.steps / 10, round(base.optimizer.warmup / 10))


def test_rows_are_chosen_by_whole_names(tmp_path):
    jobs = make_jobs(load_preset("quick"), tmp_path)
    assert {job.name.split("/")[0] for job in wanted_jobs(jobs, "all")} == {"all"}  # and not all_10
    needed = [job.name for job in wanted_jobs(jobs, "pseudo_labels/vqa/1")]
    assert needed == ["detector/detect_apart/1", "detector/labels/1", "pseudo_labels/pretrain/1", "pseudo_labels/vqa/1"]


def test_show_lists_every_row_and_runs_nothing(tmp_path, preset, capsys):
    assert main(["study", "--preset", str(preset), "--out", str(tmp_path / "study"), "--show"]) == 0
    assert capsys.readouterr().out.count(" open ") == 6
    assert main(["study", "--preset", str(preset), "--show", "--only", "once"]) == 0
    assert "once/blind/0" in (shown := capsys.readouterr().out) and shown.count(" open ") < 6
    assert main(["study", "--preset", str(preset), "--show", "--only", "onec"]) == 2
    assert 'unknown row of the study "onec"; did you mean "once' in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_results_of_another_version_are_refused(tmp_path):
    (tmp_path / "old.json").write_text(json.dumps({"schema": "edgevl.study/0"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"edgevl\.study/1"):
        load_results(tmp_path / "old.json")


@pytest.mark.slow
def test_arms_with_a_detector_run_and_are_shown(tmp_path, preset, detect_values):
    values = yaml.safe_load(preset.read_text(encoding="utf-8"))
    values |= {"arms": ["all", "regions", "pseudo_labels"], "detect": detect_values | {"steps": 6}, "label_score": 0.0}
    preset.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert main(["study", "--preset", str(preset), "--out", str(tmp_path / "study")]) == 0
    found = result(tmp_path / "study" / "results.json")
    assert found["detector/labels/3"]["boxes"] > 0 and found["detector/detect/3"]["training_macs"] > 0
    assert found["detector/detect_apart/3"]["training_macs"] > 0
    assert {f"regions/{task}/3" for task in ("vqa", "statement", "retrieval")} < set(found)
    assert found["regions/retrieval/3"]["macs_per_step"] > 1e6
    latency = load_results(tmp_path / "study" / "results.json")["timing"]["once/latency/0"]
    assert all(latency[scope]["ci95"][0] <= latency[scope]["ratio"] for scope in ("model", "pipeline"))
    assert latency["pipeline"]["p50_ms"]["all"] > latency["model"]["p50_ms"]["all"] > 0
    text = (tmp_path / "study" / "study.md").read_text(encoding="utf-8")
    assert "| region-feature model |" in text and "| all three, boxes of the detector |" in text


def test_a_run_whose_losses_begin_later_costs_the_mean_of_its_phases(monkeypatch):
    values = {
        "stage": "pretrain",
        "name": "p",
        "steps": 10,
        "losses": {"mlm": {"after": 4}, "words": {}, "itm": {"after": 8}},
    }
    recipe = parse_recipe(values, "test")
    found = [(round(share, 3), [*part.losses]) for share, part in costs.phases(recipe)]
    assert found == [(0.4, ["words"]), (0.4, ["mlm", "words"]), (0.2, ["mlm", "words", "itm"])]
    assert all(options["after"] == 0 for _, part in costs.phases(recipe) for options in part.losses.values())
    monkeypatch.setattr(costs, "_few_steps", lambda part, steps: 10.0 if len(part.losses) == 1 else 5.0)
    assert costs._rate(recipe, 3) == pytest.approx(1 / 0.16)
    assert [part for _, part in costs.phases(finetune_recipe(load_preset("quick"), "all", "vqa", 0, Path("x")))]


def test_the_sizes_of_the_opponent_have_detectors_and_times_of_their_own(tmp_path):
    preset = load_preset("plateau")
    assert isinstance(preset, Preset)
    jobs = {job.name: job for job in make_jobs(preset, tmp_path)}
    sides = [detect_recipe(preset, 0, ARMS[arm]).model["image_size"] for arm in SIDES]
    assert sides == [64, 80, 112] and preset.model["image_size"] == 80
    assert jobs["regions_112/pretrain/1"].needs == ("detector/detect_112/1",)
    assert jobs["once/latency_64/0"].needs == ("regions_64/vqa/0", "all/vqa/0")
    assert "regions_64/vqa/2" not in jobs and "regions/vqa/5" in jobs
    recipe = pretrain_recipe(preset, "regions_64", 0, tmp_path)
    assert recipe.detector == str(tmp_path / "detector" / "detect_64" / "0" / "model")
