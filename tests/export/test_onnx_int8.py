"""ONNX w8a8: the graph that ONNX Runtime runs in int8 kernels, and that it answers as the float model does."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

pytest.importorskip("torchao", reason='torchao comes with pip install "edgevl[quantize]"')

from int8_plans import CONFIG, export, float_logits, logits_of, plan_of, psnr, toy  # pyright: ignore[reportMissingImports]

from edgevl.errors import InputError
from edgevl.export.onnx_qdq import to_static_int8
from edgevl.export.passes import skipping
from edgevl.export.registry import get_exporter
from edgevl.models import VqaModel
from edgevl.plans.plan import ModulePlan, Plan


@pytest.fixture(scope="module")
def path(model: VqaModel, plan: Plan, tmp_path_factory) -> Path:
    return export(model, plan, tmp_path_factory.mktemp("x86"), "onnx")


def optimized(path: Path, folder: Path) -> onnx.ModelProto:
    """What ONNX Runtime makes of a file."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(str(path), options)
    return onnx.load(folder / "optimized.onnx")


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_it_answers_as_the_float_model(path: Path, model: VqaModel):
    assert psnr(logits_of(path, "onnx", CONFIG), float_logits(model)) > 30


def test_every_product_runs_in_an_int8_kernel(path: Path, tmp_path: Path):
    found = operators(optimized(path, tmp_path))
    assert not found.keys() & {"Conv", "Gemm", "FusedConv", "FusedGemm"}, found
    assert found["MatMul"] == 2 * CONFIG.depth, "products of two activations stay in float"
    assert found["QLinearConv"] == sum(isinstance(each, torch.nn.Conv2d) for each in toy().modules())
    assert found["Relu"] == 0, "ReLU is the zero point of what comes behind it"


def test_pools_are_a_part_of_the_convolution_behind_them(model: VqaModel, plan: Plan, path: Path, tmp_path: Path):
    """With the pass there is one rounding less, so the answers are no further from the float model's."""
    with skipping("fold-pools"):
        plain = export(model, plan, tmp_path, "onnx")
    assert operators(onnx.load(plain))["AveragePool"] == 2 and operators(onnx.load(path))["AveragePool"] == 0
    folded = next(n for n in onnx.load(path).graph.node if n.op_type == "Conv" and n.input[1].endswith(".pooled"))
    attributes = {attribute.name: list(attribute.ints) for attribute in folded.attribute}
    assert attributes["kernel_shape"] == attributes["strides"] == [2, 2]
    reference = float_logits(model)
    with_pools, without = (psnr(logits_of(each, "onnx", CONFIG), reference) for each in (plain, path))
    assert without > with_pools - 1, (without, with_pools)


def pooled(side: int, window: int = 2, stride: int = 1, padding: int = 0) -> onnx.ModelProto:
    """An average pool in front of a 1 x 1 convolution, both between Q and DQ, as PT2E leaves them."""
    rng, make = np.random.default_rng(0), onnx.helper.make_node
    weights = rng.integers(-127, 128, (4, 3, 1, 1), np.int8)
    constants = {"s": np.float32(0.02), "z": np.uint8(7), "w8": weights, "ws": np.full(4, 0.01, np.float32)}
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        make("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        make(
            "AveragePool",
            ["xd"],
            ["p"],
            kernel_shape=[window] * 2,
            strides=[window] * 2,
            ceil_mode=1,
            pads=[padding] * 4,
        ),
        make("QuantizeLinear", ["p", "s", "z"], ["pq"]),
        make("DequantizeLinear", ["pq", "s", "z"], ["pd"]),
        make("DequantizeLinear", ["w8", "ws"], ["w"], axis=0),
        make("Conv", ["pd", "w"], ["y"], kernel_shape=[1, 1], strides=[stride] * 2, pads=[0] * 4, group=1),
    ]
    shape = (1, 3, side, side)
    graph = onnx.helper.make_graph(
        nodes, "pooled",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        value_info=[onnx.helper.make_tensor_value_info("xd", onnx.TensorProto.FLOAT, shape)],
    )  # fmt: skip
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)


@pytest.mark.parametrize(
    "case, folds",
    [
        ({"side": 8}, True),
        ({"side": 5}, False),  # the last window holds fewer pixels
        ({"side": 8, "padding": 1}, False),
        ({"side": 9, "window": 3}, False),  # nine times the weights
        ({"side": 8, "stride": 2}, False),
    ],
)
def test_which_pools_are_folded(case: dict[str, int], folds: bool):
    plain = pooled(**case)
    made = to_static_int8(plain)
    assert (operators(made)["AveragePool"] == 0) == folds
    x = np.random.default_rng(1).uniform(-0.1, 4.9, (1, 3, case["side"], case["side"])).astype(np.float32)
    before, after = (
        np.asarray(ort.InferenceSession(each.SerializeToString()).run(None, {"x": x})[0]) for each in (plain, made)
    )
    assert np.abs(before - after).max() <= (0.01 * 127 * 3 * 0.02 / 2 if folds else 1e-6), (
        "half a step of the pool's result"
    )


def test_pixels_are_not_rounded_again(path: Path):
    graph = onnx.load(path).graph
    reader = {name: node for node in graph.node for name in node.input}
    transpose = reader["image"]
    assert (transpose.op_type, reader[transpose.output[0]].op_type) == ("Transpose", "DequantizeLinear")
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    scale, zero = (constants[name] for name in reader[transpose.output[0]].input[1:])
    assert (scale, zero, zero.dtype) == (1.0, 128, np.uint8)


def test_weights_and_biases(path: Path):
    graph = onnx.load(path).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) >= 1024]
    assert large and all(tensor.data_type == onnx.TensorProto.INT8 for tensor in large)
    producer = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm") and len(node.input) == 3:
            assert types[producer[node.input[2]].input[0]] == onnx.TensorProto.INT32
    assert not [
        n for n in graph.node if n.op_type == "Transpose" and producer.get(n.input[0], n).op_type == "DequantizeLinear"
    ]


def test_equal_biases_have_scales_of_their_own(plan: Plan, tmp_path: Path):
    """torch.onnx makes one constant of equal ones, such as the zeros of an untrained model."""
    model = toy()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and module.bias is not None:
                module.bias.zero_()
    path = export(model, plan_of(model), tmp_path, "onnx")
    assert psnr(logits_of(path, "onnx", CONFIG), float_logits(model)) > 30


def test_modules_that_the_plan_keeps_in_float(model: VqaModel, plan: Plan, tmp_path: Path):
    kept = {"vision.project": ModulePlan(precision="fp32"), "fusion.blocks.0.attention": ModulePlan(precision="fp32")}
    mixed = plan.model_copy(update={"modules": kept})
    found = operators(optimized(export(model, mixed, tmp_path, "onnx"), tmp_path))
    floats = sum(found[name] for name in ("Conv", "FusedConv", "MatMul", "FusedMatMul"))
    assert floats == 1 + 2 * CONFIG.depth, found  # the convolution, query times key, probabilities times values


def test_the_same_plan_gives_the_same_bytes(model: VqaModel, plan: Plan, path: Path, tmp_path: Path):
    assert export(model, plan, tmp_path, "onnx").read_bytes() == path.read_bytes()


def test_split_and_batches(model: VqaModel, plan: Plan, tmp_path: Path):
    """Names of values do not depend on the layout: one plan serves them all."""
    folder = export(model, plan, tmp_path / "split", "onnx", layout="split")
    assert operators(onnx.load(folder / "vision.onnx"))["QuantizeLinear"] > 5
    assert operators(onnx.load(folder / "fusion.onnx"))["QuantizeLinear"] > 5
    four = export(model, plan, tmp_path / "four", "onnx", batch=4)
    assert [value.type.tensor_type.shape.dim[0].dim_value for value in onnx.load(four).graph.input] == [4, 4]


def test_mistakes(model: VqaModel, plan: Plan, tmp_path: Path):
    with pytest.raises(InputError, match="needs a plan: make one with `edgevl quantize`"):
        get_exporter("onnx").export(model, tmp_path, "w8a8")
    name = next(iter(plan.values))
    short = plan.model_copy(update={"values": {key: plan.values[key] for key in [name]}})
    with pytest.raises(InputError, match="the plan has no range for"):
        export(model, short, tmp_path, "onnx")
    with pytest.raises(InputError, match='dialect "arm" is for the precision w8a8'):
        get_exporter("onnx").export(model, tmp_path, "fp32", options={"dialect": "arm"})
