"""A model of 32 pixels, and data sets that are worth nothing for calibration."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevl.config import ModelConfig
from edgevl.contracts import Deployable
from edgevl.data import DATASETS, Scenes
from edgevl.data.scenes import ANSWERS, VOCABULARY
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import build_model
from edgevl.models.checkpoint import LoadedModel, load_model, save_model
from edgevl.models.kinds import open_deployable
from edgevl.verify.measure import draw


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_words(list(VOCABULARY))
    config = ModelConfig(
        name="toy", image_size=32, text_length=12, vocab_size=tokenizer.vocab_size, num_answers=len(ANSWERS), width=32,
        depth=1, heads=2,
    )  # fmt: skip
    return save_model(tmp_path_factory.mktemp("models") / "toy", build_model(config), tokenizer, list(ANSWERS))


@pytest.fixture(scope="session")
def toy(toy_folder: Path) -> LoadedModel:
    return load_model(toy_folder)


@pytest.fixture(scope="session")
def toy_model(toy_folder: Path) -> Deployable:
    return open_deployable(toy_folder)


class Poor(Scenes):
    """Scenes of which the pictures are near copies of eight (`copies`), or with one question (`monotone`)."""

    def __init__(self, fault: str, seed: int, size: int):
        super().__init__("val", seed, size)
        self.fault = fault

    def scene(self, index: int):
        scene = super().scene(index)
        if self.fault == "copies":
            noise = np.random.default_rng(index).integers(-6, 7, scene.image.shape)
            scene.image = (super().scene(7).image.astype(int) + noise).clip(0, 255).astype(np.uint8)
        elif self.fault == "monotone":
            question = replace(scene.questions(1)[0], text="what color is the car?")
            scene.draw_questions = lambda kinds=None: iter([question])
        return scene


@pytest.fixture
def poor(monkeypatch):
    """The data sets `poor:copies` and `poor:monotone`."""
    monkeypatch.setitem(DATASETS._items, "poor", Poor)
    draw.cache_clear()
    yield
    draw.cache_clear()
