"""What the tests of int8 files share: a toy model, a plan for any model from random pictures, and float logits."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("torchao", reason='torchao comes with pip install "edgevl[quantize]"')  # skips who imports this

from edgevl.config import ModelConfig
from edgevl.export.registry import get_exporter
from edgevl.models import VqaModel, build_model
from edgevl.models.question_answering import answering_program
from edgevl.plans.plan import Calibration, Plan
from edgevl.quantize.calibrate import BATCH, Observation
from edgevl.runtime.session import open_session

CONFIG = ModelConfig(
    name="toy", backbone="test_resnet", image_size=32, text_length=6, vocab_size=50, num_answers=10, width=32, depth=1,
    heads=2,
)  # fmt: skip
SAMPLES = 16


def toy(config: ModelConfig = CONFIG) -> VqaModel:
    torch.manual_seed(0)
    return build_model(config).eval()


def random_samples(config: ModelConfig, count: int = SAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [N, S, S, 3] of few colors, and token ids [N, T]."""
    rng = np.random.default_rng(0)
    side = config.image_size
    coarse = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    pixels = coarse.repeat(side // 4, 1).repeat(side // 4, 2)
    return pixels, rng.integers(1, config.vocab_size, (count, config.text_length), dtype=np.int32)


def plan_of(model: VqaModel, batch: int = BATCH) -> Plan:
    """The ranges of one batch of random samples."""
    observation = Observation(answering_program(model), "minmax", batch)
    pixels, ids = random_samples(model.config, batch)
    observation.run({"image": pixels, "input_ids": ids})
    settings = Calibration(data="random", samples=batch, seed=0, observer="minmax")
    return Plan(checkpoint_sha256="0" * 64, calibration=settings, values=observation.ranges(), modules={})


def export(model: VqaModel, plan: Plan, folder: Path, target: str, **how) -> Path:
    return get_exporter(target).export(model, folder, "w8a8", plan=plan, **how)


def logits_of(path: Path, target: str, config: ModelConfig) -> np.ndarray:
    """[N, A], of the artifact in its own session."""
    session, rows = open_session(path, target), []
    for pixels, ids in zip(*random_samples(config)):
        rows.append(session.run({"image": pixels[None], "input_ids": ids[None]})["logits"][0])
    return np.stack(rows)


def float_logits(model: VqaModel) -> np.ndarray:
    pixels, ids = random_samples(model.config)
    with torch.no_grad():
        return model(torch.from_numpy(pixels).permute(0, 3, 1, 2).float(), torch.from_numpy(ids)).numpy()


def psnr(own: np.ndarray, reference: np.ndarray) -> float:
    return float(20 * np.log10(np.abs(reference).max() / np.sqrt(np.mean((own - reference) ** 2) + 1e-20)))
