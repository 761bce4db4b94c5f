"""The two bundles of the tiny random model, exported once; tests tamper with copies."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forked import BOARD, Forked, board_line
from older_bundles import as_schema_1

from edgevl.bundle.folder import Bundle, list_files

TARGETS = ("onnx", "coreml")


@pytest.fixture(scope="session")
def exported(tiny_model) -> dict[str, Path]:
    """The bundle of each target, beside the checkpoint, so that verify finds it."""
    from edgevl.bundle_export import export_bundle

    folder = tiny_model.parent
    return {target: export_bundle(tiny_model, target, out=folder / f"{target}.edgevl") for target in TARGETS}


@pytest.fixture(scope="session")
def bundles(exported, tiny_model) -> dict[str, Path]:
    """The bundle of each target, one of two programs, and one for TensorRT, which holds a script."""
    from edgevl.bundle_export import export_bundle

    folder = tiny_model.parent
    split = export_bundle(tiny_model, "onnx", out=folder / "split.edgevl", layout="split")
    tensorrt = export_bundle(tiny_model, "tensorrt", out=folder / "tensorrt.edgevl", precision="fp32")
    return {**exported, "split": split, "tensorrt": tensorrt}


@pytest.fixture(scope="session")
def forked(bundles, tiny_model, tmp_path_factory) -> Iterator[Forked]:
    """A warm process that forks for each case. In its folder lie `photo.png`, the checkpoint, and good bundles."""
    place = furnish(tmp_path_factory.mktemp("forked"), bundles, tiny_model)
    server = Forked(place, warming(bundles))
    yield server
    server.close()


@pytest.fixture(scope="session")
def board(forked) -> Iterator[Forked]:
    """The same for the script of apps/jetson, in the same folder."""
    server = Forked(forked.place, [board_line("good/onnx.edgevl"), board_line("good/split.edgevl")], entry=BOARD)
    yield server
    server.close()


def furnish(place: Path, bundles: dict[str, Path], model: Path) -> Path:
    """Fill the working folder of a `Forked`: bundles of schema 1, and two of schema 2, `onnx2` and `split2`."""
    shutil.copytree(model, place / model.name)
    shutil.copy(bundles["onnx"] / "golden" / "wide.png", place / "photo.png")
    for name, path in bundles.items():
        as_schema_1(Path(shutil.copytree(path, place / "good" / f"{name}.edgevl")))
        shutil.copytree(path, place / f"warm-{name}.edgevl")
    for name in ("onnx", "split"):
        shutil.copytree(bundles[name], place / "good" / f"{name}2.edgevl")
    return place


def warming(bundles: dict[str, Path]) -> list[list[str]]:
    """What makes every later command quick: each on each good bundle, the samples drawn, the reference run."""
    warmed = (name for name in bundles if name != "tensorrt")  # whose verify builds engines
    return [line for name in warmed for line in three_commands(f"warm-{name}.edgevl")]


def three_commands(bundle: str) -> list[list[str]]:
    return [
        ["verify", bundle, "--samples", "4", "--json"],
        ["inspect", bundle, "--json"],
        ["predict", bundle, "photo.png", "what is it?", "--json"],
    ]


@pytest.fixture
def fresh(exported, tiny_model, tmp_path) -> Callable[[str], Path]:
    """`fresh("onnx")` is a copy to tamper with; its checkpoint lies beside it."""
    shutil.copytree(tiny_model, tmp_path / tiny_model.name)
    return lambda target: Path(shutil.copytree(exported[target], tmp_path / exported[target].name))


def edit_manifest(bundle: Path, change: Callable[[dict], object]) -> None:
    """Change manifest.json as a forger would: `change` gets its parsed content."""
    path = bundle / "manifest.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def claim_precision(bundle: Path, precision: str) -> None:
    """Let the manifest say that the bundle, and each of its programs, is of another precision."""
    edit_manifest(bundle, lambda values: [part.update(precision=precision) for part in (values, *values["programs"])])


def forge_digests(bundle: Path) -> None:
    """Make the manifest agree with whatever the files now are."""
    files = {name: entry.model_dump() for name, entry in list_files(bundle).items()}
    edit_manifest(bundle, lambda values: values.update(files=files))
    Bundle.open(bundle)


WEIGHTS = {"onnx": "model.onnx", "coreml": "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"}


@pytest.fixture(scope="session")
def tools():
    """The forger's tools."""

    class Tools:
        furnish = staticmethod(furnish)
        warming = staticmethod(warming)
        three_commands = staticmethod(three_commands)
        edit = staticmethod(edit_manifest)
        claim = staticmethod(claim_precision)
        forge = staticmethod(forge_digests)
        weights = WEIGHTS

    return Tools
