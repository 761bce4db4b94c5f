"""build_engine.py stands alone in every bundle: it finds the ONNX files of both schemas."""

import shutil
from pathlib import Path

from older_bundles import as_schema_1


def test_the_files_of_both_schemas_are_found(bundles, jetson, tmp_path):
    newer = bundles["tensorrt"]
    older = as_schema_1(Path(shutil.copytree(newer, tmp_path / "older.edgevl")))
    names = ["model/vision.onnx", "model/fusion.onnx"]
    assert [name for _, name, _ in jetson.build_engine.find_models(newer)] == names
    assert [name for _, name, _ in jetson.build_engine.find_models(older)] == names
    for file, name, listed in jetson.build_engine.find_models(newer):
        assert jetson.build_engine.read_model(file, name, listed)[1] == listed[1]


def test_one_file_of_schema_1_is_found(bundles, jetson, tmp_path):
    """Its manifest names the artifact beside an empty list of programs."""
    path = Path(shutil.copytree(bundles["older"], tmp_path / "single.edgevl"))
    text = (path / "manifest.json").read_text("utf-8")
    (path / "manifest.json").write_text(text.replace('"target": "onnx"', '"target": "tensorrt"'), "utf-8")
    assert [name for _, name, _ in jetson.build_engine.find_models(path)] == ["model.onnx"]
