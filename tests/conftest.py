"""Shared by all tests: few threads, no colors, nothing written into the repository, and a tiny model."""

import os
from pathlib import Path

import pytest

# Before torch is imported: two test workers with a pool of threads each are slower than one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NO_COLOR"] = "1"
os.environ["TERM"] = "dumb"
os.environ.pop("COLUMNS", None)  # pytest-xdist says 80 to its workers: a test that wants a width says so itself
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # some tests import onnxruntime before edgevl, which sets it too


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A model folder: 32 pixels, one block, random weights with a spread of logits, the labels of Scenes."""
    import torch  # here, because many tests need no torch and take no time without it

    from edgevl.checkpoint import save_model
    from edgevl.config import ModelConfig
    from edgevl.data.scenes import ANSWERS
    from edgevl.data.scenes.vocabulary import VOCABULARY
    from edgevl.inputs.tokenizer import Tokenizer
    from edgevl.models import build_model

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
    return save_model(tmp_path_factory.mktemp("models") / "tiny-test", model, tokenizer, labels)
