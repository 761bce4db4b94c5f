"""Core ML w8a8: what the ML Program quantizes and how, what it multiplies in, and the reference executor's logits."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from int8_plans import CONFIG, export, float_logits, logits_of, psnr  # pyright: ignore[reportMissingImports]

from edgevl.errors import InputError
from edgevl.export.registry import get_exporter
from edgevl.export.to_coreml import write_coreml
from edgevl.formats import Contents, read_artifact
from edgevl.models import VqaModel
from edgevl.plans.plan import ModulePlan, Plan
from edgevl.runtime.coreml_reference import MLProgram

pytest.importorskip("torchao")
pytest.importorskip("coremltools")


@pytest.fixture(scope="module")
def path(model: VqaModel, plan: Plan, tmp_path_factory) -> Path:
    return export(model, plan, tmp_path_factory.mktemp("int8"), "coreml")


@pytest.fixture(scope="module")
def contents(path: Path) -> Contents:
    return read_artifact(path, "coreml")


@pytest.fixture(scope="module")
def operations(path: Path) -> list[Any]:
    from coremltools.proto import Model_pb2

    spec: Any = Model_pb2.Model()  # pyright: ignore[reportAttributeAccessIssue]
    spec.ParseFromString((path / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
    assert spec.specificationVersion == 8, "iOS 17"
    function = spec.mlProgram.functions["main"]
    return list(function.block_specializations[function.opset].operations)


def test_the_audit_counts_int8_products(contents: Contents) -> None:
    total = sum(contents.macs.values())
    assert contents.macs["int8"] / total > 0.95, contents.macs
    float_products = [o.name for o in contents.activations if o.macs and o.compute != "int8"]
    assert len(float_products) == CONFIG.depth, "probabilities by values, once a block"
    assert contents.op_types["quantize"] > 15
    assert contents.weight_bytes["int8"] > 0.8 * sum(contents.weight_bytes.values())


def test_a_module_in_float_is_not_counted(model: VqaModel, plan: Plan, contents: Contents, tmp_path: Path) -> None:
    kept = {"vision.backbone.conv1.3": ModulePlan(precision="fp32")}
    other = read_artifact(export(model, plan.model_copy(update={"modules": kept}), tmp_path, "coreml"), "coreml")
    assert other.macs["float16"] > contents.macs["float16"] + 0.1 * sum(contents.macs.values())


def test_no_quantized_value_has_a_zero_point(operations: list[Any]) -> None:
    """uint8 where nothing is negative, int8 elsewhere."""
    found = [operation for operation in operations if operation.type == "quantize"]
    assert len(found) > 15 and not any("zero_point" in operation.inputs for operation in found)
    made = {value.name: operation.type for operation in operations for value in operation.outputs}
    behind_relu = [op for op in found if made.get(op.inputs["input"].arguments[0].name) == "relu"]
    assert len(behind_relu) > 2
    signed = {op.outputs[0].type.tensorType.dataType for op in found} - {
        op.outputs[0].type.tensorType.dataType for op in behind_relu
    }
    assert len(signed) == 1, "values behind a ReLU have a type of their own"


def test_what_is_left_is_half_precision(operations: list[Any], contents: Contents) -> None:
    made = {value.name: operation.type for operation in operations for value in operation.outputs}
    (gather,) = [operation for operation in operations if operation.type == "gather"]
    assert CONFIG.vocab_size * CONFIG.width < 2049, "a table this small is left as it is"
    assert made[gather.inputs["x"].arguments[0].name] == "const"
    assert "float32" not in contents.weight_bytes and contents.activation_dtypes["float16"] > 50


def test_the_reference_executor_gives_the_answers_of_the_float_model(path: Path, model: VqaModel) -> None:
    own, reference = logits_of(path, "coreml", CONFIG), float_logits(model)
    assert psnr(own, reference) > 25
    assert psnr(own[::-1], reference) < 20, "the check can fail"


def test_strict_half_precision_overflows_nowhere(path: Path) -> None:
    """Scales are float16 here: a quantize whose steps do not fit would show."""
    side, length = CONFIG.image_size, CONFIG.text_length
    feeds = {"image": np.zeros((1, side, side, 3), np.uint8), "input_ids": np.ones((1, length), np.int32)}
    assert MLProgram.load(path).find_fault(feeds) is None


def test_the_same_plan_gives_the_same_bytes(path: Path, model: VqaModel, plan: Plan, tmp_path: Path) -> None:
    again = export(model, plan, tmp_path, "coreml")
    files = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
    assert files and all((path / name).read_bytes() == (again / name).read_bytes() for name in files)


@pytest.mark.parametrize("system", ["iOS15", "iOS16"])
def test_older_systems_are_refused(system: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"w8a8.*iOS17 or later, not {system}"):
        write_coreml(SimpleNamespace(), tmp_path / "model.mlpackage", "w8a8", system)  # pyright: ignore[reportArgumentType]
    assert not list(tmp_path.iterdir())


def test_defaults() -> None:
    exporter = get_exporter("coreml")
    assert exporter.dialect == "coreml"
    assert exporter.check_options({}, "w8a8") == {"deployment_target": "iOS17", "scheme": "none"}
