"""`edgevl search` on the command line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from edgevl.config import DualEncoderConfig
from edgevl.data import open_dataset
from edgevl.data.scenes import VOCABULARY
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import DualEncoder
from edgevl.models.checkpoint import save_dual_encoder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = DualEncoderConfig(
        backbone="test_resnet", backbone_options={}, image_size=32, width=32, heads=2, depth=1, embedding=16
    )
    torch.manual_seed(0)
    return save_dual_encoder(tmp_path_factory.mktemp("dual"), DualEncoder(config), Tokenizer.from_words(VOCABULARY))


@pytest.fixture
def photos(tmp_path):
    for name in ("red", "green", "blue"):
        Image.new("RGB", (20, 20), name).save(tmp_path / f"{name} [b].png")
    return tmp_path


def test_search_prints_pictures_and_json(edgevl, photos, model):
    answer = edgevl("search", photos, "a red car", "a blue car", "--model", model, "--top", "2", "--json")
    assert answer.code == 0, answer.err
    data = json.loads(answer.out)
    assert (data["pictures"], data["embedded"], len(data["queries"])) == (3, 3, 2)
    assert [len(query["found"]) for query in data["queries"]] == [2, 2]
    text = edgevl("search", photos, "a car left of a cat", "--model", model)
    assert "3 pictures" in text.err and "hardly counts" in text.err
    assert "red [b].png" in text.out
    labeled = json.loads(edgevl("search", photos, "--labels", "cat, dog", "--model", model, "--json").out)
    assert {hit["label"] for hit in labeled["labels"]} <= {"cat", "dog"} and len(labeled["labels"]) == 3


def test_a_bundle_searches_too_and_keeps_its_index_apart(edgevl, photos, model, tmp_path_factory):
    bundle = tmp_path_factory.mktemp("bundles") / "small.edgevl"
    assert edgevl("export", model, "--out", bundle).code == 0
    floats, own = (
        json.loads(edgevl("search", photos, "a red car", "--model", each, "--index", index, "--json").out)
        for each, index in ((model, photos / "floats.index"), (bundle, photos / "bundle.index"))
    )
    assert own["model"] == "nano-retrieval (onnx, fp32)"
    assert [hit["path"] for hit in own["queries"][0]["found"]] == [hit["path"] for hit in floats["queries"][0]["found"]]
    other = edgevl("search", photos, "a red car", "--model", bundle, "--index", photos / "floats.index")
    assert other.code == 2 and "was made by nano-retrieval, whose" in other.err and "--force" in other.err


def test_without_a_model_the_embedded_one_searches(edgevl, photos):
    for number in range(6):
        record = open_dataset("scenes:test", size=128)[number]
        Image.fromarray(np.asarray(record.pictures[0])).save(photos / f"{number}.png")
    caption = max((record.captions or ())[:8], key=len)
    found = json.loads(edgevl("search", photos, caption, "--top", "1", "--json").out)
    assert found["model"] == "nano-retrieval" and found["queries"][0]["found"][0]["path"] == "5.png"


def test_what_cannot_be_searched_is_one_line(edgevl, photos, model):
    for arguments, message in (
        ((photos, "--model", model), "give a text"),
        ((photos, "a cat", "--labels", "a,b", "--model", model), "give a text"),
        ((photos, "a cat", "--model", "nano"), "is for vqa: a search needs one that embeds"),
        ((photos / "none", "a cat", "--model", model), "name a folder of pictures"),
        ((photos, "", "--model", model), "the text is empty"),
        ((photos, "a cat", "--model", photos / "nothing"), "model folder"),
    ):
        answer = edgevl("search", *arguments)
        assert answer.code == 2 and message in answer.err, answer.err
        assert "Traceback" not in answer.err
