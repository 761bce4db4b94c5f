"""What a program shows to an app: images in and out, several functions, optional inputs, labels, casts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import coremltools, save_mil  # pyright: ignore[reportMissingImports]

from edgevl.errors import InputError
from edgevl.runtime import open_session
from edgevl.runtime.coreml_quiet import quiet_coremltools
from edgevl.runtime.coreml_reference import MLProgram

RNG = np.random.default_rng(41)


def convert(path: Path, module: torch.nn.Module, example: Any, target: str = "iOS16", **options: Any) -> Path:
    """Trace, convert in float32 and save."""
    ct = coremltools()
    with quiet_coremltools(), torch.no_grad():
        ct.convert(
            torch.jit.trace(module.eval(), example, check_trace=False),
            minimum_deployment_target=getattr(ct.target, target),
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
            **options,
        ).save(str(path))
    return path


class Shifted(torch.nn.Module):
    """Values below 0, above 255, between two whole numbers, and in the middle of two."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * 1.5 - 60.0


@pytest.mark.parametrize("color", ["RGB", "BGR", "GRAYSCALE", "GRAYSCALE_FLOAT16"])
def test_an_image_output_comes_as_pixels(tmp_path: Path, color: str) -> None:
    """Rounded to the nearest, ties to even, and kept in 0..255; half-precision gray is not rounded."""
    ct, channels = coremltools(), 3 if color in ("RGB", "BGR") else 1
    layout = getattr(ct.colorlayout, color)
    path = convert(
        tmp_path / "image.mlpackage",
        Shifted(),
        torch.zeros(1, channels, 4, 6),
        inputs=[ct.ImageType(name="image", shape=(1, channels, 4, 6), color_layout=layout)],
        outputs=[ct.ImageType(name="y", color_layout=layout)],
    )
    program = MLProgram.load(path)
    half = color.endswith("FLOAT16")
    dtype = "float16" if half else "uint8"
    assert [str(spec) for spec in (*program.inputs, *program.outputs)] == [
        f"image {dtype} [1, 4, 6, {channels}]",
        f"y {dtype} [1, 4, 6, {channels}]",
    ]
    pixels = np.linspace(0, 255, 24 * channels).round().reshape(1, 4, 6, channels).astype(dtype)
    got = program.predict({"image": pixels})["y"]
    exact = pixels.astype(np.float32) * 1.5 - 60.0
    assert got.dtype == dtype and exact.min() < 0 and exact.max() > 255
    np.testing.assert_array_equal(got, exact.astype(np.float16) if half else np.rint(exact).clip(0, 255))


def test_the_session_gives_the_same_pixels(tmp_path: Path) -> None:
    ct = coremltools()
    path = convert(
        tmp_path / "image.mlpackage",
        Shifted(),
        torch.zeros(1, 3, 4, 6),
        inputs=[ct.ImageType(name="image", shape=(1, 3, 4, 6))],
        outputs=[ct.ImageType(name="y")],
    )
    pixels, session = RNG.integers(0, 256, (1, 4, 6, 3), dtype=np.uint8), open_session(path, "coreml")
    assert [str(spec) for spec in session.outputs] == ["y uint8 [1, 4, 6, 3]"]
    np.testing.assert_array_equal(
        session.run({"image": pixels})["y"], MLProgram.load(path).predict({"image": pixels})["y"]
    )


def test_functions_have_inputs_of_their_own(tmp_path: Path) -> None:
    """Two functions with BGR images of different sizes: what the description says lies in each function's part."""
    ct, weights = coremltools(), {}
    both = ct.utils.MultiFunctionDescriptor()
    for name, side in (("first", 5), ("second", 7)):
        module = torch.nn.Conv2d(3, 2, 1)
        weights[name] = module
        path = convert(
            tmp_path / f"{name}.mlpackage",
            module,
            torch.rand(1, 3, 4, side),
            target="iOS18",
            inputs=[ct.ImageType(name="image", shape=(1, 3, 4, side), color_layout=ct.colorlayout.BGR)],
            outputs=[ct.TensorType(name="y", dtype=np.float32)],
        )
        both.add_function(str(path), "main", name)
    both.default_function_name = "second"
    with quiet_coremltools():
        ct.utils.save_multifunction(both, str(tmp_path / "both.mlpackage"))
    for function, name, side in (("first", "first", 5), ("second", "second", 7), (None, "second", 7)):
        program = MLProgram.load(tmp_path / "both.mlpackage", function=function)
        assert program.function == name and str(program.inputs[0]) == f"image uint8 [1, 4, {side}, 3]"
        pixels = RNG.integers(0, 256, (1, 4, side, 3), dtype=np.uint8)
        planes = torch.tensor(pixels[..., ::-1].copy()).permute(0, 3, 1, 2).float()
        expected = weights[name](planes).detach().numpy()
        np.testing.assert_allclose(program.predict({"image": pixels})["y"], expected, rtol=1e-4, atol=1e-4)
    assert str(open_session(tmp_path / "both.mlpackage", "coreml").inputs[0]) == "image uint8 [1, 4, 7, 3]"


class Plus(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + 2 * y


def test_an_optional_input_has_its_default(tmp_path: Path) -> None:
    ct, zeros = coremltools(), torch.zeros(2, 3)
    path = convert(
        tmp_path / "optional.mlpackage",
        Plus(),
        (zeros, zeros),
        inputs=[
            ct.TensorType(name="x", shape=(2, 3), default_value=np.full((2, 3), 3.0, np.float32)),
            ct.TensorType(name="y", shape=(2, 3)),
        ],
        outputs=[ct.TensorType(name="z")],
    )
    program, y = MLProgram.load(path), np.ones((2, 3), np.float32)
    assert str(program.inputs[0]) == "x float32 [2, 3] (optional, 3)"
    np.testing.assert_array_equal(program.predict({"y": y})["z"], np.full((2, 3), 5.0))
    np.testing.assert_array_equal(program.predict({"x": y, "y": y})["z"], np.full((2, 3), 3.0))
    with pytest.raises(InputError, match='input "y" is missing'):
        program.predict({"x": y})


@pytest.mark.parametrize("labels", [["cat", "dog", "fée"], [3, 5, 900]], ids=["words", "numbers"])
def test_a_classifier_gives_label_and_probabilities(tmp_path: Path, labels: list) -> None:
    ct = coremltools()
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(-1))
    path = convert(
        tmp_path / "classifier.mlpackage",
        model,
        torch.zeros(1, 4),
        inputs=[ct.TensorType(name="x", shape=(1, 4))],
        classifier_config=ct.ClassifierConfig(labels, predicted_feature_name="top"),
    )
    program = MLProgram.load(path)
    assert [str(spec) for spec in program.outputs] == ["top label []", "top_probs dict []"]
    assert program.op_types["classify"] == 1
    seen = set()
    for seed in range(12):
        x = 4 * np.random.default_rng(seed).standard_normal((1, 4)).astype(np.float32)
        outputs, expected = program.predict({"x": x}), model(torch.tensor(x)).flatten().tolist()
        assert outputs["top"] == labels[int(np.argmax(expected))] and type(outputs["top"]) is type(labels[0])
        assert list(outputs["top_probs"]) == labels
        np.testing.assert_allclose(list(outputs["top_probs"].values()), expected, rtol=1e-5)
        seen.add(outputs["top"])
    assert len(seen) > 1 and program.find_fault({"x": x}) is None
    with pytest.raises(InputError, match='"top" is no array but a label'):
        open_session(path, "coreml")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> MLProgram:
    path = tmp_path_factory.mktemp("plain") / "plain.mlpackage"
    inputs = {"x": np.ones((2, 3), np.float32), "ids": np.ones((2, 3), np.int32)}
    save_mil(path, lambda mb, x, ids: mb.add(x=x, y=mb.cast(x=ids, dtype="fp32"), name="y"), inputs)
    return MLProgram.load(path)


X, IDS = RNG.standard_normal((2, 3)).astype(np.float32), RNG.integers(0, 9, (2, 3)).astype(np.int32)


@pytest.mark.parametrize(
    ("x", "ids"),
    [
        (torch.tensor(X), torch.tensor(IDS)),
        (torch.tensor(X, requires_grad=True), torch.tensor(IDS).long()),
        (X.astype(np.float16), IDS.astype(np.int64)),
        (torch.tensor(X).bfloat16(), IDS.astype(np.uint8)),
        (X[::-1, ::-1], IDS[::-1]),
        (np.asfortranarray(X), IDS.astype(">i4")),
    ],
    ids=["tensors", "with a gradient, int64", "half, int64", "bfloat16, uint8", "negative strides", "byte order"],
)
def test_what_loses_nothing_is_taken(plain: MLProgram, x: Any, ids: Any) -> None:
    as_float = x.detach().float().numpy() if isinstance(x, torch.Tensor) else x.astype(np.float32)
    expected = as_float + np.asarray(ids).astype(np.float32)
    np.testing.assert_array_equal(plain.predict({"x": x, "ids": ids})["y"], expected)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"x": X.astype(np.float64)}, "has dtype float64"),
        ({"ids": np.full((2, 3), 2**40)}, "has dtype int64"),
        ({"ids": IDS.astype(np.float32)}, "has dtype float32"),
        ({"ids": np.full((2, 3), -1, np.int64).astype(np.uint64)}, "has dtype uint64"),
        ({"x": X + 1j}, "has dtype complex64"),
        ({"x": np.array([["a"] * 3] * 2)}, "has dtype <U1"),
        ({"x": X.astype(object)}, "has dtype object"),
        ({"x": 3.0}, "is a float, not a NumPy array"),
        ({"x": None}, "is a NoneType"),
        ({"x": torch.tensor(X).T}, r"has shape \[3, 2\]"),
    ],
)
def test_what_would_lose_something_is_refused(plain: MLProgram, change: dict, problem: str) -> None:
    with pytest.raises(InputError, match=problem + r".*; expected x float32 \[2, 3\], ids int32 \[2, 3\]"):
        plain.predict({"x": X, "ids": IDS, **change})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "model.mlmodelc",
            "folder",
            "is a compiled model (.mlmodelc), which only Core ML can read: give the .mlpackage",
        ),
        ("compiled", "coremldata.bin", "is a compiled model"),
        ("model.mlmodel", "file", "is a single .mlmodel file, not an .mlpackage folder"),
        ("model.zip", "file", "is not an .mlpackage folder; unpack an archive first"),
        ("nothing.mlpackage", "", "does not exist"),
    ],
)
def test_other_kinds_of_files_are_named(tmp_path: Path, name: str, content: str, words: str) -> None:
    path = tmp_path / name
    if content == "file":
        path.write_bytes(b"x")
    elif content:
        path.mkdir()
        (path / "coremldata.bin").write_bytes(b"x")
    with pytest.raises(InputError) as caught:
        MLProgram.load(path)
    assert words in str(caught.value) and str(path) in str(caught.value)
