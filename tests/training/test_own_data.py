"""Fine-tuning on pictures and questions of the user's own: words, answers, epochs, resuming, backbones."""

import json

import numpy as np
import pytest
import timm
import torch
from photo_tables import photos, pictures, write_csv
from safetensors.torch import load_file, save_file

from edgevl.config import DualEncoderConfig
from edgevl.contracts import Record
from edgevl.data import open_dataset
from edgevl.data.photos import import_table
from edgevl.data.photos.dataset import PhotoQuestion
from edgevl.data.scenes import ANSWERS, VOCABULARY
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models.checkpoint import load_model, open_model
from edgevl.models.dual_encoder import DualEncoder
from edgevl.training import finetune
from edgevl.training.adapt import Start, adapted, with_words
from edgevl.training.data import IGNORED, OUTSIDE, VqaSamples
from edgevl.training.domain import fit_domain
from edgevl.training.objectives import AnswerObjective
from edgevl.training.recipe import load_recipe, parse_recipe

TINY = {"config": "nano", "name": "t", "backbone": "test_resnet", "backbone_options": {}, "image_size": 32}
TINY |= {"width": 32, "depth": 1, "heads": 2}


@pytest.fixture
def data(tmp_path):
    import_table(photos(tmp_path, 12, questions=3), tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def values(finetune_values, data):
    return finetune_values | {"model": TINY, "data": {"train": f"{data}:train", "val": f"{data}:val", "workers": 0}}


def train(values, out, resume=False):
    notes: list[str] = []
    finetune.run(parse_recipe(values, "test"), out=out, resume=resume, note=notes.append)
    return load_model(out / "model"), notes


def test_a_fresh_model_has_the_words_and_the_answers_of_the_data(tmp_path, values, data):
    loaded, notes = train(values, tmp_path / "run")
    assert sorted(loaded.labels) == ["maybe", "no", "yes"] and loaded.config.num_answers == 3
    assert not loaded.tokenizer.unknown_words("is it number 1 of 3?")
    assert f"{data}:train: 6 steps are 2.4 epochs" in notes
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text("utf-8").splitlines()]
    assert rows[-1]["val_accuracy"] in (0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1)  # three questions, each once
    assert (
        json.loads((tmp_path / "run/model/training.json").read_text(encoding="utf-8"))["recipe"]["data"]["val"]
        == f"{data}:val"
    )


def test_a_run_that_resumes_is_the_run_that_did_not_stop(tmp_path, values):
    train(values, tmp_path / "whole")
    (tmp_path / "again").mkdir()
    train(values | {"stop_after": 4}, tmp_path / "again/run")
    recipe = tmp_path / "again/run/recipe.yaml"
    whole = recipe.read_text(encoding="utf-8").replace("stop_after: 4", "stop_after: null")
    recipe.write_text(whole, encoding="utf-8")
    train(values, tmp_path / "again/run", resume=True)
    one, other = (load_file(tmp_path / name / "model/model.safetensors") for name in ("whole", "again/run"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_embedded_model_learns_new_words_and_answers(tmp_path):
    """What it knew stays: the rows of its words, and of the answers that the data has, too."""
    names = pictures(tmp_path, 6)
    asked = ("is the zyzzyva red?", "crimson"), ("ist die Farbe größer?", "yes")
    rows = [(name, *asked[n % 2]) for n, name in enumerate(names)]
    data = open_dataset(f"csv:{write_csv(tmp_path / 't.csv', rows)}:train")
    embedded = load_model()
    start = Start(embedded.model, embedded.tokenizer, embedded.labels)
    made = adapted(start, data, "vqa")
    assert sorted(made.labels) == ["crimson", "yes"]
    old, new = embedded.model.state_dict(), made.model.state_dict()
    count = embedded.tokenizer.vocab_size
    assert torch.equal(new["core.text.words.weight"][:count], old["core.text.words.weight"][:count])
    yes, before = made.labels.index("yes"), embedded.labels.index("yes")
    assert torch.equal(new["head.3.weight"][yes], old["head.3.weight"][before])
    others = [key for key in old if key not in ("core.text.words.weight", "head.3.weight", "head.3.bias")]
    assert all(torch.equal(new[key], old[key]) for key in others)
    word = made.tokenizer.pieces("zyzzyva")
    assert len(word) == 1 and word[0] >= count
    pieces = embedded.tokenizer.pieces("zyzzyva")
    mean = old["core.text.words.weight"][pieces].mean(0)
    assert torch.allclose(new["core.text.words.weight"][word[0]], mean)
    assert made.tokenizer.pieces("red color?") == embedded.tokenizer.pieces("red color?")
    assert made.model.config.vocab_size % 32 == 0
    assert made.model(torch.zeros(1, 3, 128, 128), torch.ones(1, 24).long()).shape == (1, 2)


def test_a_model_that_knows_the_words_and_answers_stays_as_it_is(tmp_path):
    names = pictures(tmp_path, 4)
    data = open_dataset(f"csv:{write_csv(tmp_path / 't.csv', [(n, 'is there a red car?', 'yes') for n in names])}")
    embedded = load_model()
    start = Start(embedded.model, embedded.tokenizer, embedded.labels)
    assert adapted(start, data, "vqa") is start
    assert adapted(start, open_dataset("scenes:train"), "vqa") is start
    with pytest.raises(InputError, match="has no answers for the task statement; it has vqa"):
        adapted(start, data, "statement")
    captions = open_dataset(f"csv:{write_csv(tmp_path / 'c.csv', [(n, 'a car') for n in names], ('image', 'caption'))}")
    with pytest.raises(InputError, match="it has captions only: fine-tune for retrieval"):
        adapted(start, captions, "vqa")


def test_a_vocabulary_is_the_same_from_the_same_texts_and_that_of_scenes_as_before():
    base = Tokenizer.from_words(())
    texts = ["Größe der Farbe?", "die größe", "大きい猫", "a b", "x" * 200]
    one, other = base.extended(texts), base.extended(list(texts))
    assert one.backend.to_str() == other.backend.to_str()
    assert one.backend.to_str() == base.extended(sorted(texts, reverse=True)).backend.to_str()
    assert not one.unknown_words("die Größe der Farbe 猫") and one.extended(texts) is one
    assert one.unk_id not in one.pieces("rößeg")  # a new word of known letters
    assert base.extended(VOCABULARY).backend.to_str() == Tokenizer.from_words(VOCABULARY).backend.to_str()


def test_questions_that_fill_up_are_ignored_and_answers_outside_the_labels_have_names(data):
    val, tokenizer, config = open_dataset(f"{data}:val"), Tokenizer.from_words(()), load_model().config
    samples = VqaSamples(val, tokenizer, config, ("yes", "no"), texts=5, training=False)
    answers = samples[0]["answers"]
    assert answers[3:].tolist() == [IGNORED] * 2 and OUTSIDE in answers[:3]
    assert samples[0]["image"].shape == (3, 128, 128)
    with pytest.raises(InputError, match=r"the answer 'maybe' of photos/p\d+.png is none of the model's 2 labels"):
        VqaSamples(val, tokenizer, config, ("yes", "no"), texts=5)[0]


def test_of_several_right_answers_every_one_counts_and_the_most_frequent_is_learned():
    """In validation as in `edgevl verify`: one rule, that of the task."""
    question = PhotoQuestion("all", "what is it?", "cat", ("bird", "cat", "dog"))
    record, labels = Record("p", (np.zeros((128, 128, 3), np.uint8),), [question]), ("bird", "dog", "fish", "cat")
    tokenizer, config = Tokenizer.from_words(()), load_model().config
    samples = VqaSamples(Listed([record]), tokenizer, config, labels, texts=1, training=False)  # pyright: ignore
    assert samples[0]["answers"].tolist() == [labels.index("cat")]
    assert samples[0]["right"].tolist() == [[True, True, False, True]]
    for said, score in (("bird", 1), ("dog", 1), ("cat", 1), ("fish", 0)):
        assert Always(samples, labels.index(said)).evaluate() == {"val_accuracy": score}


class Always(AnswerObjective):
    """Gives one answer to everything."""

    def __init__(self, samples, answer):
        super().__init__(samples, 1, "vqa")
        self.scores = torch.nn.Parameter(torch.nn.functional.one_hot(torch.tensor(answer), 4).float())

    def logits(self, batch):
        return self.scores.expand(batch["questions"].flatten(0, 1).shape[0], -1)


class Listed(list):
    """A finite data set of these records."""

    name, finite = "listed", True


def test_pictures_of_files_are_decoded_once(data, monkeypatch):
    samples = VqaSamples(
        open_dataset(f"{data}:val"), Tokenizer.from_words(()), load_model().config, ("yes", "no", "maybe")
    )
    first = samples[0]["image"]
    monkeypatch.setattr("edgevl.training.data.load_image", None)
    assert np.array_equal(samples[0]["image"], first)


@pytest.mark.parametrize("text", ["data={data}", "data={{train: '{data}:train', val: '{data}:val'}}"])
def test_a_folder_on_the_command_line_is_both_splits(data, text):
    recipe = load_recipe("finetune_photos_nano", [text.format(data=data), "data.texts=2"])
    assert (recipe.data.train, recipe.data.val, recipe.data.texts) == (f"{data}:train", f"{data}:val", 2)
    assert parse_recipe({"stage": "finetune", "name": "x", "data": str(data)}, "test").data.val == f"{data}:val"


def test_a_backbone_starts_with_the_weights_of_a_file(tmp_path, values):
    weights = timm.create_model("test_resnet", pretrained=False).state_dict()
    save_file(weights, tmp_path / "imagenet.safetensors")
    recipe = parse_recipe(values | {"backbone_weights": str(tmp_path / "imagenet.safetensors")}, "test")
    model, _, _ = finetune.starting_model(recipe, open_dataset(recipe.data.train))
    own = model.core.vision.backbone.state_dict()
    assert len(own) > 10 and all(torch.equal(own[key], weights[key]) for key in own)
    assert model.config.mean == tuple(timm.get_pretrained_cfg("test_resnet").mean)  # pyright: ignore
    (tmp_path / "w.bin").touch()
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    for source, message in (
        ("none.safetensors", "there is no file none.safetensors: backbone_weights is timm, or"),
        (str(tmp_path / "w.bin"), "other formats can run code"),
        (str(tmp_path / "other.safetensors"), "has no weights conv1.0.weight: it is not of this"),
    ):
        with pytest.raises(InputError, match=message):
            finetune.starting_model(
                recipe.model_copy(update={"backbone_weights": source}), open_dataset(recipe.data.train)
            )
    with pytest.raises(InputError, match="backbone_weights is for a fresh model"):
        parse_recipe(values | {"backbone_weights": "timm", "init": "nano"}, "test")


def test_mistakes_are_one_line(tmp_path, values, data):
    for changes, message in (
        ({"data": str(tmp_path / "none")}, "there is no data folder"),
        (
            {"data": values["data"] | {"focus": ["size"], "focus_texts": 1}},
            "data.focus names kinds of question of Scenes",
        ),
        ({"task": "statement"}, "has no answers for the task statement"),
    ):
        with pytest.raises(InputError, match=message):
            train(values | changes, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_model_of_few_pictures_was_trained_on_is_not_written(tmp_path, values):
    loaded, _ = train(values, tmp_path / "run")
    assert loaded.domain is None
    with pytest.raises(InputError, match="train has 10 pictures, not 200"):
        fit_domain(tmp_path / "run/model", pictures=200, questions=200)
    assert {*ANSWERS} > {"yes", "no"}


def test_a_dual_encoder_learns_captions_of_the_user_epoch_after_epoch(tmp_path, values):
    names = pictures(tmp_path, 9)
    rows = [(name, f"the zyzzyva number {number}") for number, name in enumerate(names)]
    table = write_csv(tmp_path / "captions.csv", rows, ("image", "caption"))
    small = {"kind": "dual_encoder", "config": "nano", "name": "t", "backbone": "test_resnet", "backbone_options": {}}
    small |= {"image_size": 32, "width": 32}
    data = {"train": f"csv:{table}:train", "val": f"csv:{table}:val", "workers": 0}
    own = {"task": "retrieval", "model": small, "data": data, "steps": 6}
    out = finetune.run(parse_recipe(values | own, "test"), out=tmp_path / "captions")
    loaded = open_model(out / "model")
    assert not loaded.tokenizer.unknown_words("the zyzzyva number 3")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows[-1]["val_text_to_image_r1"] == 1  # of one picture


def test_the_words_of_a_dual_encoder_grow():
    config, tokenizer = DualEncoderConfig(backbone="test_resnet", backbone_options={}), Tokenizer.from_words(["red"])
    model = DualEncoder(config.replace(vocab_size=128, image_size=32))
    start = with_words(Start(model, tokenizer), ["red zyzzyva"])
    made, grown = start.model, start.tokenizer
    assert with_words(start, ["zyzzyva red"]) is start
    (index,) = grown.pieces("zyzzyva")
    mean = model.text.words.weight[tokenizer.pieces("zyzzyva")].mean(0)
    assert torch.allclose(made.text.words.weight[index], mean)
    assert torch.equal(made.vision.state_dict()["position"], model.vision.state_dict()["position"])
