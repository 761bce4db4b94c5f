"""Three commands from a table beside photos to a verified bundle, small: the whole one is tools/csv_line.py."""

import importlib.util
import json
from pathlib import Path

import pytest

from edgevl.bundle.folder import Bundle
from edgevl.bundle.golden import read_golden
from edgevl.cli import main
from edgevl.data import open_dataset
from edgevl.models.checkpoint import load_model

TOOL = Path(__file__).parents[2] / "tools" / "csv_line.py"
SMALL = "{config: nano, name: t, backbone: test_resnet, backbone_options: {}, image_size: 32, width: 32, depth: 1}"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("csv_line", TOOL)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_table_becomes_a_verified_bundle(tool, tmp_path, capsys):
    tool.write_photos(tmp_path, 30, 3)
    changes = ["init=null", f"model={SMALL}", "steps=4", "batch_size=4", "data.workers=0", "precision='no'"]
    printed = {}
    for name, arguments in tool.commands(tmp_path, changes).items():
        samples = ["--samples", "8"] if name == "verify" else []
        assert main([*arguments, *samples]) == 0, capsys.readouterr().err
        printed[name], said = capsys.readouterr()
        if name == "export":
            own = f"--checkpoint {tmp_path}/run/model --data {tmp_path}/data:test"
            assert f"next: edgevl verify {tmp_path}/photos.edgevl {own}\n" in said
    report, verified = json.loads(printed["import"]), json.loads(printed["verify"])
    assert {split: counts["pictures"] for split, counts in report["splits"].items()} == {
        "train": 24,
        "val": 3,
        "test": 3,
    }
    assert report["delimiter"] == "semicolon" and report["splits"]["test"]["questions"] == 9
    assert verified["accuracy"]["data"] == f"{tmp_path}/data:test" and verified["accuracy"]["samples"] == 8
    photos = open_dataset(f"{tmp_path}/data:val")
    own = {question.text for index in range(len(photos)) for question in photos[index].questions or ()}
    golden = read_golden(Bundle.open(tmp_path / "photos.edgevl"))
    assert {text for case in golden.cases for text in case.texts} <= own, "golden cases are of the user's own data"
    labels = load_model(tmp_path / "run/model").labels
    assert {"true", "false"} < {*labels} and not {*labels} & {"yes", "red", "large"}


def test_questions_are_asked_in_other_words(tool):
    question = tool.Question("color", "is the red car left of the blue one?", "red")
    assert tool.renamed(question) == ("is the crimson car left of the navy one?", "crimson")
    assert tool.renamed(tool.Question("exists", "is there a cat?", "yes")) == ("is there a cat?", "true")
