"""A model folder that takes milliseconds to run."""

from pathlib import Path

import torch

from edgevl.config import ModelConfig
from edgevl.data.scenes import ANSWERS
from edgevl.data.scenes.vocabulary import VOCABULARY
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import build_model
from edgevl.models.checkpoint import save_model


def write_tiny_model(folder: Path) -> Path:
    """Write a model of 32 pixels and one block: random weights with a spread of logits, the labels of Scenes."""
    torch.manual_seed(1)
    tokenizer, labels = Tokenizer.from_words(VOCABULARY), list(ANSWERS)
    config = ModelConfig(
        name="tiny-test", backbone="test_resnet", image_size=32, width=32, depth=1, heads=2,
        vocab_size=tokenizer.vocab_size, num_answers=len(labels),
    )  # fmt: skip
    model = build_model(config)
    with torch.no_grad():
        torch.nn.init.normal_(model.head[-1].weight, std=0.6)  # pyright: ignore[reportArgumentType]
        for name, weight in model.core.fusion.named_parameters():  # what it answers depends on what it is asked
            if name.endswith(("attention.value.weight", "attention.out.weight")):
                weight.mul_(4)
    return save_model(folder, model, tokenizer, labels)
