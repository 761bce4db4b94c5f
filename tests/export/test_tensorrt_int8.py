"""TensorRT w8a8: what the file holds, what TensorRT's parsed network multiplies in, and what a false claim costs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from int8_plans import CONFIG, export, float_logits, logits_of, plan_of, psnr, toy  # pyright: ignore[reportMissingImports]
from onnx import TensorProto, helper, numpy_helper

from edgevl.config import CONFIGS
from edgevl.models import VqaModel
from edgevl.plans.plan import ModulePlan, Plan
from edgevl.runtime.tensorrt_build import MIN_INT8_MACS, check_build, precision_problems

pytest.importorskip("torchao")


@pytest.fixture(scope="module")
def path(model: VqaModel, plan: Plan, tmp_path_factory) -> Path:
    return export(model, plan, tmp_path_factory.mktemp("int8"), "tensorrt")


@pytest.fixture(scope="module")
def graph(path: Path) -> Any:
    loaded = onnx.load(path)
    assert [item.version for item in loaded.opset_import] == [20]
    return loaded.graph


def producers(graph: Any) -> dict[str, Any]:
    return {name: node for node in graph.node for name in node.output}


def readers(graph: Any, name: str) -> Iterator[Any]:
    return (node for node in graph.node if name in node.input)


def test_zero_points_are_zero_and_int8(graph: Any) -> None:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(nodes) > 40
    for node in nodes:
        points = [constants[name] for name in node.input[2:]]
        assert all(point.dtype == np.int8 and not point.any() for point in points), node.name
        assert node.op_type == "DequantizeLinear" or points, "without a zero point ONNX quantizes to uint8"


def test_int8_constants_feed_a_dequantize_in_front_of_a_product_or_a_table(graph: Any) -> None:
    stored = [t.name for t in graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) > 1]
    assert len(stored) > 15
    for name in stored:
        (dequantize,) = readers(graph, name)
        assert dequantize.op_type == "DequantizeLinear"
        behind = {node.op_type for node in readers(graph, dequantize.output[0])}
        assert behind <= {"Conv", "MatMul", "Gemm", "Gather"} and behind, (name, behind)
    assert not [t.name for t in graph.initializer if t.data_type == TensorProto.INT32 and len(t.dims) == 1]


def test_a_skip_connection_is_int8_and_what_is_fused_is_float(graph: Any) -> None:
    made = producers(graph)
    kinds = [[made[name].op_type if name in made else "" for name in n.input] for n in graph.node if n.op_type == "Add"]
    skips = [pair for pair in kinds if "Conv" in pair]
    assert skips and all(sorted(pair) == ["Conv", "DequantizeLinear"] for pair in skips)
    assert {node.op_type for node in graph.node if made.get(node.input[0], node).op_type == "Softmax"} == {"MatMul"}


def test_onnxruntime_gives_the_answers_of_the_float_model(path: Path, model: VqaModel) -> None:
    pytest.importorskip("onnxruntime")
    own, reference = logits_of(path, "tensorrt", CONFIG), float_logits(model)
    assert psnr(own, reference) > 25
    assert psnr(own[::-1], reference) < 20, "the check can fail"


def test_the_parsed_network_multiplies_int8(model: VqaModel, plan: Plan, path: Path, tmp_path: Path) -> None:
    """Of one file, and of the two halves."""
    pytest.importorskip("tensorrt_rtx")
    halves = sorted(export(model, plan, tmp_path, "tensorrt", layout="split").rglob("*.onnx"))
    assert len(halves) == 2
    for file in (path, *halves):
        report = check_build(file, ("8.6",))
        assert report.int8_share >= MIN_INT8_MACS and precision_problems(report, "w8a8") == [], report.macs
        assert report.engines[0].bytes > 10_000


def test_a_file_with_too_much_float_is_a_problem(model: VqaModel, plan: Plan, tmp_path: Path) -> None:
    """Between the 80 % that any target must keep and TensorRT's 95 %."""
    pytest.importorskip("tensorrt_rtx")
    kept = dict.fromkeys(["vision.backbone.conv1.3"], ModulePlan(precision="fp32"))
    report = check_build(export(model, plan.model_copy(update={"modules": kept}), tmp_path, "tensorrt"), ("8.6",))
    assert 0.8 < report.int8_share < MIN_INT8_MACS, report.macs
    (problem,) = precision_problems(report, "w8a8")
    assert f"only {report.int8_share:.1%} of its multiply-adds" in problem and "float32" in problem


def product(nodes: list[Any], path: Path, shape: list[int], result: list[int], **weights: np.ndarray) -> dict[str, int]:
    """The multiply-adds of a file from `x` to `y`, as TensorRT parses it. `s` is a scale, `z` a zero point."""
    weights |= {"s": np.array(0.1, np.float32), "z": np.array(0, np.int8)}
    values = [helper.make_tensor_value_info(name, 1, sides) for name, sides in (("x", shape), ("y", result))]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return check_build(path, ("8.6",)).macs


def around(name: str) -> list[Any]:
    return [
        helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [f"{name}_dq"]),
    ]


def weight(name: str = "w") -> Any:
    return helper.make_node("DequantizeLinear", [name, "s", "z"], [f"{name}_dq"])


def test_what_counts_as_int8(tmp_path: Path) -> None:
    """Both operands; a change of shape in between; groups; and no product whose weight or data alone is int8."""
    pytest.importorskip("tensorrt_rtx")
    make, path = helper.make_node, tmp_path / "model.onnx"
    w, f = np.ones((8, 2, 3, 3), np.int8), np.ones((8, 2, 3, 3), np.float32)
    picture, maps, macs = [1, 8, 6, 6], [1, 8, 4, 4], 8 * 16 * 2 * 9
    conv = [make("Conv", ["x_dq", "w_dq"], ["y"], group=4)]
    assert product([*around("x"), weight(), *conv], path, picture, maps, w=w) == {"int8": macs}
    conv = [make("Conv", ["x_dq", "f"], ["y"], group=4)]
    assert product([*around("x"), *conv], path, picture, maps, f=f) == {"float32": macs}
    conv = [make("Conv", ["x", "w_dq"], ["y"], group=4)]
    assert product([weight(), *conv], path, picture, maps, w=w) == {"float32": macs}
    turned = [make("Transpose", ["x_dq"], ["t"], perm=[1, 0]), make("MatMul", ["t", "w_dq"], ["y"])]
    rows = np.ones((4, 5), np.int8)
    assert product([*around("x"), weight(), *turned], path, [4, 16], [16, 5], w=rows) == {"int8": 16 * 4 * 5}
    relu = [make("Relu", ["x_dq"], ["t"]), make("MatMul", ["t", "w_dq"], ["y"])]
    assert product([*around("x"), weight(), *relu], path, [16, 4], [16, 5], w=rows) == {"float32": 16 * 4 * 5}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_model_config(name: str, tmp_path: Path) -> None:
    """Random weights, ranges of a batch of random pictures."""
    pytest.importorskip("tensorrt_rtx")
    big = toy(CONFIGS[name])
    report = check_build(export(big, plan_of(big, batch=2), tmp_path, "tensorrt"), ("8.6",))
    print(name, report.macs, f"{report.int8_share:.4f}", report.engines)
    assert precision_problems(report, "w8a8") == [], report.macs
