"""ONNX in fp16 and w8: what is inside, that it is strongly typed, and what it computes."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgevl.config import ModelConfig
from edgevl.errors import InputError
from edgevl.export.onnx_half import KEEP_FLOAT, to_half
from edgevl.export.onnx_weights import SMALLEST, quantize_channels, quantize_weights
from edgevl.export.to_onnx import to_onnx, write_onnx
from edgevl.models import build_model
from edgevl.models.question_answering import export_program

CONFIG = ModelConfig(
    name="toy", image_size=32, text_length=6, vocab_size=50, num_answers=10, width=32, depth=1, heads=2
)


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    torch.manual_seed(0)
    return export_program(build_model(CONFIG))


@pytest.fixture(scope="module")
def float_model(program) -> onnx.ModelProto:
    return to_onnx(program)


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """As the file says: by default ONNX Runtime also rounds the activations of DequantizeLinear + MatMul to int8."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return ort.InferenceSession(model.SerializeToString(), options).run(None, feeds)  # pyright: ignore[reportReturnType]


def feeds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 50, (1, 6)).astype(np.int32)
    return {"image": rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8), "input_ids": ids}


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {tensor.name: tensor.data_type for tensor in inferred.initializer}
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    return types | {value.name: value.type.tensor_type.elem_type for value in values}


def test_half_computes_the_same_and_keeps_the_interface(float_model):
    half = to_half(float_model)
    onnx.checker.check_model(half, full_check=True)
    assert [value.SerializeToString() for value in half.graph.input] == [
        value.SerializeToString() for value in float_model.graph.input
    ]
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    (expected,), (got,) = run(float_model, feeds()), run(half, feeds())
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=2e-2)
    assert not np.array_equal(got, expected), "nothing was rounded"


def test_half_is_strongly_typed(float_model):
    """Every operator computes in half precision, but those that must not; the types meet at casts only."""
    half = to_half(float_model)
    types = element_types(half)
    seen = set()
    for node in half.graph.node:
        floats = {types[name] for name in (*node.input, *node.output) if types.get(name) in (1, 10)}
        if node.op_type == "Cast":
            continue
        wanted = TensorProto.FLOAT if node.op_type in KEEP_FLOAT else TensorProto.FLOAT16
        assert floats <= {wanted}, f"{node.op_type} {node.name} mixes {floats}"
        seen.add(node.op_type)
    assert {"Conv", "Gemm", "MatMul", "LayerNormalization", "Softmax"} <= seen
    sizes: Counter[int] = Counter()
    for tensor in half.graph.initializer:
        sizes[tensor.data_type] += int(np.prod(tensor.dims))
    assert sizes[TensorProto.FLOAT] < 0.01 * sizes[TensorProto.FLOAT16], "only layer norms keep float32 weights"


def test_layer_norm_in_float_survives_what_half_precision_does_not():
    """A sum of squares of 64 values of 60 is 230 400: beyond float16, fine in the float32 that layer norm keeps."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])
    node = helper.make_node("LayerNormalization", ["x", "s"], ["y"], axis=-1)
    scale = numpy_helper.from_array(np.ones(64, np.float32), "s")
    graph = helper.make_graph([node], "g", [x], [y], [scale])
    half = to_half(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    values = np.linspace(-60, 60, 64, dtype=np.float32)[None]
    expected = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
    np.testing.assert_allclose(run(half, {"x": values})[0], expected, atol=5e-3)


def test_nothing_is_computed_that_nobody_reads():
    """The vision half of a model ends in a layer norm: its float32 result is the output, a half one would be dead."""
    torch.manual_seed(0)
    half = to_half(to_onnx(export_program(build_model(CONFIG), part="vision")))
    read = {name for node in half.graph.node for name in node.input} | {value.name for value in half.graph.output}
    assert [name for node in half.graph.node for name in node.output if name and name not in read] == []


def test_a_weight_that_half_precision_cannot_hold_is_named(float_model):
    broken = onnx.ModelProto()
    broken.CopyFrom(float_model)
    tensor = next(tensor for tensor in broken.graph.initializer if len(tensor.dims) == 4)
    value = numpy_helper.to_array(tensor).copy()
    value.flat[0] = 7e4
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    with pytest.raises(InputError, match=rf"weight {tensor.name} holds 70000, float16 ends at 65504"):
        to_half(broken)


def test_resize_keeps_its_scales_in_float():
    """ONNX allows no half-precision scales."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 4, 4])
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest")
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    graph = helper.make_graph([node], "g", [x], [y], [scales])
    half = to_half(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    onnx.checker.check_model(half, full_check=True)
    assert run(half, {"x": np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)})[0].shape == (1, 1, 4, 4)


def test_quantized_channels_are_within_half_a_step():
    weight = np.random.default_rng(0).standard_normal((5, 3, 2)).astype(np.float32)
    weight[2] = 0
    for axis in range(3):
        values, scale = quantize_channels(weight, axis)
        assert values.dtype == np.int8 and scale.shape == (weight.shape[axis],)
        shape = [-1 if other == axis else 1 for other in range(3)]
        error = np.abs(values * scale.reshape(shape) - weight)
        assert (error <= 0.5001 * scale.reshape(shape)).all()
        assert np.abs(values).max() == 127, "the whole range is used"


def test_int8_weights_compute_like_their_dequantized_selves(float_model):
    """The quantized file and the float file with weights rounded by hand must agree to float32 accuracy."""
    quantized, rounded = quantize_weights(float_model), onnx.ModelProto()
    onnx.checker.check_model(quantized, full_check=True)
    rounded.CopyFrom(float_model)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    axes = {node.output[0]: node.attribute[0].i for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    replaced = 0
    for tensor in rounded.graph.initializer:
        if tensor.name + ".int8" in stored:
            values, scale = stored[tensor.name + ".int8"], stored[tensor.name + ".scale"]
            shape = [1] * values.ndim
            shape[axes.get(tensor.name, 0)] = -1
            tensor.CopyFrom(numpy_helper.from_array(values * scale.reshape(shape).astype(np.float32), tensor.name))
            replaced += 1
    assert replaced > 10
    np.testing.assert_allclose(run(quantized, feeds())[0], run(rounded, feeds())[0], rtol=1e-4, atol=1e-5)
    assert not np.allclose(run(quantized, feeds())[0], run(float_model, feeds())[0], atol=1e-6)


def test_every_large_weight_is_int8(float_model):
    quantized = quantize_weights(float_model)
    large = [t for t in quantized.graph.initializer if np.prod(t.dims) >= SMALLEST and len(t.dims) > 1]
    assert {tensor.data_type for tensor in large} == {TensorProto.INT8}
    assert "Gather" in {node.op_type for node in quantized.graph.node}, "rows of the embedding, not the whole table"
    read = {name for node in quantized.graph.node for name in node.input}
    assert all(tensor.name in read for tensor in quantized.graph.initializer), "nothing unread is left in the file"


def test_a_weight_with_two_readers_keeps_one_copy():
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    quantized = quantize_weights(model)
    assert [node.op_type for node in quantized.graph.node] == ["DequantizeLinear", "MatMul", "MatMul"]
    x, w = np.ones((1, 64), np.float32), numpy_helper.to_array(weight)
    values, scale = quantize_channels(w, axis=1)
    np.testing.assert_allclose(run(quantized, {"x": x})[0], x @ (values * scale) @ (values * scale), rtol=1e-3)


@pytest.mark.parametrize("precision", ["fp16", "w8"])
def test_the_same_weights_give_the_same_bytes(program, precision: str, tmp_path: Path):
    for name in "ab":
        write_onnx(program, tmp_path / name, precision)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_unknown_precision(program, tmp_path: Path):
    with pytest.raises(InputError, match='unknown ONNX precision "w4"'):
        write_onnx(program, tmp_path / "x", "w4")
    assert list(tmp_path.iterdir()) == []
