"""What a command says to run next can be pasted, whatever the folder is called: quoting is in one place."""

import ast
import json
import shlex
from pathlib import Path

import pytest

from edgevl.cli import main

ROOT = Path(__file__).parents[2]
PLACE = "run a ü $HOME"


def test_no_command_is_put_together_as_a_text():
    """`next_commands` takes lists of words, so that nothing can be left unquoted."""
    calls = [
        (path.name, argument)
        for path in (ROOT / "edgevl" / "cli").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("next_commands")
        for argument in node.args
    ]
    assert len(calls) > 20
    assert not [(name, ast.unparse(each)) for name, each in calls if isinstance(each, ast.Constant | ast.JoinedStr)]


STAGES = {
    "pretrain": (("pretrain", "pretrain_scenes_nano"), "edgevl.training.pretrain.run", f"init={PLACE}/model"),
    "finetune": (("finetune", "finetune_scenes_nano"), "edgevl.training.finetune.run", f"{PLACE}/model"),
    "distill": (("distill", "distill_scenes_nano"), "edgevl.training.distill.run", f"{PLACE}/model"),
    "detector": (("data", "detector", "detect_scenes"), "edgevl.training.detect.run", f"{PLACE}/model"),
}


@pytest.fixture
def run_folder(tmp_path, monkeypatch) -> Path:
    """A finished run in a folder whose name has blanks, other letters and what a shell would replace."""
    monkeypatch.chdir(tmp_path)
    folder = Path(PLACE)
    folder.mkdir()
    rows = [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 1.25}, {"step": 2, "val_accuracy": 0.5}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def next_words(err: str) -> list[list[str]]:
    return [shlex.split(line.removeprefix("next: ")) for line in err.splitlines() if line.startswith("next: ")]


@pytest.mark.parametrize("stage", STAGES)
def test_after_training(stage, run_folder, monkeypatch, capsys):
    words, function, wanted = STAGES[stage]
    monkeypatch.setattr(function, lambda *_, **options: run_folder)  # what is said afterwards, not the training
    assert main([*words, "--out", PLACE]) == 0
    out, err = capsys.readouterr()
    assert out == f"{PLACE}\n" and "2 steps: loss 1.25, val_accuracy 0.5\n" in err
    assert wanted in next_words(err)[0]


def test_after_training_a_dual_encoder(run_folder, monkeypatch, capsys):
    monkeypatch.setattr("edgevl.training.finetune.run", lambda *_, **options: run_folder)
    (run_folder / "model").mkdir()
    (run_folder / "model" / "config.json").write_text('{"kind": "dual_encoder"}', encoding="utf-8")
    assert main(["finetune", "retrieval_scenes_nano", "--out", PLACE]) == 0
    first = next_words(capsys.readouterr().err)[0]
    assert first == ["edgevl", "search", "photos", "a red car", "--model", f"{PLACE}/model"]


def test_after_an_interrupted_training_the_very_line_is_given(run_folder, monkeypatch, capsys):
    def interrupted(*_, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("edgevl.training.finetune.run", interrupted)
    assert main(["finetune", "finetune_scenes_nano", "steps=5", "--out", PLACE]) == 130
    again = ["edgevl", "finetune", "finetune_scenes_nano", "steps=5", "--out", PLACE, "--resume"]
    assert next_words(capsys.readouterr().err) == [again]


def test_after_writing_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "scenes", "--count", "2", "--out", PLACE]) == 0
    (shown, _) = next_words(capsys.readouterr().err)
    assert shown[:3] == ["python", "-m", "webbrowser"] and shown[3].startswith("file://")
    monkeypatch.setattr("edgevl.regions.detector.load_detector", lambda folder: None)
    monkeypatch.setattr("edgevl.data.annotations.annotate", lambda *_: None)
    assert main(["data", "annotate", "scenes:train", "--detector", "x", "--out", f"{PLACE}.jsonl"]) == 0
    assert next_words(capsys.readouterr().err)[0][-1] == f"data.annotations={PLACE}.jsonl"


def test_of_a_study(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["study", "--show", "--out", PLACE]) == 0
    assert next_words(capsys.readouterr().err) == [["edgevl", "study", "--preset", "quick", "--out", PLACE]]


def test_of_a_bundle(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(tiny_model), "--out", f"{PLACE}.edgevl"]) == 0
    verify, inspect = next_words(capsys.readouterr().err)
    assert verify == ["edgevl", "verify", f"{PLACE}.edgevl", "--checkpoint", str(tiny_model)]
    assert inspect == ["edgevl", "inspect", f"{PLACE}.edgevl"]
