"""ExecuTorch w8a8: XNNPACK's int8 kernels run, the file is small, and it answers as the float model does."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("executorch", reason='pip install "edgevl[executorch]"')
pytest.importorskip("torchao", reason='pip install "edgevl[quantize]"')

from int8_plans import CONFIG, export, float_logits, logits_of, psnr

from edgevl.errors import InputError
from edgevl.export.registry import get_exporter
from edgevl.export.to_executorch import to_pte
from edgevl.formats import Contents, read_artifact
from edgevl.models import VqaModel
from edgevl.models.capture import name_outputs
from edgevl.models.question_answering import export_program
from edgevl.plans.plan import ModulePlan, Plan
from edgevl.plans.ptq import quantize_program
from edgevl.plans.spec import get_dialect
from edgevl.runtime.session import open_session
from edgevl.verify.claims import quantizes_activations


@pytest.fixture(scope="module")
def path(model: VqaModel, plan: Plan, tmp_path_factory) -> Path:
    return export(model, plan, tmp_path_factory.mktemp("w8a8"), "executorch")


@pytest.fixture(scope="module")
def contents(path: Path) -> Contents:
    return read_artifact(path, "executorch")


def test_logits_are_near_those_of_the_float_model(model: VqaModel, path: Path) -> None:
    own, reference = logits_of(path, "executorch", CONFIG), float_logits(model)
    assert own.dtype == np.float32
    assert psnr(own, reference) > 25
    assert np.abs(own - reference).max() > 1e-4, "the float file in disguise"


def test_every_convolution_and_linear_layer_multiplies_int8(contents: Contents) -> None:
    """Products of two activations have no int8 kernel in XNNPACK: they are what is left in float."""
    for operation in contents.operations:
        if operation.type in ("XNNConv2d", "XNNDepthwiseConv2d", "XNNFullyConnected"):
            assert (operation.compute, operation.dtype) == ("int8", "int8"), operation
    assert "aten::convolution.out" not in contents.op_types and "aten::addmm.out" not in contents.op_types
    products = sum(op.macs for op in contents.operations if op.type == "XNNBatchMatrixMultiply")
    assert contents.macs["float32"] == products > 0


def test_additions_stay_in_int8(contents: Contents) -> None:
    """Those of the backbone: between two of its convolutions nothing becomes float but an average pool."""
    first, last = (
        pick(index for index, op in enumerate(contents.operations) if op.type == "XNNConv2d") for pick in (min, max)
    )
    between = contents.operations[first:last]
    assert any(op.type == "XNNAdd" for op in between)
    assert all(op.dtype == "int8" for op in between if op.type == "XNNAdd")


def test_weights_and_tables_are_int8_and_biases_int32(contents: Contents) -> None:
    filters = [weight for weight in contents.weights if weight.name.endswith(".filter") and len(weight.shape) in (2, 4)]
    assert filters and {weight.dtype for weight in filters} == {"int8"}
    assert {weight.dtype for weight in contents.weights if weight.name.endswith(".bias")} == {"int32"}
    tables = [weight for weight in contents.weights if weight.shape[:1] == (CONFIG.vocab_size,)]
    assert {(weight.dtype, weight.shape) for weight in tables} == {("int8", (50, 32)), ("float32", (50, 1))}
    assert all(weight.used for weight in contents.weights)


def test_no_more_borders_than_the_float_file(model: VqaModel, contents: Contents) -> None:
    """What ExecuTorch runs itself is the same, but for two small operators of the table."""
    pte = to_pte(export_program(model, "raw"))
    from edgevl.formats.executorch_program import PteProgram

    steps = [call.operator for call in PteProgram(pte).forward.calls]
    own = [op.type for op in contents.operations if op.type.startswith(("aten::", "dim_order_ops::"))]
    assert len(own) == len([operator for operator in steps if operator]) + 2


def test_a_module_that_the_plan_keeps_in_float(model: VqaModel, plan: Plan, contents: Contents, tmp_path: Path) -> None:
    mixed = plan.model_copy(update={"modules": {"head.0": ModulePlan(precision="fp32")}})
    found = read_artifact(export(model, mixed, tmp_path, "executorch"), "executorch")
    assert found.macs["float32"] == contents.macs["float32"] + CONFIG.width**2


def test_the_same_bytes_twice_and_the_program_as_it_was(
    model: VqaModel, plan: Plan, path: Path, tmp_path: Path
) -> None:
    program = quantize_program(export_program(model, "raw"), plan, get_dialect("xnnpack"))
    before = str(program.graph)
    get_exporter("executorch").write(program, tmp_path / "again.pte", "w8a8")
    assert (tmp_path / "again.pte").read_bytes() == path.read_bytes()
    assert str(program.graph) == before


def test_conversions_to_float_alone_quantize_nothing(contents: Contents) -> None:
    assert quantizes_activations(contents)
    wide = [dataclasses.replace(op, dtype="float32") for op in contents.operations]
    assert not quantizes_activations(dataclasses.replace(contents, operations=tuple(wide)))


class Gate(nn.Module):
    """Squeeze and excite: the mean of an int8 value, which is int8 too, multiplies that value in float."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = rounded(x)
        return wide * rounded(wide.mean((2, 3), keepdim=True)).sigmoid()


def rounded(x: torch.Tensor) -> torch.Tensor:
    how = (0.02, 3, -128, 127, torch.int8)
    decomposed = torch.ops.quantized_decomposed
    return decomposed.dequantize_per_tensor(decomposed.quantize_per_tensor(x, *how), *how)


def test_a_float_operator_beside_an_int8_kernel_reads_floats(tmp_path: Path) -> None:
    x = torch.rand(1, 4, 5, 5)
    program = name_outputs(torch.export.export(Gate().eval(), (x,)), ["y"])
    (tmp_path / "gate.pte").write_bytes(to_pte(program))
    got = open_session(tmp_path / "gate.pte", "executorch").run({"x": x.numpy()})["y"]
    np.testing.assert_allclose(got, Gate()(x).numpy(), rtol=0, atol=0.011)
    kinds = {op.type: op.dtype for op in read_artifact(tmp_path / "gate.pte", "executorch").operations}
    assert (kinds["XNNGlobalAvgPooling2d"], kinds["XNNMultiply"]) == ("int8", "float32")


def test_another_delegate_is_refused(model: VqaModel, plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(InputError, match='delegate "coreml" takes fp32; w8a8 is for xnnpack'):
        export(model, plan, tmp_path, "executorch", options={"delegate": "coreml"})
    assert not list(tmp_path.iterdir())
