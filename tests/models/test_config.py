"""config.json of a model folder: what is nonsense is one line before a model of that size is made."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgevl.apps.jetson.conventions import MAX_PARAMETERS
from edgevl.config import CONFIGS, ModelConfig
from edgevl.errors import InputError
from edgevl.export.family import FAMILY
from edgevl.models.checkpoint import EMBEDDED, load_model
from edgevl.regions.detector import DetectorConfig
from edgevl.regions.model import RegionModelConfig

WRONG = {
    "width of 10^9": ({"width": 10**9}, "width is 1000000000: it must be a whole number from 1 to 16384"),
    "depth of 10^7": ({"depth": 10**7}, "depth is 10000000: it must be a whole number from 1 to 256"),
    "no depth": ({"depth": 0}, "depth is 0"),
    "a width in quotes": ({"width": "128"}, "width is '128': it must be a whole number"),
    "half a width": ({"width": 128.5}, "width is 128.5"),
    "heads that are true": ({"heads": True}, "heads is True"),
    "a name with a blank": ({"name": "my model"}, "the model's name is 'my model': a name has 1 to 64"),
    "a name with a slash": ({"name": "a/b"}, "the model's name"),
    "a name in other letters": ({"name": "größe"}, "the model's name"),
    "a backbone that is a number": ({"backbone": 3}, "backbone is 3: it must be text"),
    "a mean of two": ({"mean": [0.5, 0.5]}, "mean must be three numbers"),
    "a mean of text": ({"mean": ["a", "b", "c"]}, "mean is 'a'"),
    "a deviation of nothing": ({"std": [0, 0.2, 0.2]}, "std is 0"),
    "options in a list": ({"backbone_options": [1]}, "backbone_options must be a mapping"),
    "weights from elsewhere": ({"backbone_options": {"checkpoint_path": "x.pth"}}, "holds checkpoint_path"),
    "an option of 10^9": ({"backbone_options": {"stem_width": 10**9}}, "backbone_options.stem_width is 1000000000"),
    "an option that timm lacks": ({"backbone_options": {"stem": {"a": 1}}}, "timm cannot make resnet10t"),
    "a map that timm lacks": ({"out_index": 9}, "timm cannot make resnet10t"),
    "a grid without end": ({"image_size": 4096, "stride": 1}, "make 4096 visual tokens along a side"),
    "sizes that multiply": ({"width": 16384, "depth": 256, "heads": 1}, "parameters, at most 1,073,741,824"),
    "more words than weights": ({"vocab_size": 10**6}, "too few for the"),
    "more width than weights": ({"width": 4096, "heads": 1}, "too few for the"),
}


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(EMBEDDED, tmp_path / "model"))


@pytest.mark.parametrize("name", WRONG)
def test_a_config_that_is_nonsense_is_one_line(name, folder):
    changes, message = WRONG[name]
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(values | changes), encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_model(folder)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2], "a label is 1: it must be text"),
        (["a", None], "a label is None"),
        ({"a": 1}, "must hold a JSON array"),
        (["a"], "1 labels"),
    ],
)
def test_labels_that_are_no_texts_are_one_line(labels, message, folder):
    (folder / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "labels.json", "tokenizer.json"])
def test_deep_json_in_a_model_folder_is_one_line(name, folder):
    (folder / name).write_text("[" * 10**5, encoding="utf-8")
    with pytest.raises(InputError, match=name):
        load_model(folder)


def test_deep_json_in_the_record_of_training_is_one_line(folder):
    (folder / "training.json").write_text("[" * 10**5, encoding="utf-8")
    with pytest.raises(InputError, match=r"training\.json is not readable JSON"):
        _ = load_model(folder).training


def test_every_size_that_is_ours_is_within_the_ranges():
    for config in (*CONFIGS.values(), *FAMILY.values()):
        assert 0 < config.parameters < MAX_PARAMETERS / 8
        assert ModelConfig.from_dict(config.to_dict()) == config


def test_the_parameters_are_those_of_the_model():
    loaded = load_model()
    own = [value.numel() for name, value in loaded.model.named_parameters() if "vision.backbone" not in name]
    assert loaded.config.parameters == pytest.approx(sum(own), rel=0.1)
    assert loaded.config.parameters < sum(own), "the bound of check_size must be below what a file holds"


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (DetectorConfig, {"name": "../x"}, "the detector's name"),
        (DetectorConfig, {"proposals": 10**9}, "proposals is 1000000000"),
        (DetectorConfig, {"levels": (1,)}, "levels"),
        (DetectorConfig, {"anchors": ((0.1,), (float("nan"),))}, "anchors"),
        (DetectorConfig, {"classes": "cat"}, "classes must be a list"),
        (DetectorConfig, {"attributes": {"color": (1,)}}, "color is 1"),
        (RegionModelConfig, {"feature_width": 10**9}, "feature_width"),
        (RegionModelConfig, {"detector": 3}, "detector is 3"),
        (RegionModelConfig, {"width": 10**9}, "width"),
    ],
)
def test_the_configs_beside_it_have_ranges_too(kind, changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(kind(), **changes)


def test_labels_are_utf_8_in_every_locale(folder, tmp_path):
    """The locale is ASCII: what a file says in another encoding would be wrong, or end the program."""
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    labels[0], labels[1] = "rouge foncé", "赤"
    (folder / "labels.json").write_text(json.dumps(labels, ensure_ascii=False), encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from edgevl.models.checkpoint import load_model, save_model\n"
        "loaded = load_model(sys.argv[1])\n"
        "save_model(Path(sys.argv[2]), loaded.model, loaded.tokenizer, loaded.labels)"
    )
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run_python(code, environment, folder, tmp_path / "copy")
    assert load_model(tmp_path / "copy").labels == labels


def run_python(code: str, environment: dict[str, str], *arguments: Path) -> None:
    import os

    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=os.environ | environment)
    assert done.returncode == 0, done.stderr
