"""Split bundles and larger batches: the same answers as a single artifact of batch 1, and one encoding per picture."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgevl.bundle.folder import Bundle
from edgevl.bundle.specs import ValueSource
from edgevl.bundle_export import export_bundle
from edgevl.cli import main
from edgevl.errors import VerificationFailed
from edgevl.predict import Answerer
from edgevl.verify.run import verify_bundle

QUESTIONS = ["what color is the car?", "how many animals are there?", "is there a dog?"]


@pytest.fixture(scope="module")
def bundles(tiny_model) -> dict[str, Path]:
    folder = tiny_model.parent
    return {
        "single": export_bundle(tiny_model, "onnx", out=folder / "layout-single.edgevl"),
        "split": export_bundle(tiny_model, "onnx", out=folder / "layout-split.edgevl", layout="split"),
        "batch": export_bundle(tiny_model, "onnx", out=folder / "layout-batch.edgevl", batch=3),
        "split-coreml": export_bundle(tiny_model, "coreml", out=folder / "layout-split-coreml.edgevl", layout="split"),
    }


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (50, 70, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["split", "batch", "split-coreml"])
def test_it_verifies(bundles, kind):
    report = verify_bundle(bundles[kind], samples=16, write=False)  # 16 is no multiple of the batch of 3
    assert report.ok, report.audit.problems
    assert report.parity and report.parity.samples == 16 and report.golden and report.golden.passed == 6


@pytest.mark.parametrize("kind", ["split", "batch"])
def test_the_same_answers_as_single(bundles, picture, kind):
    one, other = Answerer.load(bundles["single"]), Answerer.load(bundles[kind])
    for a, b in zip(one.answer_all(picture, QUESTIONS), other.answer_all(picture, QUESTIONS)):
        assert a.answer == b.answer
        assert [label for label, _ in a.scores] == [label for label, _ in b.scores]
        np.testing.assert_allclose([p for _, p in a.scores], [p for _, p in b.scores], rtol=1e-4)


def test_a_picture_is_encoded_once(bundles, picture):
    answerer = Answerer.load(bundles["split"])
    answerer.answer_all(picture, QUESTIONS)
    assert answerer.model.runner and answerer.model.runner.calls == {"vision": 1, "fusion": 3}


def test_each_half_carries_its_own_weights_only(bundles):
    whole = (bundles["single"] / "model.onnx").stat().st_size
    halves = [(bundles["split"] / f"model/{part}.onnx").stat().st_size for part in ("vision", "fusion")]
    assert sum(halves) < 1.1 * whole and min(halves) > 0.05 * whole


def test_the_manifest_describes_both(bundles):
    manifest = Bundle.open(bundles["split"]).manifest
    assert (manifest.layout, manifest.artifact) == ("split", "model")
    vision, fusion = manifest.programs
    assert (vision.artifact, fusion.artifact) == ("model/vision.onnx", "model/fusion.onnx")
    (visual,), source = vision.outputs, fusion.inputs[0].source
    assert isinstance(source, ValueSource)
    assert (source.name, source.texts) == (visual.name, ()) and fusion.outputs == manifest.outputs
    assert [spec.name for spec in manifest.inputs] == ["image", "input_ids"]
    assert Bundle.open(bundles["batch"]).manifest.batch == 3


def test_halves_of_different_models_are_refused(bundles, tiny_model, tmp_path):
    import shutil

    path = Path(shutil.copytree(bundles["split"], tmp_path / "x.edgevl"))
    shutil.copy(path / "model/fusion.onnx", path / "model/vision.onnx")
    with pytest.raises(VerificationFailed, match="image is missing"):
        Bundle.open(path).opened()


def test_names_of_bundles(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert export_bundle(tiny_model, "onnx", layout="split", batch=2).name == "tiny-test-onnx-fp32-split-b2.edgevl"
    newer = export_bundle(tiny_model, "coreml", options={"deployment_target": "iOS18"})
    assert newer.name == "tiny-test-coreml-fp16-iOS18.edgevl"
    assert Bundle.open(newer).manifest.options["deployment_target"] == "iOS18"


def test_several_questions_on_the_command_line(bundles, picture, tmp_path, capsys):
    from PIL import Image

    Image.fromarray(picture).save(tmp_path / "p.png")
    assert main(["predict", str(bundles["split"]), str(tmp_path / "p.png"), *QUESTIONS, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [each["question"] for each in values["questions"]] == QUESTIONS
    assert values["answer"] == values["questions"][0]["answer"] and values.keys() >= {"answer", "scores", "ms"}
    assert main(["predict", str(bundles["single"]), str(tmp_path / "p.png"), QUESTIONS[0], "--json"]) == 0
    assert "questions" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (["--layout", "splt"], 'unknown layout "splt"; did you mean "split"?'),
        (["--target", "coreml", "--batch", "2"], "takes a batch of at most 1"),
        (["--target", "onnx", "--deployment-target", "iOS17"], "has no option deployment-target"),
        (["--target", "engin"], 'did you mean "engine", which is tensorrt?'),
    ],
)
def test_mistakes(options, fragment, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", *options]) == 2
    assert fragment in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_the_second_question_costs_at_most_sixty_percent(tmp_path):
    """Of the embedded model, in multiply-adds: no busy machine changes them. `tools/split_cost.py` takes the time."""
    from edgevl.verify.audit import read_contents

    bundle = Bundle.open(export_bundle(None, "onnx", out=tmp_path / "nano.edgevl", layout="split"))
    macs = {name: sum(contents.macs.values()) for name, contents in read_contents(bundle).items()}
    vision, fusion = macs["model/vision.onnx"], macs["model/fusion.onnx"]
    assert vision > 0 and 0 < fusion <= 0.6 * (vision + fusion)
