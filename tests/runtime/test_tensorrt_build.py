"""TensorRT's own parser and builder on what we export, without a GPU: what the parsed network says, what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgevl.apps.jetson import build_engine
from edgevl.config import CONFIGS, ModelConfig
from edgevl.errors import InputError, MissingDependency, VerificationFailed
from edgevl.export.onnx_half import to_half
from edgevl.export.to_onnx import save_onnx, to_onnx
from edgevl.models import build_model
from edgevl.models.question_answering import LAYOUTS, export_program
from edgevl.runtime import tensorrt_build
from edgevl.runtime.tensorrt_build import BuildReport, check_build, precision_problems

trt = pytest.importorskip("tensorrt_rtx", reason='TensorRT for RTX comes with pip install "edgevl[tensorrt]"')
CONFIG = ModelConfig(
    name="toy", backbone="test_resnet", image_size=32, text_length=6, vocab_size=50, num_answers=10, width=32, depth=1,
    heads=2,
)  # fmt: skip
CONVERT: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {"fp32": lambda model: model, "fp16": to_half}
FLOAT_LAYERS = ("NORMALIZATION", "SOFTMAX")  # where half precision breaks a model


@pytest.fixture(scope="module")
def parts() -> dict[str, onnx.ModelProto]:
    """Each part of a model in fp32, of both layouts."""
    torch.manual_seed(0)
    model = build_model(CONFIG)
    return {part: to_onnx(export_program(model, part=part)) for parts in LAYOUTS.values() for part in parts}


def check_precision(report: BuildReport, precision: str) -> None:
    """Products in the precision that is claimed, and what must not be half in float32: the parsed network's word."""
    claimed = {"fp16": "float16", "fp32": "float32"}[precision]
    assert set(report.product_dtypes) == {claimed}, report.types
    for kind in FLOAT_LAYERS:
        assert set(report.types.get(kind, {"float32": 1})) == {"float32"}, report.types
    floats = {dtype: size for dtype, size in report.weight_bytes.items() if dtype.startswith("float")}
    # The rest are the scales and offsets of layer norm, which make a large part of a toy and little of a real model.
    assert floats[claimed] > 0.9 * sum(floats.values())
    assert precision_problems(report, precision) == []
    assert precision_problems(report, "fp32" if precision == "fp16" else "fp16")


@pytest.mark.parametrize("part", ["model", "vision", "fusion"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_parses_and_builds(parts, tmp_path, precision, part):
    path = tmp_path / f"{part}.onnx"
    save_onnx(CONVERT[precision](parts[part]), path)
    report = check_build(path, ("8.6", "12.0"))
    assert (report.artifact, report.package, report.version) == (path.name, "tensorrt_rtx", trt.__version__)
    assert [engine.capability for engine in report.engines] == ["8.6", "12.0"]
    assert all(engine.bytes > 10_000 and engine.seconds > 0 for engine in report.engines)
    assert report.layers <= sum(report.layer_types.values()) == sum(report.output_dtypes.values())
    assert list(tmp_path.iterdir()) == [path], "nothing is left behind"
    check_precision(report, precision)
    kinds = {"model": {"CONVOLUTION", "SOFTMAX"}, "vision": {"CONVOLUTION"}, "fusion": {"SOFTMAX"}}
    assert kinds[part] | {"NORMALIZATION"} <= report.types.keys()


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n == "base" else ()) for n in CONFIGS])
def test_every_model_config_parses_and_builds(name, tmp_path):
    """fp32 and fp16, random weights. `base` takes as long as the others together and has no operator of its own."""
    torch.manual_seed(0)
    model, sizes = to_onnx(export_program(build_model(CONFIGS[name]))), {}
    for precision, convert in CONVERT.items():
        path = tmp_path / "model.onnx"
        save_onnx(convert(model), path)
        report = check_build(path, ("8.6",))
        sizes[precision] = report.engines[0].bytes
        check_precision(report, precision)
        path.unlink()  # base has 361 MB
    assert sizes["fp16"] < 0.7 * sizes["fp32"]


def save(nodes: list[Any], path: Path, shape: list[int], dtype: int = TensorProto.FLOAT, weight: Any = None) -> Path:
    """A file from `x` to `y`, both of this shape, with the weight `w`."""
    values = [helper.make_tensor_value_info(name, kind, shape) for name, kind in (("x", dtype), ("y", 1))]
    weights = [] if weight is None else [numpy_helper.from_array(weight, "w")]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:], weights)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def unknown_operator(path: Path) -> Path:
    return save([helper.make_node("Frobnicate", ["x"], ["y"], "the_frob", domain="com.example")], path, [1, 3])


def uint8_transpose(path: Path) -> Path:
    nodes = [helper.make_node("Transpose", ["x"], ["t"], "the_transpose"), helper.make_node("Cast", ["t"], ["y"], to=1)]
    return save(nodes, path, [3, 3], TensorProto.UINT8)


def mixed_types(path: Path) -> Path:
    return save([helper.make_node("Add", ["x", "w"], ["y"], "the_add")], path, [1, 3], weight=np.ones(3, np.float16))


def unknown_value(path: Path) -> Path:
    return save([helper.make_node("Add", ["x", "nowhere"], ["y"], "the_add")], path, [1, 3])


def cut_off(path: Path) -> Path:
    mixed_types(path)
    path.write_bytes(path.read_bytes()[:-20])
    return path


def no_onnx(path: Path) -> Path:
    path.write_bytes(b"hello world" * 10)
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


BROKEN: dict[Callable[[Path], Path], str] = {
    unknown_operator: "TensorRT's parser refuses model.onnx: node the_frob (Frobnicate): ",
    uint8_transpose: "node the_transpose (Transpose): ITensor::getDimensions: Error Code 4: API Usage Error "
    "(the_transpose: first input has type UInt8",
    mixed_types: "node the_add (Add): ITensor::getDimensions: Error Code 4: API Usage Error (the_add: "
    "ElementWiseOperation SUM must have same input types. But they are of types Float and Half.",
    unknown_value: "node the_add (Add): Assertion failed: (ctx->tensors().count(inputName)): Node input was not",
    cut_off: "Failed to parse the ONNX model.",
    no_onnx: "model.onnx holds no network: it is truncated or not ONNX",
    empty: "model.onnx holds no network: it is truncated or not ONNX",
}


@pytest.mark.parametrize("make", BROKEN, ids=[make.__name__ for make in BROKEN])  # pyright: ignore[reportFunctionMemberAccess]
def test_a_broken_file_is_refused_with_the_parsers_words(tmp_path, capfd, make: Callable[[Path], Path]):
    with pytest.raises(VerificationFailed) as caught:
        check_build(make(tmp_path / "model.onnx"))
    message = str(caught.value)
    assert BROKEN[make] in message
    assert "\n" not in message and "driver version" not in message, "that there is no GPU is beside the point"
    assert capfd.readouterr() == ("", "")


def test_a_crash_of_tensorrt_is_a_finding(tmp_path, capfd):
    """tensorrt-rtx 1.7.1 dies of a long Reshape target that is no integer; found with mutated files."""
    node = helper.make_node("Reshape", ["x", "w"], ["y"], "the_reshape")
    path = save([node], tmp_path / "model.onnx", [1, 192], weight=np.ones(192, np.float16))
    with pytest.raises(VerificationFailed, match=r"crashed over model.onnx \(SIGSEGV\)|refuses model.onnx"):
        check_build(path)
    assert capfd.readouterr() == ("", "")


def test_what_the_script_may_end_with():
    crashed = tensorrt_build._failure("model.onnx", -11, "")
    assert isinstance(crashed, VerificationFailed) and "crashed over model.onnx (SIGSEGV)" in str(crashed)
    missing = tensorrt_build._failure("model.onnx", build_engine.MISSING, "error: tensorrt_rtx cannot be imported: x\n")
    assert isinstance(missing, MissingDependency) and 'pip install "edgevl[tensorrt]"' in str(missing)
    noisy = tensorrt_build._failure("model.onnx", build_engine.REFUSED, "noise\nerror: node a (B): c\nnoise\n")
    assert isinstance(noisy, VerificationFailed) and str(noisy) == "node a (B): c"
    assert tensorrt_build._failure("model.onnx", 1, "").exit_code == 1


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.onnx is not an ONNX file"):
        check_build(tmp_path / "nothing.onnx")
    with pytest.raises(InputError, match=r"does not build for 8\.7; it knows 7\.5"):
        check_build(mixed_types(tmp_path / "model.onnx"), ("8.7",))


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorrt_build, "PACKAGE", "no_such_package")
    with pytest.raises(MissingDependency, match=r"no_such_package.*edgevl\[tensorrt\]"):
        check_build(mixed_types(tmp_path / "model.onnx"))


def test_a_few_products_in_another_precision_are_a_problem():
    values: dict[str, Any] = {"artifact": "model.onnx", "package": "x", "version": "1", "layers": 3, "engines": ()}
    types = {"CONVOLUTION": {"float16": 8}, "MATRIX_MULTIPLY": {"float32": 2}, "SOFTMAX": {"float32": 9}}
    (problem,) = precision_problems(BuildReport(**values, types=types, weight_bytes={}), "fp16")
    assert "model.onnx claims fp16" in problem and "10 convolutions" in problem and "2 in float32" in problem
    types["MATRIX_MULTIPLY"] = {"float16": 2}
    assert precision_problems(BuildReport(**values, types=types, weight_bytes={}), "fp16") == []
