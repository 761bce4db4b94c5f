"""LiteRT w8a8: the converter makes int8 kernels of our Q/DQ, with our ranges, and floats go in and out."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("litert_torch", reason='pip install "edgevl[litert]"')
pytest.importorskip("ai_edge_litert", reason='pip install "edgevl[litert]"')
pytest.importorskip("torchao", reason='pip install "edgevl[quantize]"')

from int8_plans import CONFIG, export, float_logits, logits_of, psnr

from edgevl.formats import Contents, read_artifact
from edgevl.models import VqaModel
from edgevl.plans.plan import ModulePlan, Plan
from edgevl.plans.spec import get_dialect
from edgevl.runtime.litert_file import LiteModel, numbers, read_model, tensor_name

PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@pytest.fixture(scope="module")
def path(model: VqaModel, plan: Plan, tmp_path_factory) -> Path:
    return export(model, plan, tmp_path_factory.mktemp("w8a8"), "litert")


@pytest.fixture(scope="module")
def contents(path: Path) -> Contents:
    return read_artifact(path, "litert")


@pytest.fixture(scope="module")
def lite(path: Path) -> LiteModel:
    return read_model(path, "a test")


def test_logits_are_near_those_of_the_float_model(model: VqaModel, path: Path) -> None:
    own, reference = logits_of(path, "litert", CONFIG), float_logits(model)
    assert own.dtype == np.float32, "the converter takes away the last DEQUANTIZE; it is put back"
    assert psnr(own, reference) > 25
    assert np.abs(own - reference).max() > 1e-4, "the float file in disguise"


def test_every_convolution_and_linear_layer_multiplies_int8(contents: Contents) -> None:
    found = [operation for operation in contents.operations if operation.type in PRODUCTS]
    assert found and {operation.compute for operation in found} == {"int8"}
    products = sum(op.macs for op in contents.operations if op.type == "BATCH_MATMUL")
    assert contents.macs["float32"] == products > 0


def test_weights_and_tables_are_int8_and_biases_int32(contents: Contents) -> None:
    weights = {weight.name: weight for weight in contents.weights}
    assert {
        weight.dtype for name, weight in weights.items() if name.endswith((*(f"{kind}.weight" for kind in PRODUCTS),))
    } == {"int8"}
    assert {weight.dtype for name, weight in weights.items() if name.endswith("FULLY_CONNECTED.bias")} == {"int32"}
    table = weights["model.core.text.words/EMBEDDING_LOOKUP.weight"]
    assert (table.dtype, table.shape) == ("int8", (50, 32))


def test_scales_are_those_of_the_plan(lite: LiteModel, plan: Plan) -> None:
    """No second calibration: what the head reads and gives has the scale and zero point that the plan says."""
    (result,) = [index for index, tensor in enumerate(lite.tensors) if tensor_name(tensor) == "logits.int8"]
    (head,) = [operator for operator in lite.operators if result in numbers(operator.outputs)]
    data, *_ = numbers(head.inputs)
    for index, value in ((data, "head.2:layer_norm"), (result, "head.3:linear")):
        scale, zero_point = get_dialect("litert").parameters(plan.values[value])
        found = lite.tensors[index].quantization
        assert (found.scale[0], found.zeroPoint[0]) == (pytest.approx(scale, rel=1e-6), zero_point)


def test_rows_of_the_table_have_scales_of_their_own(lite: LiteModel, model: VqaModel) -> None:
    (lookup,) = [op for op in lite.operators if lite.operator_type(op) == "EMBEDDING_LOOKUP"]
    table = lite.tensors[list(numbers(lookup.inputs))[1]]
    stored = lite.stored(table)
    assert stored is not None
    wide = stored.view(np.int8).reshape(50, 32) * np.asarray(table.quantization.scale)[:, None]
    expected = model.core.text.words.weight.detach().numpy()
    np.testing.assert_allclose(wide, expected, rtol=0, atol=float(np.abs(expected).max()) / 254 * 1.01)
    assert len(set(np.asarray(table.quantization.scale).tolist())) > 40


def test_names_say_which_layer(lite: LiteModel) -> None:
    names = [tensor_name(tensor) for tensor in lite.tensors]
    assert "model.core.fusion.blocks.0.mlp.2/FULLY_CONNECTED.weight" in names
    assert len(names) == len(set(names))
    assert list(lite.signature("outputs")) == ["logits"]


def test_a_module_that_the_plan_keeps_in_float(model: VqaModel, plan: Plan, contents: Contents, tmp_path: Path) -> None:
    """Between two int8 convolutions the converter would round its weights too."""
    name = "vision.backbone.layer1.0.conv1"
    mixed = plan.model_copy(update={"modules": {name: ModulePlan(precision="fp32")}})
    found = read_artifact(export(model, mixed, tmp_path, "litert"), "litert")
    dtypes = {op.name: op.compute for op in found.operations if op.type == "CONV_2D"}
    assert [op for op, dtype in dtypes.items() if dtype != "int8"] == [f"model.core.{name}/CONV_2D"]


def test_a_pool_behind_what_the_plan_keeps_in_float(model: VqaModel, plan: Plan, tmp_path: Path) -> None:
    """The converter left such a pool as windowed sums in graphs of their own."""
    mixed = plan.model_copy(update={"modules": {"vision.backbone.layer2.0.conv2": ModulePlan(precision="fp32")}})
    path = export(model, mixed, tmp_path, "litert")
    assert read_artifact(path, "litert").op_types["AVERAGE_POOL_2D"] == 2
    assert psnr(logits_of(path, "litert", CONFIG), float_logits(model)) > 25


def test_export_is_quiet(model: VqaModel, plan: Plan, path: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """And the same plan gives the same bytes."""
    again = export(model, plan, tmp_path, "litert")
    assert capfd.readouterr() == ("", "")
    assert again.read_bytes() == path.read_bytes()
    assert torch.is_grad_enabled()
