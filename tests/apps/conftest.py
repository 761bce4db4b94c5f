"""The standalone modules of apps/jetson, bundles of a tiny model, and boards that are files."""

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from older_bundles import as_schema_1

JETSON = Path(__file__).parents[2] / "apps" / "jetson"
RECORDED = Path(__file__).parent / "recorded"
MODULES = ("benchmark", "build_engine", "bundle_files", "bundle_reader", "calls", "cuda_runtime", "decodings",
           "golden_cases", "jetson_board", "measuring", "onnx_runner", "onnx_wire", "pictures", "pipeline", "problems",
           "runtimes", "tensorrt_runner", "watch")  # fmt: skip
QUESTION = "what color is the car?"


@pytest.fixture(scope="session")
def jetson() -> SimpleNamespace:
    """The modules, imported as they are on a board: from their own folder."""
    sys.path.insert(0, str(JETSON))
    try:
        return SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(JETSON))


@pytest.fixture(scope="session")
def bundles(tiny_model, tmp_path_factory) -> dict[str, Path]:
    """The tiny model for onnx, in one file (`onnx`), in two (`split`), of schema 1 (`older`); for tensorrt in two."""
    from edgevl.bundle_export import export_bundle

    folder = tmp_path_factory.mktemp("tiny")
    onnx = export_bundle(tiny_model, "onnx", out=folder / "onnx.edgevl")
    tensorrt = export_bundle(tiny_model, "tensorrt", out=folder / "tensorrt.edgevl", precision="fp32", layout="split")
    split = Path(shutil.copytree(tensorrt, folder / "split.edgevl"))
    manifest = json.loads((split / "manifest.json").read_text(encoding="utf-8"))
    (split / "build_engine.py").unlink()
    del manifest["files"]["build_engine.py"]
    (split / "manifest.json").write_text(
        json.dumps({**manifest, "target": "onnx"}), encoding="utf-8"
    )  # the same files, for ONNX Runtime
    older = as_schema_1(Path(shutil.copytree(onnx, folder / "older.edgevl")))
    return {"onnx": onnx, "tensorrt": tensorrt, "split": split, "older": older}


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> dict[str, Path]:
    """A bundle of each small model: of every decoding. See `small_bundles.write_small`."""
    from small_bundles import write_small

    return write_small(tmp_path_factory.mktemp("small"))


@pytest.fixture
def command(tmp_path, monkeypatch) -> Callable[[str, str], None]:
    """Put a command of a board on the PATH: a shell script of that name."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")

    def add(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (folder / name).chmod(0o755)

    return add


@pytest.fixture
def orin(command) -> None:
    """The commands of an AGX Orin with JetPack 6, which answer what was recorded on one; tegrastats at its rate."""
    command("tegrastats", f'while :; do cat "{RECORDED / "agx-orin-jp6-user.tegrastats.txt"}"; sleep 0.04; done')
    command("nvpmodel", "echo 'NV Power Mode: MAXN'; echo 0")
    command("jetson_clocks", "echo 'Error: Run this script(/usr/bin/jetson_clocks) as a root user'; exit 1")


@pytest.fixture
def files(tmp_path) -> Callable[[dict[str, object]], Path]:
    """A root of a file system that holds these files."""

    def make(contents: dict[str, object]) -> Path:
        for name, value in contents.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n", encoding="utf-8")
        return tmp_path / "root"

    return make
