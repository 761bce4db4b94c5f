"""The audit reads what is inside; a claim that does not fit is named."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sessions_of import claiming

from edgevl.bundle.folder import Bundle
from edgevl.bundle_export import export_bundle
from edgevl.errors import VerificationFailed
from edgevl.formats import Contents, Weight, bits_of
from edgevl.formats.onnx_contents import read_onnx
from edgevl.verify.audit import claim_problems, inspect_bundle, read_contents


def parameters(tiny_model) -> int:
    from edgevl.models.checkpoint import load_model

    return sum(parameter.numel() for parameter in load_model(tiny_model).model.parameters())


@pytest.mark.parametrize("target,dtype,bytes_each", [("onnx", "float32", 4), ("coreml", "float16", 2)])
def test_weights_of_both_formats(exported, tiny_model, target, dtype, bytes_each):
    (contents,) = read_contents(Bundle.open(exported[target])).values()
    count = contents.weight_bytes[dtype] / bytes_each
    # Batch norms fold into convolutions, so the file holds a little less than the model; nothing may be missed.
    assert 0.9 < count / parameters(tiny_model) < 1.1
    assert next(iter(contents.weight_bytes)) == dtype
    names = {"onnx": {"Conv", "Softmax", "LayerNormalization"}, "coreml": {"conv", "softmax", "layer_norm"}}
    assert names[target] <= contents.op_types.keys() and "const" not in contents.op_types
    assert {name for name, _ in contents.inputs} == {"image", "input_ids"}
    manifest = Bundle.open(exported[target]).manifest
    assert claim_problems(manifest, {manifest.artifact: contents}) == []
    assert all(weight.used for weight in contents.weights) and all(op.used for op in contents.operations)
    assert all(operation.dtype for operation in contents.operations), "every value has a type"
    assert contents.macs.keys() == {dtype} and not any(-1 in operation.shape for operation in contents.operations)


def test_both_formats_do_the_same_arithmetic(exported):
    counts = [sum(read_contents(Bundle.open(path))[_artifact(path)].macs.values()) for path in exported.values()]
    assert counts[0] == pytest.approx(counts[1], rel=0.01) and counts[0] > 100_000


def _artifact(path: Path) -> str:
    return Bundle.open(path).manifest.artifact


def test_verify_writes_the_audit_into_the_bundle(fresh):
    from edgevl.verify.run import verify_bundle

    path = fresh("onnx")
    report = verify_bundle(path, samples=2)
    assert report.ok, report.audit.problems
    written = Bundle.open(path).manifest.audit
    assert written is not None and written == report.audit and written == inspect_bundle(path).audit
    assert written.mac_shares == {"float32": 1.0} and written.activation_dtypes["float32"] > 20


def test_weight_file_is_accounted_for(exported, tools):
    (contents,) = read_contents(Bundle.open(exported["coreml"])).values()
    size = (exported["coreml"] / tools.weights["coreml"]).stat().st_size
    assert 0.8 * size < contents.weight_bytes["float16"] < size


def test_inspect(exported):
    for target, path in exported.items():
        report = inspect_bundle(path)
        assert report.target == target and report.problems == []
        assert report.bytes == sum(report.files.values())
        sizes = [weight.bytes for weight in report.largest]
        assert len(sizes) == 10 and sizes == sorted(sizes, reverse=True)
        assert report.audit.ok and report.largest == list(report.audit.largest)
        assert report.audit.weight_bytes == report.weight_bytes and report.audit.op_types == report.op_types
        assert {hazard.kind for hazard in report.audit.hazards} == {"unsupported"}, report.audit.hazards
        assert report.parity is None and report.accuracy is None


@pytest.mark.parametrize(
    "target,lie", [("onnx", "fp16"), ("onnx", "w8"), ("onnx", "w4"), ("coreml", "fp32"), ("coreml", "w8a8")]
)
def test_a_false_precision_is_named(fresh, tools, target, lie):
    path = fresh(target)
    tools.claim(path, lie)
    report = inspect_bundle(path)
    assert any(f"claims {lie}" in problem for problem in report.problems), report.problems


def test_a_core_ml_program_of_fp32_that_claims_fp16(tiny_model, tmp_path, tools):
    path = export_bundle(tiny_model, "coreml", "fp32", out=tmp_path / "x.edgevl")
    assert inspect_bundle(path).problems == []
    tools.claim(path, "fp16")
    (problem,) = inspect_bundle(path).problems
    assert "claims fp16" in problem and "float32" in problem and "the largest such tensor is" in problem


def contents(**sizes: int) -> Contents:
    weights = tuple(Weight(f"w_{dtype}", dtype, (size,), size) for dtype, size in sizes.items())
    return Contents(weights, (), (), ())


@pytest.mark.parametrize(
    "precision,sizes,fine",
    [
        ("fp32", {"float32": 100, "int64": 400}, True),  # indices, such as those of attention biases
        ("fp32", {"float32": 100, "float16": 10}, False),
        ("fp16", {"float16": 100, "float32": 4, "bool": 1}, True),
        ("fp16", {"float16": 100, "float32": 6}, False),
        ("w8", {"int8": 100, "float16": 80}, True),
        ("w8", {"int8": 100, "float32": 120}, False),
        ("w4", {"int4": 60, "float16": 50}, True),
        ("w4", {"int8": 100}, False),
        ("w8", {"int4": 100}, False),
        ("fp32", {}, False),
    ],
)
def test_shares_of_weight_bytes(exported, precision, sizes, fine):
    manifest = claiming(Bundle.open(exported["onnx"]).manifest, precision)
    found = dataclasses.replace(
        contents(**sizes),
        inputs=tuple((spec.name, spec.shape) for spec in manifest.inputs),
        outputs=tuple((spec.name, spec.shape) for spec in manifest.outputs),
    )
    assert (claim_problems(manifest, {manifest.artifact: found}) == []) == fine


def test_other_inputs_than_claimed(fresh, tools):
    path = fresh("onnx")
    tools.edit(path, lambda values: values["programs"][0]["outputs"][0].update(name="scores"))
    tools.edit(path, lambda values: values["decoding"].update(output="scores"))
    problems = " ".join(inspect_bundle(path).problems)
    assert "the output scores of the manifest is not in" in problems and "logits is not in the" in problems


def model_of(nodes, initializers=(), functions=()):
    import onnx
    from onnx import helper

    value = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4])
    graph = helper.make_graph(nodes, "g", [], [value], initializer=list(initializers))
    return helper.make_model(graph, functions=list(functions))


def test_weights_hidden_in_nodes_and_subgraphs_count(tmp_path):
    import onnx
    from onnx import helper, numpy_helper

    def constant(name: str, dtype):
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.zeros(4, dtype)))

    out = helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT16, [4])
    branch = helper.make_graph([constant("a", np.float16)], "b", [], [out])
    chosen = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    model = model_of([constant("x", np.float64), chosen], [numpy_helper.from_array(np.array(True), "c")])
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    assert read_onnx(path).weight_bytes == {"float64": 32, "float16": 16, "bool": 1}


def test_external_data_outside_the_bundle_is_refused(tmp_path):
    import onnx
    from onnx import numpy_helper

    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    place = tensor.external_data.add()
    place.key, place.value = "location", "../../secret"
    path = tmp_path / "model.onnx"
    path.write_bytes(model_of([onnx.helper.make_node("Identity", ["w"], ["y"])], [tensor]).SerializeToString())
    with pytest.raises(VerificationFailed, match="not in the bundle"):
        read_onnx(path)


@pytest.mark.parametrize("target", ["onnx", "coreml"])
@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_truncated_artifacts(fresh, tools, target, keep):
    path = fresh(target)
    file = path / tools.weights[target]
    data = file.read_bytes()
    file.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(VerificationFailed, match="model") as caught:
        inspect_bundle(path)
    assert "\n" not in str(caught.value)


def test_a_package_that_points_to_another_model(fresh):
    path: Path = fresh("coreml")
    manifest = path / "model.mlpackage" / "Manifest.json"
    manifest.write_text(
        manifest.read_text(encoding="utf-8").replace("model.mlmodel", "other.mlmodel"), encoding="utf-8"
    )
    with pytest.raises(VerificationFailed, match=r"other\.mlmodel"):
        inspect_bundle(path)


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("float32", 32), ("int4", 4), ("uint8", 8), ("float8e4m3fn", 8), ("float4e2m1", 4), ("bool", 8), ("unknown", 8)],
)
def test_bits_of_a_dtype(dtype, bits):
    assert bits_of(dtype) == bits
