"""Core AI assets: what they hold, compute and refuse. Core AI's runtime works on Linux, so this is the real thing."""

import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("coreai_torch", reason='coreai-torch comes with pip install "edgevl[coreai]"')

from sessions_of import reference as float_session

from edgevl.config import ModelConfig
from edgevl.errors import EdgeVLError, InputError
from edgevl.export.registry import get_exporter
from edgevl.export.to_coreai import write_coreai
from edgevl.formats import read_artifact
from edgevl.models import VqaModel, build_model
from edgevl.models.question_answering import export_program
from edgevl.runtime.session import Arrays, open_session

CONFIG = ModelConfig(
    name="toy", image_size=32, text_length=6, vocab_size=50, num_answers=10, width=32, depth=1, heads=2
)


@pytest.fixture(scope="module")
def model() -> VqaModel:
    torch.manual_seed(0)
    return build_model(CONFIG).eval()


@pytest.fixture(scope="module")
def assets(model: VqaModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("coreai")
    return {name: get_exporter("coreai").export(model, folder / name, name) for name in ("fp32", "fp16")}


def feeds(batch: int = 1) -> Arrays:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (batch, 32, 32, 3), dtype=np.uint8)
    return {"image": image, "input_ids": random.integers(1, 50, (batch, 6), dtype=np.int32)}


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 2e-2)])
def test_it_computes_what_the_model_computes(
    model: VqaModel, assets: dict[str, Path], precision: str, tolerance: float
) -> None:
    session = open_session(assets[precision], "coreai")
    assert list(map(str, session.inputs)) == ["image uint8 [1, 32, 32, 3]", "input_ids int32 [1, 6]"]
    assert list(map(str, session.outputs)) == ["logits float32 [1, 10]"]
    wanted, got = float_session(model).run(feeds())["logits"], session.run(feeds())["logits"]
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(got / scale, wanted / scale, atol=tolerance)
    assert precision == "fp32" or np.abs(got - wanted).max() > 0, "half precision leaves a trace"


@pytest.mark.parametrize(("precision", "dtype", "bits"), [("fp32", "float32", 32), ("fp16", "float16", 16)])
def test_what_is_inside(model: VqaModel, assets: dict[str, Path], precision: str, dtype: str, bits: int) -> None:
    contents = read_artifact(assets[precision], "coreai")
    assert (contents.inputs, contents.outputs) == (
        (("image", (1, 32, 32, 3)), ("input_ids", (1, 6))),
        (("logits", (1, 10)),),
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert contents.weight_bytes[dtype] == pytest.approx(parameters * bits / 8, rel=0.02)
    assert contents.weight_bytes[dtype] > 0.99 * sum(contents.weight_bytes.values())
    assert contents.macs.keys() == {dtype}, "every product is computed in the precision claimed"
    assert contents.op_types["conv2d"] == 13 and contents.op_types["layer_norm"] >= 4
    assert max(contents.weights, key=lambda weight: weight.bytes).shape == (256, 256, 3, 3)
    assert all(weight.used for weight in contents.weights if weight.bytes > 1000)


def test_the_library_counts_the_same_numbers(assets: dict[str, Path]) -> None:
    """Against coreai-core's own summary of the asset."""
    from coreai.authoring import AIModelAsset

    summary = AIModelAsset.load(assets["fp32"]).summary()
    assert summary is not None
    counted = dict(summary.storage_types)["Float32"]
    assert read_artifact(assets["fp32"], "coreai").weight_bytes["float32"] / 4 == pytest.approx(counted, rel=0.01)


def test_half_precision_does_not_touch_the_model(model: VqaModel, tmp_path: Path) -> None:
    program = export_program(model, "raw")
    graph, before = str(program.graph), {name: value.clone() for name, value in model.state_dict().items()}
    write_coreai(program, tmp_path / "model.aimodel", "fp16")
    assert str(program.graph) == graph
    assert all(value.dtype == before[name].dtype for name, value in model.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.dtype != torch.float16 for value in program.state_dict.values())


def test_both_halves_of_a_split_and_a_batch(model: VqaModel, tmp_path: Path) -> None:
    folder = get_exporter("coreai").export(model, tmp_path, layout="split", batch=2)
    given = feeds(2)
    visual = open_session(folder / "vision.aimodel", "coreai").run({"image": given["image"]})["visual"]
    fusion = open_session(folder / "fusion.aimodel", "coreai")
    logits = fusion.run({"visual": visual, "input_ids": given["input_ids"]})["logits"]
    for row in range(2):
        alone = {name: array[row : row + 1] for name, array in given.items()}
        np.testing.assert_allclose(logits[row], float_session(model).run(alone)["logits"][0], atol=1e-4)


def test_the_same_weights_give_the_same_bytes(
    model: VqaModel, assets: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    path = get_exporter("coreai").export(model, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert sorted(file.name for file in path.iterdir()) == ["main.hash", "main.mlirb", "metadata.json"]
    for file in path.iterdir():
        assert file.read_bytes() == (assets["fp32"] / file.name).read_bytes(), file.name


def test_nothing_of_this_machine_is_inside(assets: dict[str, Path]) -> None:
    import timm

    traces = [str(Path(__file__).parents[2]), str(Path(timm.__file__).parents[1]), str(Path.home()), "/tmp", ".py"]
    for file in assets["fp32"].iterdir():
        content = file.read_bytes()
        assert not [trace for trace in traces if trace.encode() in content], file.name
    assert set(json.loads((assets["fp32"] / "metadata.json").read_text(encoding="utf-8"))) == {
        "assetVersion",
        "producer",
    }


@pytest.mark.parametrize("fault", ["cut", "changed", "no hash", "another format"])
def test_a_damaged_asset_is_refused(assets: dict[str, Path], fault: str, tmp_path: Path) -> None:
    """Core AI's own parser ends the process for one that is cut off."""
    path = Path(shutil.copytree(assets["fp32"], tmp_path / "model.aimodel"))
    program = path / "main.mlirb"
    content = program.read_bytes()
    if fault == "cut":
        program.write_bytes(content[:100_000])
    elif fault == "changed":
        program.write_bytes(content[:-1000] + bytes([content[-1000] ^ 1]) + content[-999:])
    elif fault == "no hash":
        (path / "main.hash").unlink()
    else:
        program.write_bytes(b"not bytecode")
        (path / "main.hash").write_bytes(hashlib.sha256(b"not bytecode").digest())
    expected = {"no hash": "holds no main.hash", "another format": "is not MLIR bytecode"}.get(
        fault, "truncated or was"
    )
    with pytest.raises(EdgeVLError, match=expected):
        read_artifact(path, "coreai")
    with pytest.raises(EdgeVLError, match=expected):
        open_session(path, "coreai")


def test_a_session_works_where_a_loop_is_running(assets: dict[str, Path]) -> None:
    """As in a notebook."""

    async def notebook() -> np.ndarray:
        return open_session(assets["fp32"], "coreai").run(feeds())["logits"]

    assert asyncio.run(notebook()).shape == (1, 10)


def test_a_session_ends_with_its_process(assets: dict[str, Path]) -> None:
    code = f"from edgevl.runtime.session import open_session; s = open_session({str(assets['fp32'])!r}, 'coreai')"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, encoding="utf-8")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_wrong_names_are_refused(assets: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match='unknown Core AI precision "w8"'):
        write_coreai(SimpleNamespace(), tmp_path / "x.aimodel", "w8")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match='input "image" is missing'):
        open_session(assets["fp32"], "coreai").run({})
    assert get_exporter("aimodel") is get_exporter("coreai")


def test_what_core_ai_cannot_convert_is_one_line(tmp_path: Path) -> None:
    class Unsupported(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svd(image)[1]

    program = torch.export.export(Unsupported(), (torch.zeros(1, 4, 4),))
    with pytest.raises(EdgeVLError, match=r"Core AI cannot convert it \(.*svd"):
        write_coreai(program, tmp_path / "model.aimodel")
    assert not list(tmp_path.iterdir())
