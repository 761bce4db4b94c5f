"""The Core ML reference executor as a whole: loading, damage, precision modes, image inputs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mil_programs import coremltools, save_mil  # pyright: ignore[reportMissingImports]

from edgevl.errors import EdgeVLError, InputError
from edgevl.formats.coreml_contents import read_coreml
from edgevl.runtime.coreml_quiet import quiet_coremltools
from edgevl.runtime.coreml_reference import MLProgram, UnsupportedOp

RNG = np.random.default_rng(11)
WEIGHT = RNG.standard_normal((16, 64)).astype(np.float32)
X = RNG.standard_normal((2, 64)).astype(np.float32)


def network(mb, x):
    return mb.relu(x=mb.linear(x=x, weight=WEIGHT, bias=np.zeros(16, np.float32)), name="answer")


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("package") / "model.mlpackage"
    save_mil(path, network, {"x": X})
    return path


@pytest.fixture
def copied(package: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(package, tmp_path / "model.mlpackage"))


def weight_file(package: Path) -> Path:
    return package / "Data/com.apple.CoreML/weights/weight.bin"


def test_predicts_what_torch_says(package: Path) -> None:
    program = MLProgram.load(package, precision="fp32")
    expected = torch.relu(torch.tensor(X) @ torch.tensor(WEIGHT).T)
    np.testing.assert_allclose(program.predict({"x": X})["answer"], expected.numpy(), rtol=1e-5, atol=1e-5)
    assert [str(spec) for spec in program.inputs] == ["x float32 [2, 64]"]
    assert [str(spec) for spec in program.outputs] == ["answer float32 [2, 16]"]
    assert program.op_types == {"linear": 1, "relu": 1}


def test_weights_come_from_the_saved_file(copied: Path) -> None:
    before = MLProgram.load(copied).predict({"x": X})["answer"]
    data = bytearray(weight_file(copied).read_bytes())
    data[1024:3072] = bytes(2048)  # zeros over half of the weight matrix
    weight_file(copied).write_bytes(data)
    after = MLProgram.load(copied).predict({"x": X})["answer"]
    assert np.abs(before - after).max() > 0.1


def test_wrong_feeds_say_what_is_expected(package: Path) -> None:
    program = MLProgram.load(package)
    for feeds in ({}, {"x": X[:1]}, {"x": X.astype(np.float64)}, {"x": X, "y": X}, {"x": X.tolist()}):
        with pytest.raises(InputError, match=r"expected x float32 \[2, 64\]"):
            program.predict(feeds)


def test_outputs_are_copies(package: Path) -> None:
    program = MLProgram.load(package)
    first = program.predict({"x": X})["answer"]
    kept = first.copy()
    first[:] = -1
    np.testing.assert_array_equal(program.predict({"x": X})["answer"], kept)


@pytest.mark.parametrize("size", [0, 40, 64, 1000, 2000])
def test_truncated_weights_are_refused(copied: Path, size: int) -> None:
    weight_file(copied).write_bytes(weight_file(copied).read_bytes()[:size])
    with pytest.raises(EdgeVLError, match=r"weight\.bin is missing or truncated"):
        MLProgram.load(copied)


def test_a_missing_weight_file_is_refused(copied: Path) -> None:
    weight_file(copied).unlink()
    with pytest.raises(EdgeVLError, match=r"weight\.bin is missing or truncated"):
        MLProgram.load(copied)


@pytest.mark.parametrize("place", [b"@model_path/weights/../secret", b"@model_path/other/x", b"/etc/passwd"])
def test_weights_lie_in_the_package(copied: Path, place: bytes) -> None:
    """Core ML follows the reference as written; a reader that took only the last part would judge another file."""
    model, usual = copied / "Data/com.apple.CoreML/model.mlmodel", b"@model_path/weights/weight.bin"
    model.write_bytes(model.read_bytes().replace(usual, place.ljust(len(usual), b"x")))  # lengths stand around it
    with pytest.raises(EdgeVLError, match="is said to lie in"):
        MLProgram.load(copied)
    with pytest.raises(EdgeVLError, match="is said to lie in"):
        read_coreml(copied)


def test_damaged_packages_are_refused(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not an \.mlpackage folder"):
        MLProgram.load(tmp_path / "nothing.mlpackage")
    with pytest.raises(EdgeVLError, match=r"no Manifest\.json"):
        MLProgram.load(tmp_path)
    model = copied / "Data/com.apple.CoreML/model.mlmodel"
    content = model.read_bytes()
    model.write_bytes(content[: len(content) // 2])
    with pytest.raises(EdgeVLError):
        MLProgram.load(copied)
    model.write_bytes(b"\xff" * 64)
    with pytest.raises(EdgeVLError, match="not a Core ML model"):
        MLProgram.load(copied)
    model.unlink()
    with pytest.raises(EdgeVLError, match="truncated"):
        MLProgram.load(copied)
    (copied / "Manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(EdgeVLError, match="damaged"):
        MLProgram.load(copied)


def test_a_manifest_may_not_point_outside(copied: Path) -> None:
    manifest = json.loads((copied / "Manifest.json").read_text(encoding="utf-8"))
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = "../../../other/model.mlmodel"
    (copied / "Manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(EdgeVLError, match="outside its own folder"):
        MLProgram.load(copied)


def test_unknown_names_are_listed(package: Path) -> None:
    with pytest.raises(InputError, match="fp16, fp32"):
        MLProgram.load(package, precision="fp64")
    with pytest.raises(InputError, match="Known: main"):
        MLProgram.load(package, function="mian")


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    path = tmp_path / "strange.mlpackage"
    save_mil(
        path,
        lambda mb, x: mb.add(x=x, y=mb.random_uniform(shape=[2, 3], low=0.0, high=1.0, seed=1, name="noise")),
        {"x": np.zeros((2, 3), np.float32)},
    )
    with pytest.raises(UnsupportedOp, match=r'strange\.mlpackage: operator "random_uniform" with output "noise"'):
        MLProgram.load(path)


def test_fp16_mode_rounds_every_stored_value(tmp_path: Path) -> None:
    """2049 does not exist in half precision; 2048 does. A float32 program is never rounded."""
    path = tmp_path / "half.mlpackage"
    x = np.array([[2048.0]], np.float32)
    save_mil(path, lambda mb, x: mb.sub(x=mb.add(x=x, y=1.0), y=2048.0, name="y"), {"x": x}, precision="fp16")
    assert MLProgram.load(path, precision="fp16").predict({"x": x})["y"] == 0.0
    assert MLProgram.load(path, precision="fp32").predict({"x": x})["y"] == 1.0
    save_mil(path, lambda mb, x: mb.sub(x=mb.add(x=x, y=1.0), y=2048.0, name="y"), {"x": x}, precision="fp32")
    assert MLProgram.load(path, precision="fp16").predict({"x": x})["y"] == 1.0


def test_fp16_mode_accumulates_in_float32(tmp_path: Path) -> None:
    """A mean over values whose sum, 400 x 300, is beyond half precision's 65504 must not overflow."""
    path = tmp_path / "mean.mlpackage"
    x = np.full((1, 400), 300.0, np.float32)
    save_mil(path, lambda mb, x: mb.reduce_mean(x=x, axes=[1], name="y"), {"x": x}, precision="fp16")
    assert MLProgram.load(path).predict({"x": x})["y"] == 300.0


def test_overflows_name_their_cause(tmp_path: Path) -> None:
    path = tmp_path / "overflow.mlpackage"
    x = np.full((1, 4), 300.0, np.float32)

    def build(mb, x):
        return mb.sqrt(x=mb.square(x=x, name="energy"), name="y")

    save_mil(path, build, {"x": x}, precision="fp16")
    assert MLProgram.load(path, precision="fp16").overflows({"x": x})[0].startswith("square energy")
    assert MLProgram.load(path, precision="fp32").overflows({"x": x}) == []


@pytest.mark.parametrize("color", ["RGB", "BGR", "GRAYSCALE"])
def test_image_inputs_take_pixels(tmp_path: Path, color: str) -> None:
    ct = coremltools()
    channels = 1 if color == "GRAYSCALE" else 3

    class Identity(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image * 1.5

    program = torch.export.export(Identity(), (torch.zeros(1, channels, 4, 6),))
    layout = getattr(ct.colorlayout, color)
    with quiet_coremltools():
        model = ct.convert(
            program.run_decompositions({}),
            inputs=[ct.ImageType(name="image", shape=(1, channels, 4, 6), color_layout=layout, scale=2.0)],
            outputs=[ct.TensorType(name="y", dtype=np.float32)],
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        )
        model.save(str(tmp_path / "image.mlpackage"))
    pixels = RNG.integers(0, 256, (1, 4, 6, channels), dtype=np.uint8)
    loaded = MLProgram.load(tmp_path / "image.mlpackage")
    assert str(loaded.inputs[0]) == f"image uint8 [1, 4, 6, {channels}]"
    expected = 3.0 * pixels.transpose(0, 3, 1, 2).astype(np.float32)
    expected = expected[:, ::-1] if color == "BGR" else expected
    np.testing.assert_array_equal(loaded.predict({"image": pixels})["y"], expected)
