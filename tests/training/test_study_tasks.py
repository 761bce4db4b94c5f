"""The tasks beside questions: statements and retrieval, through the loop of fine-tuning."""

import json

import pytest
import torch
from safetensors.torch import load_file

from edgevl.config import named_config
from edgevl.data.scenes import ANSWERS, VOCABULARY, Scenes
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models.checkpoint import load_model
from edgevl.training import finetune, pretrain
from edgevl.training.data import RetrievalSamples, StatementSamples
from edgevl.training.recipe import parse_recipe
from edgevl.training.retrieval import recall, retrieval_heads


@pytest.fixture
def pretrained(tmp_path, pretrain_values):
    return pretrain.run(parse_recipe(pretrain_values | {"steps": 2}, "test"), out=tmp_path / "pre") / "model"


def test_statements_are_answered_by_yes_and_no_as_the_scene_says():
    scenes, tokenizer = Scenes("train", size=64), Tokenizer.from_words(VOCABULARY)
    samples = StatementSamples(scenes, tokenizer, named_config("nano"), ANSWERS, texts=4)
    said = [statement.label for statement in scenes.scene(3).statements(4)]
    assert [ANSWERS[i] == "yes" for i in samples[3]["answers"]] == said


@pytest.mark.parametrize("task", ["statement", "retrieval"])
def test_a_task_trains_and_leaves_a_model_folder(tmp_path, pretrained, finetune_values, task):
    values = finetune_values | {"task": task, "init": str(pretrained), "steps": 2}
    folder = finetune.run(parse_recipe(values, "test"), out=tmp_path / task)
    assert load_model(folder / "model").config.task == task
    assert json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))["task"] == task
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    (score,) = [row["val_accuracy"] for row in rows if "val_accuracy" in row]
    assert 0 <= score <= 1
    assert ("statement" in rows[0]) == (task == "statement"), "the loss is called after the task"
    assert (folder / "model" / "retrieval.safetensors").is_file() == (task == "retrieval")


def test_retrieval_starts_with_the_heads_of_pretraining(pretrained):
    loaded = load_model(pretrained)
    heads = retrieval_heads(loaded.config, pretrained)
    saved = load_file(pretrained / "retrieval.safetensors")
    assert torch.equal(heads["itc"].image_projection.weight, saved["itc.image_projection.weight"].float())  # pyright: ignore
    (pretrained / "retrieval.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a readable safetensors"):
        retrieval_heads(loaded.config, pretrained)


def test_heads_that_learned_nothing_are_not_kept(tmp_path, pretrain_values):
    values = pretrain_values | {"steps": 2, "stop_after": 1}
    values["losses"] = {**values["losses"], "itc": {"after": 1}}
    said: list[str] = []
    folder = pretrain.run(parse_recipe(values, "test"), out=tmp_path / "pre", note=said.append) / "model"
    assert said == ["this run ends with step 1, before these losses begin: itc"]
    assert not (folder / "retrieval.safetensors").exists() and load_model(folder).config.name


def test_cls_becomes_mask_for_questions_only(pretrained):
    loaded = load_model(pretrained)
    words, tokenizer = loaded.model.core.text.words.weight, loaded.tokenizer
    finetune.load_pretrained(loaded.model, pretrained, tokenizer, "statement")
    assert not torch.equal(words[tokenizer.cls_id], words[tokenizer.mask_id])


def test_retrieval_reads_the_longest_captions():
    scenes, tokenizer = Scenes("train", size=64), Tokenizer.from_words(VOCABULARY)
    config = named_config("nano")
    samples = RetrievalSamples(scenes, tokenizer, config, 2)
    longest = max(scenes.scene(5).captions(8), key=len)
    assert (samples[5]["captions"][0] == tokenizer.encode(longest, config.text_length)).all()


class KnownHeads:
    """Vectors of texts and pictures are given; matching reverses what contrast says."""

    def embed_texts(self, core, ids):
        return ids

    def embed_images(self, visual):
        return visual

    def score(self, core, texts, pictures):
        return -(texts * pictures).sum(-1)


def test_recall_and_reranking_against_counts_by_hand():
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]])
    pictures = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    heads = {"itc": KnownHeads(), "itm": KnownHeads()}
    found = recall(None, heads, pictures, texts, at=(1, 2), rerank=2)
    # Text 2 likes picture 0 (0.9) more than its own (0.5); picture 2 likes all texts alike, and topk takes one of them.
    assert found["text_to_image_r1"] == pytest.approx(2 / 3)
    assert found["text_to_image_r2"] == pytest.approx(1.0)
    assert found["text_to_image_reranked_r1"] == pytest.approx(1 / 3)  # only text 2's second best is its own


def test_a_task_that_no_stage_knows_is_one_line(finetune_values, pretrain_values):
    with pytest.raises(InputError, match="task"):
        parse_recipe(finetune_values | {"task": "poetry"}, "test")
    with pytest.raises(InputError, match="is for finetune"):
        parse_recipe(pretrain_values | {"task": "statement"}, "test")
