"""The embedded nano through the executor: no fault in half precision, answers of torch, 1000 samples in a minute."""

import time
from pathlib import Path

import numpy as np
import pytest
from sessions_of import reference as float_session

from edgevl.export.registry import get_exporter
from edgevl.models.checkpoint import load_model
from edgevl.runtime.coreml_reference import MLProgram
from edgevl.runtime.eager_session import torch_threads


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    return get_exporter("coreml").export(load_model().model, tmp_path_factory.mktemp("nano"), "fp16")


def feeds(program: MLProgram, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {spec.name: spec.shape for spec in program.inputs}
    ids = np.zeros(shapes["input_ids"], np.int32)
    ids[0, : 6 + seed] = rng.integers(5, 150, 6 + seed)
    return {"image": rng.integers(0, 256, shapes["image"], dtype=np.uint8), "input_ids": ids}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "strict_fp16"])
def test_half_precision_does_not_break_nano(package: Path, precision: str) -> None:
    program = MLProgram.load(package, precision=precision)
    for seed in range(3):
        assert program.find_fault(feeds(program, seed)) is None


@pytest.mark.slow
def test_nano_agrees_with_torch(package: Path) -> None:
    program, reference = MLProgram.load(package), float_session(load_model().model, threads=1)
    for seed in range(3):
        expected = reference.run(feeds(program, seed))["logits"]
        error = program.predict(feeds(program, seed))["logits"] - expected
        assert 20 * np.log10(np.ptp(expected) / np.sqrt(np.mean(error**2))) > 40


@pytest.mark.slow
def test_a_thousand_samples_take_less_than_a_minute_of_one_core(package: Path) -> None:
    """Processor time, so that other work on the machine does not count; 50 samples stand for 1000."""
    program = MLProgram.load(package)
    sample = feeds(program, 0)
    with torch_threads(1):
        program.predict(sample)
        start = time.process_time()
        for _ in range(50):
            program.predict(sample)
        assert (time.process_time() - start) / 50 < 0.06
