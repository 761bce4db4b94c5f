"""What an accelerator may refuse is listed; what is fine is not."""

from pathlib import Path

import pytest

from edgevl.bundle.manifest import Audit
from edgevl.formats import Contents, Operation, Weight
from edgevl.verify.audit import MAX_HAZARDS, audit_contents
from edgevl.verify.hazards import _COREML_PROVIDER, _NNAPI_PROVIDER, _TENSORRT_REFUSES, KINDS


def audit(*operations: Operation, target: str = "tensorrt", inputs=(("image", (1, 2, 2, 3)),), weights=()) -> Audit:
    return audit_contents(target, {"model": Contents(tuple(weights), operations, inputs, ())})


def kinds(found: Audit) -> list[tuple[str, str, int]]:
    return [(hazard.kind, hazard.op, hazard.count) for hazard in found.hazards]


def test_a_plain_graph_has_none():
    fine = audit(Operation("Conv", "c", "float32", (1, 2, 3, 4), 10, "float32"), Operation("Add", "a", "int32", (1,)))
    assert fine.hazards == () and fine.hazard_count == 0


def test_dynamic_rank_and_wide_types():
    found = audit(
        Operation("Reshape", "r1", "float32", (1, 2, 3, 4, 5, 6)),
        Operation("Reshape", "r2", "float32", (1, 2, 3, 4, 5, 6)),
        Operation("Reshape", "five", "float32", (1, 2, 3, 4, 5)),
        Operation("MatMul", "m", "float32", (-1, 8)),
        Operation("Shape", "s", "int64", (2,)),
        Operation("Cast", "d", "float64", (2,)),
        Operation("Reshape", "fixed", "int64", (2,), constant=True),
        Operation("Relu", "dead", "int64", (2,), used=False),
        inputs=(("image", (-1, 4)),),
    )
    assert kinds(found) == [
        ("dynamic", "input", 1), ("dynamic", "MatMul", 1), ("rank", "Reshape", 2), ("int64", "Shape", 1),
        ("float64", "Cast", 1), ("dead", "Relu", 1),
    ]  # fmt: skip
    assert found.hazards[2].name == "r1" and "6 dimensions" in found.hazards[2].why
    assert found.hazard_count == 7 and found.activation_dtypes == {"float32": 4, "int64": 1, "float64": 1}


@pytest.mark.parametrize(
    "target,operation,words",
    [
        ("onnx", Operation("Gather", "g", "float32", (1,)), "Core ML provider does not list it"),
        ("onnx", Operation("Unique", "u", "float32", (1,)), "Core ML and NNAPI providers do not list it"),
        ("onnx", Operation("MatMulNBits", "q", "float32", (1,), domain="com.microsoft"), "com.microsoft"),
        ("tensorrt", Operation("QLinearConv", "q", "uint8", (1,)), "TensorRT's parser"),
        ("coreml", Operation("gather", "g", "float16", (1,)), "outside the Neural Engine"),
        ("coreml", Operation("conv", "c", "float32", (1,), 9, "float32"), "Neural Engine computes in float16"),
        ("executorch", Operation("aten::add.out", "a", "float32", (1,)), "portable kernel"),
        ("litert", Operation("CUSTOM", "c", "float32", (1,)), "custom operator"),
        ("litert", Operation("FlexErf", "f", "float32", (1,)), "custom operator"),
    ],
)
def test_what_the_accelerators_of_a_target_refuse(target, operation, words):
    (hazard,) = audit(operation, target=target).hazards
    assert words in hazard.why and hazard.op == operation.type and hazard.kind in KINDS


@pytest.mark.parametrize(
    "target,operation",
    [
        ("onnx", Operation("Conv", "c", "float32", (1,), 9, "float32")),
        ("coreml", Operation("conv", "c", "float16", (1,), 9, "float16")),
        ("coreml", Operation("cast", "c", "float32", (1,))),
        ("executorch", Operation("XNNConv2d", "x", "float32", (1,))),
        ("litert", Operation("CONV_2D", "c", "float32", (1,))),
        ("coreai", Operation("anything", "c", "float32", (1,))),
    ],
)
def test_what_they_take(target, operation):
    assert audit(operation, target=target).hazards == ()


def test_a_hostile_file_gives_a_short_audit():
    """Names of any length, thousands of types, numbers beyond any file: bounded, and valid as a part of a manifest."""
    operations = [Operation(f"op{index}" * 500, "n" * 10_000, "x y", (1,), 2**60, "???") for index in range(1000)]
    weights = [Weight(f"w\n{index}", "float8 (?)", (2**60,) * 40, 2**50, "d", index % 2 == 0) for index in range(100)]
    found = audit(*operations, target="onnx", weights=weights)
    assert len(found.hazards) == MAX_HAZARDS and found.hazard_count == 1000
    assert found.macs == {"unknown": 2**53} and found.mac_shares == {"unknown": 1.0}
    assert found.unused_count == 50 and len(found.unused) == 20 and found.duplicates[0].copies == 100
    again = Audit.model_validate_json(found.model_dump_json())
    assert again == found and len(found.model_dump_json()) < 200_000


def test_copies_are_counted_in_bytes_that_sharing_saves():
    weights = [Weight(name, "float32", (512,), 2048, "same") for name in "abc"]
    weights += [Weight("d", "float16", (1024,), 2048, "same"), Weight("e", "float32", (9,), 36, "")]
    weights += [Weight("f", "float32", (9,), 36, "")]
    found = audit(weights=weights)
    assert found.duplicate_bytes == 2 * 2048
    assert [(entry.names, entry.copies) for entry in found.duplicates] == [(("a", "b", "c"), 3)]


def test_the_lists_of_onnx_runtime_are_those_of_the_installed_one():
    onnxruntime = pytest.importorskip("onnxruntime")
    if not onnxruntime.__version__.startswith("1.32."):
        pytest.skip(f"the table is of ONNX Runtime 1.32, this is {onnxruntime.__version__}")
    folder = Path(onnxruntime.__file__).parent / "tools" / "mobile_helpers"
    for file, table in (
        ("coreml_supported_mlprogram_ops.md", _COREML_PROVIDER),
        ("nnapi_supported_ops.md", _NNAPI_PROVIDER),
    ):
        rows = [
            line.split("|")[1]
            for line in (folder / file).read_text(encoding="utf-8").splitlines()
            if line.startswith("|ai.onnx:")
        ]
        names = {row.removeprefix("ai.onnx:").replace("Argmax", "ArgMax") for row in rows}
        assert names == table


def test_the_table_of_tensorrt_is_what_its_parser_says():
    trt = pytest.importorskip("tensorrt_rtx")
    onnx = pytest.importorskip("onnx")
    if not (trt.__version__.startswith("1.7.1.") and onnx.__version__.startswith("1.23.")):
        pytest.skip(
            f"the table is of tensorrt-rtx 1.7.1 and onnx 1.23, these are {trt.__version__} and {onnx.__version__}"
        )
    log = trt.Logger(trt.Logger.ERROR)
    parser = trt.OnnxParser(trt.Builder(log).create_network(), log)
    names = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert {name for name in names if not parser.supports_operator(name)} == _TENSORRT_REFUSES
