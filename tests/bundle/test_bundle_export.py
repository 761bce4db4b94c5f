"""export: what a bundle holds, and that the same model gives the same bytes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgevl.bundle.card import render_card
from edgevl.bundle.folder import Bundle, list_files
from edgevl.bundle.golden import pixels_sha256, read_golden
from edgevl.bundle_export import export_bundle
from edgevl.errors import InputError
from edgevl.inputs.preprocess import load_image, to_pixels
from edgevl.models.checkpoint import load_model


@pytest.mark.parametrize(
    "target,precision,artifact", [("onnx", "fp32", "model.onnx"), ("coreml", "fp16", "model.mlpackage")]
)
def test_what_a_bundle_holds(exported, tiny_model, target, precision, artifact):
    path = exported[target]
    manifest = Bundle.open(path).manifest
    assert (manifest.target, manifest.precision, manifest.artifact) == (target, precision, artifact)
    assert {"tokenizer.json", "labels.json", "golden.json", "README.md"} <= manifest.files.keys()
    assert manifest.parity is manifest.accuracy is manifest.audit is manifest.bench is None
    loaded = load_model(tiny_model)
    assert (
        manifest.provenance.model == json.loads(json.dumps(loaded.config.to_dict()))
        and manifest.provenance.checkpoint_sha256 == loaded.sha256
    )
    assert manifest.provenance.checkpoint == "tiny-test"
    assert Bundle.open(path).labels() == loaded.labels
    assert {"edgevl", "torch", "python"} <= manifest.versions.keys()


def test_nothing_names_the_machine(exported, tiny_model):
    for path in exported.values():
        for name in list_files(path):
            data = (path / name).read_bytes()
            assert str(tiny_model.parent).encode() not in data, name


def test_the_same_model_gives_the_same_bundle(exported, tiny_model, tmp_path):
    for target, path in exported.items():
        again = export_bundle(tiny_model, target, out=tmp_path / f"{target}.edgevl")
        assert list_files(again) == list_files(path)
        assert (again / "manifest.json").read_bytes() == (path / "manifest.json").read_bytes()


def test_golden_cases(exported, tiny_model):
    loaded = load_model(tiny_model)
    for path in exported.values():
        golden = read_golden(Bundle.open(path))
        assert 4 <= len(golden.cases) <= 8
        shapes = {Image.open(path / case.pictures[0]).size for case in golden.cases}
        assert any(width > height for width, height in shapes) and any(height > width for width, height in shapes)
        for case in golden.cases:
            pixels = to_pixels(load_image(path / case.pictures[0]), loaded.config.image_size)
            assert case.pixels_sha256 == {"main": (pixels_sha256(pixels),)}
            assert (loaded.labels[int(np.argmax(case.values["logits"].array()))],) == case.result
        assert len({case.texts for case in golden.cases}) >= 4


def test_default_name_and_progress(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    path = export_bundle(tiny_model, progress=lambda *step: seen.append(step))
    assert str(path) == "tiny-test-onnx-fp32.edgevl" and path.is_dir()
    assert [step[0] for step in seen] == list(range(8)) and {step[1] for step in seen} == {7}
    assert [step[2] for step in seen][3:5] == ["capturing the program", "converting to onnx fp32"]
    with pytest.raises(InputError, match="--force"):
        export_bundle(tiny_model)


def test_bad_arguments(tiny_model, tmp_path):
    bad: list[tuple[dict[str, Any], str]] = [
        ({"target": "coremll"}, "coreml"),
        ({"target": "onnx", "precision": "fp23"}, "fp32"),
        ({"model": tmp_path / "none"}, "no model folder"),
        ({"out": tmp_path}, "not a bundle"),
    ]
    (tmp_path / "note.txt").write_text("x", encoding="utf-8")
    for options, word in bad:
        with pytest.raises(InputError, match=word):
            export_bundle(**{"model": tiny_model, **options})
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_the_card_is_made_from_the_manifest(exported):
    for path in exported.values():
        manifest = Bundle.open(path).manifest
        card = (path / "README.md").read_text(encoding="utf-8")
        assert card == render_card(manifest)
        assert "not measured yet" in card and manifest.license in card and "\n\n\n" not in card
        for line in card.splitlines():
            assert "None" not in line and "{{" not in line


def test_golden_json_is_readable_by_other_languages(exported):
    for path in exported.values():
        values = json.loads((path / "golden.json").read_text(encoding="utf-8"))
        assert values["schema_version"] == 2 and values["tolerance"]["logits"] > 0
        for case in values["cases"]:
            assert set(case) == {"pictures", "texts", "pixels_sha256", "input_ids", "values", "result", "margins"}
            assert set(case["values"]["logits"]) == {"shape", "data"}
            assert all(abs(logit) < 1e4 for logit in case["values"]["logits"]["data"])


def test_the_license_is_that_of_the_weights(tiny_model, tmp_path):
    assert Bundle.open(export_bundle(tiny_model, out=tmp_path / "own.edgevl")).manifest.license == "not stated"
    stated = export_bundle(tiny_model, out=tmp_path / "mit.edgevl", license="MIT")
    assert Bundle.open(stated).manifest.license == "MIT" and "license MIT" in (stated / "README.md").read_text(
        encoding="utf-8"
    )
    assert Bundle.open(export_bundle(out=tmp_path / "nano.edgevl")).manifest.license == "Apache-2.0"


def test_what_was_trained_for_another_task_is_refused(tiny_model, tmp_path):
    """It would be scored as a model that answers questions."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "ranker"))
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "task": "retrieval"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"was trained for retrieval, and a model of its kind is exported for vqa or"):
        export_bundle(model, out=tmp_path / "x.edgevl")
    assert [path.name for path in tmp_path.iterdir()] == ["ranker"]
