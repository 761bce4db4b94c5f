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


# What runs first: a mistake in the core shows within minutes, before the backends' conversions take theirs.
LAST = ("apps", "bench", "export", "quantize", "runtime")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the backends behind those of the core, both in their order."""
    items.sort(key=lambda item: item.path.relative_to(Path(__file__).parent).parts[0] in LAST)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A model folder: 32 pixels, one block, random weights with a spread of logits, the labels of Scenes."""
    from tiny_models import write_tiny_model  # here, because many tests need no torch and take no time without it

    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-test")
