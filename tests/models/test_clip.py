"""CLIP of Hugging Face as a Deployable, held against transformers itself with its processor. Random weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_folder import PICTURES, TEXTS, horizontal_first, opaque, transformers, write_clip

from edgevl.contracts import Query
from edgevl.decodings import decoding_of
from edgevl.errors import InputError
from edgevl.inputs.byte_bpe import ByteBPE
from edgevl.inputs.images import to_tensor
from edgevl.models.capture import capture
from edgevl.models.families import open_family
from edgevl.runtime.eager_session import eager_runner


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture(scope="module")
def model(folder):
    return open_family(folder)


def test_pixels_are_those_of_the_processor(model, folder, monkeypatch):
    found = [to_tensor(picture, model.images["main"]) for picture in PICTURES]
    horizontal_first(monkeypatch)
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    for picture, own in zip(PICTURES, found):
        picture = opaque(picture)
        values = processor(picture, do_normalize=False, do_rescale=False, return_tensors="np")["pixel_values"][0]
        assert np.array_equal(own, values.transpose(1, 2, 0)), (picture.size, picture.mode)


def test_ids_are_those_of_the_tokenizer(model, folder, tmp_path):
    tokenizer, words = transformers.CLIPTokenizer.from_pretrained(folder), model.texts["main"]
    assert len(TEXTS) >= 50
    (tmp_path / "tokenizer.json").write_text(words.to_text(), encoding="utf-8")
    again = ByteBPE.declared(tmp_path / "tokenizer.json", words.spec)
    for text in TEXTS:
        expected = tokenizer(text, padding="max_length", max_length=77, truncation=True)["input_ids"]
        assert words.encode(text).tolist() == expected == again.encode(text).tolist(), text
        assert words.is_truncated(text) == (len(tokenizer(text)["input_ids"]) > 77), text
        attended = tokenizer(text, padding="max_length", max_length=77, truncation=True)["attention_mask"]
        assert words.mask(text).tolist() == attended, text  # the padding is the stop token
    assert words.decode(words.encode("A  photo of a red car")) == "a photo of a red car"


@pytest.mark.filterwarnings("ignore")
def test_embeddings_are_those_of_transformers(model, folder, monkeypatch):
    decoding = decoding_of(model)
    own = decoding.run(eager_runner(model), [Query(tuple(PICTURES), tuple(TEXTS))])[0]
    horizontal_first(monkeypatch)
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    reference = transformers.CLIPModel.from_pretrained(folder, attn_implementation="eager").eval()
    ids = tokenizer(TEXTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    with torch.no_grad():
        outputs = reference(**processor(list(map(opaque, PICTURES)), return_tensors="pt"), **ids)
    for name in ("image_embeds", "text_embeds"):
        assert np.abs(own.values[name] - outputs[name].numpy()).max() < 1e-5, name
    scores = decoding.scores(own.values["image_embeds"], own.values["text_embeds"])  # pyright: ignore[reportAttributeAccessIssue]
    assert np.abs(scores - outputs.logits_per_image.numpy()).max() < 1e-3


def test_both_towers_are_captured_with_static_masks(model):
    for program in model.programs("towers"):
        exported = capture(program, "raw")
        assert exported.graph_signature.user_outputs == (program.outputs[0].name,)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (
            "processor_config.json",
            lambda v: v["image_processor"].update(do_center_crop=False),
            "do_center_crop is",
        ),
        ("processor_config.json", lambda v: v["image_processor"].update(resample=2), "resample is 2"),
        ("processor_config.json", lambda v: v["image_processor"].update(do_pad=True), "do_pad is true"),
        ("processor_config.json", lambda v: v["image_processor"].update(size={"height": 9}), "size is"),
        ("processor_config.json", lambda v: v["image_processor"].update(image_std=[0, 1, 1]), "image_std"),
        ("preprocessor_config.json", lambda v: v.update(do_pad=True), "preprocessor_config.json: do_pad is true"),
        ("preprocessor_config.json", lambda v: v.update(rescale_factor=0.5), "rescale_factor is 0.5"),
        ("preprocessor_config.json", lambda v: v.update(crop_size=32), "crop_size is 32"),
        (
            "tokenizer.json",
            lambda v: v["model"]["vocab"].update({"q</w>x": v["model"]["vocab"].pop("q</w>")}),
            "lacks 1 of",
        ),
        ("tokenizer.json", lambda v: v["model"]["merges"].append(v["model"]["merges"][3]), "twice: readers"),
        ("tokenizer.json", lambda v: v["model"]["merges"].append(["ca", "r a"]), "model.merges has a pair"),
        ("tokenizer.json", lambda v: v["normalizer"]["normalizers"].pop(), "normalizer.normalizers"),
        ("tokenizer.json", lambda v: v["model"].update(dropout=0.1), "model.dropout is 0.1"),
        ("tokenizer.json", lambda v: v["model"].update(end_of_word_suffix=""), "model.end_of_word_suffix"),
        ("tokenizer.json", lambda v: v["pre_tokenizer"]["pretokenizers"][0].update(invert=False), "invert is false"),
        ("tokenizer.json", lambda v: v.update(surprise=1), "surprise is 1; this setting is not known"),
        ("tokenizer.json", lambda v: v["added_tokens"][0].update(content="<pad>"), "added_tokens.0.content"),
        ("config.json", lambda v: v["text_config"].update(eos_token_id=7), "eos_token_id is 7"),
        ("config.json", lambda v: v.update(model_type="clipp"), 'did you mean "clip"'),
        # What would keep a machine busy or take all of its memory, before a model of that size is made.
        ("config.json", lambda v: v["text_config"].update(num_hidden_layers=10**7), "a whole number from 1 to 256"),
        ("config.json", lambda v: v["vision_config"].update(hidden_size=10**9), "vision_config.hidden_size is 10"),
        ("config.json", lambda v: v["text_config"].update(vocab_size=2**22), "too few for the"),
        ("config.json", lambda v: v.update(projection_dim=10**6), "projection_dim is 1000000"),
        ("config.json", lambda v: v["text_config"].update(intermediate_size=65), "other shapes than config.json says"),
    ],
)
def test_a_setting_that_nobody_declared_is_refused_by_name(folder, tmp_path, file, change, words):
    copy = tmp_path / "clip"
    shutil.copytree(folder, copy)
    if file == "preprocessor_config.json":  # where transformers before 5 writes the image processor
        held = json.loads((copy / "processor_config.json").read_text("utf-8"))["image_processor"]
        (copy / file).write_text(json.dumps(held), "utf-8")
    values = json.loads((copy / file).read_text("utf-8"))
    change(values)
    (copy / file).write_text(json.dumps(values), "utf-8")
    with pytest.raises(InputError) as caught:
        open_family(copy)
    assert words in str(caught.value)


def test_nothing_is_unpickled(folder, tmp_path):
    copy = tmp_path / "clip"
    shutil.copytree(folder, copy)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(InputError, match="nothing is unpickled"):
        open_family(copy)
