"""CLIP of Hugging Face as a Deployable, held against transformers itself with its processor. Random weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgevl.contracts import Query
from edgevl.decodings import decoding_of
from edgevl.errors import InputError
from edgevl.inputs.byte_bpe import ByteBPE
from edgevl.inputs.images import to_tensor
from edgevl.models.capture import capture
from edgevl.models.families import open_family
from edgevl.runtime.eager_session import eager_runner

transformers: Any = pytest.importorskip("transformers", reason="a CLIP model is compared with transformers")

SIZE = 64
RANDOM = np.random.default_rng(0)
SHAPES = [(64, 64), (64, 65), (100, 70), (70, 100), (65, 250), (250, 65), (9, 7), (5, 1), (1, 5), (64, 128), (300, 299)]
PICTURES = [Image.fromarray(RANDOM.integers(0, 256, (*shape, 3), np.uint8)) for shape in SHAPES]
PICTURES += [Image.fromarray(RANDOM.integers(0, 256, (90, 80), np.uint8))]  # gray
TEXTS = [
    "a photo of a red car",
    "Ünïcödé é",
    "",
    "   ",
    "<|endoftext|> x <|startoftext|>",
    "it's 42 don't!!  ''s",
    "日本語 🚗🐕",
    "a" * 5000,
    " \t\n x",
    "İstanbul ſ ß",
    "e\u0301\u0301",
    "\x00\x01a",
    "ﬁ ligature",
    "١٢٣",
    "½ x² ",
    "\ufffd",
    "A\u00a0B",
    "don'T WE'LL i'VE",
    "car." * 60,
    "\u200bzero\u200dwidth",
    "ǅ Ǆ",
    "नमस्ते",
    "שלום",
    "مرحبا",
    "สวัสดี",
    "👩‍👩‍👧‍👦 family",
    "100,000.50",
    "a-b_c",
    "C++ & C#",
    "<|endoftext|>",
    "<|EndOfText|>",
    "…",
    "naïve café",
    "\r\n",
    "x\ty",
    "§1.2(a)",
    "ꙮ",
    "🏳️‍🌈",
    "１２３ full",
    "ÅÅ Å",
    "o'clock",
    "''''",
    "!?!?",
    "e" + "\u0301" * 40,
    "mixed漢字kana かな",
    "end</w>",
    "</w>",
    "Ġ",
    "tab\there",
    "the the the",
]


def trained_words() -> dict:
    """Vocabulary and merges of a small byte-level BPE, as CLIP's file holds them."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    backend = tokenizers.Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=400, end_of_word_suffix="</w>", initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    backend.train_from_iterator(["a photo of a red car", "the small green tree is left of the house"] * 20, trainer)
    model = json.loads(backend.to_str())["model"]
    ends = [f"{symbol}</w>" for symbol in sorted(pre_tokenizers.ByteLevel.alphabet())]
    for name in (*(end for end in ends if end not in model["vocab"]), "<|startoftext|>", "<|endoftext|>"):
        model["vocab"][name] = len(model["vocab"])
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path, words = tmp_path_factory.mktemp("clip") / "tiny-clip", trained_words()
    tokenizer = transformers.CLIPTokenizer(vocab=words["vocab"], merges=[tuple(pair) for pair in words["merges"]])
    sides = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
    size, width = len(words["vocab"]), {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    width |= {"num_attention_heads": 2}
    ends = {"bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
    config = transformers.CLIPConfig(
        text_config={**width, **ends, "vocab_size": size, "max_position_embeddings": 77},
        vision_config={**width, "image_size": SIZE, "patch_size": 16},
        projection_dim=16,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(path)
    transformers.CLIPProcessor(transformers.CLIPImageProcessorPil(**sides), tokenizer).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder):
    return open_family(folder)


def horizontal_first(monkeypatch) -> None:
    """Pillow 13 resizes some tall pictures vertically first, and earlier ones, with which CLIP was trained, none."""
    resize = Image.Image.resize

    def two_passes(image, size, resample=None, box=None, reducing_gap=None):
        return resize(resize(image, (size[0], image.height), resample), size, resample)

    monkeypatch.setattr(Image.Image, "resize", two_passes)


def test_pixels_are_those_of_the_processor(model, folder, monkeypatch):
    found = [to_tensor(picture, model.images["main"]) for picture in PICTURES]
    horizontal_first(monkeypatch)
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    for picture, own in zip(PICTURES, found):
        values = processor(picture, do_normalize=False, do_rescale=False, return_tensors="np")["pixel_values"][0]
        assert np.array_equal(own, values.transpose(1, 2, 0)), picture.size


def test_ids_are_those_of_the_tokenizer(model, folder, tmp_path):
    tokenizer, words = transformers.CLIPTokenizer.from_pretrained(folder), model.texts["main"]
    assert len(TEXTS) >= 50
    (tmp_path / "tokenizer.json").write_text(words.to_text(), encoding="utf-8")
    again = ByteBPE.declared(tmp_path / "tokenizer.json", words.spec)
    for text in TEXTS:
        expected = tokenizer(text, padding="max_length", max_length=77, truncation=True)["input_ids"]
        assert words.encode(text).tolist() == expected == again.encode(text).tolist(), text
        assert words.is_truncated(text) == (len(tokenizer(text)["input_ids"]) > 77), text
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
        outputs = reference(**processor(PICTURES, return_tensors="pt"), **ids)
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
        ("tokenizer.json", lambda v: v["normalizer"]["normalizers"].pop(), "normalizer.normalizers"),
        ("tokenizer.json", lambda v: v["model"].update(dropout=0.1), "model.dropout is 0.1"),
        ("tokenizer.json", lambda v: v["model"].update(end_of_word_suffix=""), "model.end_of_word_suffix"),
        ("tokenizer.json", lambda v: v["pre_tokenizer"]["pretokenizers"][0].update(invert=False), "invert is false"),
        ("tokenizer.json", lambda v: v.update(surprise=1), "surprise is 1; this setting is not known"),
        ("tokenizer.json", lambda v: v["added_tokens"][0].update(content="<pad>"), "added_tokens.0.content"),
        ("config.json", lambda v: v["text_config"].update(eos_token_id=7), "eos_token_id is 7"),
        ("config.json", lambda v: v.update(model_type="clipp"), 'did you mean "clip"'),
    ],
)
def test_a_setting_that_nobody_declared_is_refused_by_name(folder, tmp_path, file, change, words):
    copy = tmp_path / "clip"
    shutil.copytree(folder, copy)
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
