"""`edgevl domain …`, and what `edgevl predict` says of an answer that is not to be trusted."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from edgevl.domain import DOMAIN
from edgevl.models.checkpoint import EMBEDDED

QUESTION = "what color is the car?"


@pytest.fixture
def noise(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


def warnings(answer) -> list[str]:
    return [line for line in answer.err.splitlines() if line.startswith("warning: ")]


def test_predict_on_a_scene(edgevl):
    answer = edgevl("predict", "nano", "sample", QUESTION)
    assert answer.code == 0 and not warnings(answer)
    assert "over 99 % sure" in answer.out.splitlines()[0] and "not to be trusted" not in answer.out


def test_predict_on_something_else(edgevl, noise, onnx_bundle):
    for model in ("nano", onnx_bundle):
        answer = edgevl("predict", model, noise, QUESTION, "is there a dog?")
        assert answer.code == 0 and answer.out.count("not to be trusted") == 2 and "sure" not in answer.out
        picture, words = warnings(answer)
        assert "(Scenes: emoji pictures): the answer means nothing" in picture and '"dog"' in words


def test_predict_as_json(edgevl, noise):
    one = json.loads(edgevl("predict", "nano", "sample", QUESTION, "--json").out)
    assert list(one)[:3] == ["answer", "scores", "ms"]
    assert one["in_domain"] is True and one["confidence"] > 0.99 and one["domain_score"] < 1
    assert one["unknown_words"] == [] == one["notes"]
    several = json.loads(edgevl("predict", "nano", noise, QUESTION, "is there a dog?", "--json").out)
    assert [each["unknown_words"] for each in several["questions"]] == [[], ["dog"]]
    assert all(each["in_domain"] is False and each["confidence"] is None for each in several["questions"])


def test_fit(edgevl, tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    answer = edgevl("domain", "fit", folder, "--pictures", "200", "--questions", "200")
    assert answer.code == 0 and answer.out.strip() == str(folder / DOMAIN)
    again = edgevl("domain", "fit", folder, "--pictures", "200", "--questions", "200")
    assert again.code == 2 and "add --force" in again.errors[0]
    assert edgevl("domain", "fit", tmp_path / "none").code == 2
    few = edgevl("domain", "fit", folder, "--force", "--questions", "50")
    assert few.code == 2 and "at least 200" in few.errors[0]


def test_measure(edgevl, tiny_model, tmp_path):
    pytest.importorskip("skimage", reason='photographs come with pip install "edgevl[domain]"')
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    missing = edgevl("domain", "measure", folder)
    assert missing.code == 2 and "edgevl domain fit" in missing.errors[0]
    assert edgevl("domain", "fit", folder, "--pictures", "200", "--questions", "200").code == 0
    report = json.loads(edgevl("domain", "measure", folder, "--samples", "20", "--json").out)
    rates = {rate["name"]: rate for rate in report["pictures"]}
    assert rates["photographs and crops"]["count"] == 209 and rates["uniform noise"]["flagged"] > 0.9
    assert rates["photographs and crops"]["accuracy_trusted"] is None
    assert [row["caught"] for row in report["words"]] == [0, 1, 1, 1]
    assert len(report["calibration"]) == 4
    text = edgevl("domain", "measure", folder, "--samples", "20")
    assert "photographs and crops" in text.out and "other languages" in text.out


def test_measuring_names_the_package_that_is_missing(edgevl, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)  # as if it were not installed
    answer = edgevl("domain", "measure", "nano")
    assert answer.code == 3 and 'pip install "edgevl[domain]"' in answer.errors[0]


def test_a_file_that_is_no_domain_is_one_line(edgevl, tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    shutil.copy(EMBEDDED / DOMAIN, folder / DOMAIN)
    for command in (["predict", folder, "sample", QUESTION], ["export", folder, "--out", tmp_path / "x.edgevl"]):
        answer = edgevl(*command)
        assert answer.code == 2 and len(answer.errors) == 1 and "other weights" in answer.errors[0]
    assert not (tmp_path / "x.edgevl").exists()
