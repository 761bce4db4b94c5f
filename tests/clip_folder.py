"""A folder of CLIP as transformers writes it, tiny and with random weights, and what to ask it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

transformers: Any = pytest.importorskip("transformers", reason="a CLIP model is compared with transformers")

SIZE = 64
RANDOM = np.random.default_rng(0)
SHAPES = [(64, 64), (64, 65), (100, 70), (70, 100), (65, 250), (250, 65), (9, 7), (5, 1), (1, 5), (64, 128), (300, 299)]
PICTURES = [Image.fromarray(RANDOM.integers(0, 256, (*shape, 3), np.uint8)) for shape in SHAPES]
PICTURES += [
    Image.fromarray(RANDOM.integers(0, 256, shape, np.uint8)) for shape in ((90, 80), (1, 1), (40, 200))
]  # gray
PICTURES += [
    Image.fromarray(RANDOM.integers(0, 256, shape, np.uint8)) for shape in ((70, 90, 4), (200, 66, 2))
]  # clear
PICTURES += [
    Image.new("L", (640, 8), 255),
    Image.new("1", (33, 70)),
    Image.new("RGBA", (80, 80)),
    PICTURES[4].quantize(9),
]
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


def opaque(picture: Image.Image) -> Image.Image:
    """What is clear on white, as edgevl does: transformers drops the alpha, and shows what nobody sees."""
    if not (picture.mode in ("RGBA", "LA") or "transparency" in picture.info):
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA")).convert("RGB")


def write_clip(folder: Path) -> Path:
    """Write the folder and return it."""
    path, words = folder, trained_words()
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


def horizontal_first(monkeypatch) -> None:
    """Pillow 13 resizes some tall pictures vertically first, and earlier ones, with which CLIP was trained, none."""
    resize = Image.Image.resize

    def two_passes(image, size, resample=None, box=None, reducing_gap=None):
        return resize(resize(image, (size[0], image.height), resample), size, resample)

    monkeypatch.setattr(Image.Image, "resize", two_passes)
