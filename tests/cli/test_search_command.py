"""`edgevl search` on the command line."""

import json

import pytest
import torch
from PIL import Image

from edgevl.checkpoint import save_dual_encoder
from edgevl.config import DualEncoderConfig
from edgevl.data.scenes import VOCABULARY
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import DualEncoder


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


def test_what_cannot_be_searched_is_one_line(edgevl, photos, model):
    for arguments, message in (
        ((photos, "--model", model), "give a text"),
        ((photos, "a cat", "--labels", "a,b", "--model", model), "give a text"),
        ((photos, "a cat", "--model", "nano"), "is for vqa: a search needs one that embeds"),
        ((photos / "none", "a cat", "--model", model), "name a folder of pictures"),
        ((photos, "", "--model", model), "the text is empty"),
        ((photos, "a cat"), "edgevl finetune retrieval_scenes_nano"),
        ((photos, "a cat", "--model", photos / "nothing"), "model folder"),
    ):
        answer = edgevl("search", *arguments)
        assert answer.code == 2 and message in answer.err, answer.err
        assert "Traceback" not in answer.err
