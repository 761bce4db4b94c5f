"""Pictures, bundles and a runner for the tests of the command line. Bundles are exported once per test process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevl.cli import main


@dataclass(frozen=True)
class Answer:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


@pytest.fixture
def edgevl(capsys) -> Callable[..., Answer]:
    """Run a command line in this process."""

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def photo(tmp_path_factory) -> Path:
    """A picture with no symmetry, so that a wrong orientation changes it."""
    y, x = np.mgrid[0:96, 0:160]
    pixels = np.stack([x * 255 // 159, y * 255 // 95, (x // 16 + y // 16) % 2 * 200], axis=-1).astype(np.uint8)
    pixels[10:40, 20:70] = (220, 30, 30)
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="session")
def onnx_bundle(tmp_path_factory) -> Path:
    return _export(tmp_path_factory.mktemp("onnx"), "onnx")


@pytest.fixture(scope="session")
def coreml_bundle(tmp_path_factory) -> Path:
    return _export(tmp_path_factory.mktemp("coreml"), "coreml")


def _export(folder: Path, target: str) -> Path:
    bundle = folder / f"nano-{target}.edgevl"
    assert main(["export", "--target", target, "--out", str(bundle)]) == 0
    return bundle
