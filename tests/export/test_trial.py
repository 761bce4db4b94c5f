"""`export` ends with one run of what it wrote: an artifact that does not run, or answers nonsense, is not kept."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevl.bundle_export import export_bundle
from edgevl.cli import main
from edgevl.export.registry import exporters, get_exporter


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[Path], None]], None]:
    """A function that plants a fault: what the target's exporter wrote is changed by another function."""

    def plant(target: str, change: Callable[[Path], None]) -> None:
        sound = get_exporter(target)

        def write(program: Any, path: Path, precision: str, **options: str) -> None:
            sound.write(program, path, precision, **options)
            change(path)

        monkeypatch.setitem(exporters._items, target, dataclasses.replace(sound, write=write))

    return plant


def scramble(path: Path) -> None:
    """Turn around the weight of the answer head: a file that loads, runs, and is wrong."""
    import onnx

    model = onnx.load(path)
    head = next(tensor for tensor in model.graph.initializer if "head" in tensor.name and len(tensor.dims) == 2)
    head.CopyFrom(onnx.numpy_helper.from_array(np.flip(onnx.numpy_helper.to_array(head)).copy(), head.name))
    onnx.save(model, path)


def overflow(path: Path) -> None:
    """Make one weight infinite, as half precision would."""
    import onnx

    model = onnx.load(path)
    head = next(tensor for tensor in model.graph.initializer if "head" in tensor.name and len(tensor.dims) == 2)
    head.CopyFrom(onnx.numpy_helper.from_array(np.full(head.dims, np.inf, np.float32), head.name))
    onnx.save(model, path)


def misread(path: Path) -> None:
    """Look words up beyond the end of their table: it is found only when it runs."""
    import onnx

    model = onnx.load(path)
    lookup = next(node for node in model.graph.node if node.op_type == "Gather" and "input_ids" in node.input)
    beyond = onnx.numpy_helper.from_array(np.array(10**6, np.int32), "beyond")
    model.graph.initializer.append(beyond)
    model.graph.node.insert(0, onnx.helper.make_node("Add", ["input_ids", "beyond"], ["strange_ids"], name="strange"))
    lookup.input[list(lookup.input).index("input_ids")] = "strange_ids"
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (scramble, "answers nonsense: on one sample logits differs by"),
        (overflow, "answers nonsense: the artifact gives scores that are not finite"),
        (misread, "does not run here: "),
    ],
)
@pytest.mark.parametrize("layout", ["single", "split"])
def test_a_fault_is_found_and_nothing_is_written(
    fault, said: str, layout: str, faulty, tiny_model: Path, tmp_path: Path, capsys
):
    faulty("onnx", fault if layout == "single" else lambda path: fault(path) if path.stem == "fusion" else None)
    assert main(["export", str(tiny_model), "--layout", layout, "--out", str(tmp_path / "x.edgevl")]) == 4
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "nothing was written: tiny-test was converted for onnx fp32, but it " + said in line
    assert "Try another target (coreai, coreml, executorch, litert, tensorrt)" in line and str(tmp_path) not in line
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_is_replaced_stays_when_the_new_one_does_not_run(faulty, tiny_model: Path, tmp_path: Path):
    bundle = export_bundle(tiny_model, out=tmp_path / "x.edgevl")
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    faulty("onnx", misread)
    assert main(["export", str(tiny_model), "--out", str(bundle), "--force"]) == 4
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before


def test_several_samples_a_run_are_tried_too(faulty, tiny_model: Path, tmp_path: Path):
    export_bundle(tiny_model, out=tmp_path / "sound.edgevl", batch=3)
    faulty("onnx", scramble)
    assert main(["export", str(tiny_model), "--batch", "3", "--out", str(tmp_path / "x.edgevl")]) == 4


def test_what_cannot_run_here_is_written(tiny_model: Path, tmp_path: Path):
    """A program for Core ML's delegate runs on Apple's systems only."""
    pytest.importorskip("executorch")
    import sys

    if sys.platform == "darwin":
        pytest.skip("it runs here")
    options = {"delegate": "coreml"}
    assert export_bundle(tiny_model, "executorch", out=tmp_path / "x.edgevl", options=options).is_dir()


def test_a_model_that_overflows_is_refused_before_it_is_converted(faulty, tiny_model: Path, tmp_path: Path, capsys):
    """Every weight is finite, and no answer is."""
    import shutil

    from safetensors.torch import load_file, save_file

    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    weights = load_file(model / "model.safetensors")
    for name in ("core.vision.project.weight", "core.vision.norm.weight", "core.vision.position", "head.3.weight"):
        weights[name] = (weights[name].sign() * 6e4).float()
    for name in [name for name in weights if name.startswith("core.fusion") and weights[name].ndim == 2]:
        weights[name] = weights[name].sign().float() * 1e30
    save_file(weights, model / "model.safetensors")
    faulty("onnx", lambda path: pytest.fail("it was converted"))
    assert main(["export", str(model), "--out", str(tmp_path / "x.edgevl")]) == 2
    assert "answers with values that are not finite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_precision_that_the_weights_are_not_in_is_refused(tiny_model: Path, tmp_path: Path, capsys, monkeypatch):
    """So was NFNet's w8, whose filters no quantizer found: `verify` refused what `export` had written."""
    sound = get_exporter("onnx")
    wide = dataclasses.replace(
        sound, write=lambda program, path, precision, **options: sound.write(program, path, "fp32")
    )
    monkeypatch.setitem(exporters._items, "onnx", wide)
    assert main(["export", str(tiny_model), "--precision", "w8", "--out", str(tmp_path / "x.edgevl")]) == 4
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "is not what that says: model.onnx claims w8, but only 0.0% of its weight bytes are quantized" in line
    assert line.endswith("Try another precision (fp32, fp16, w8a8)") and list(tmp_path.iterdir()) == []
