"""ML Programs whose multiply-adds are known, with compressed weights of every kind; the nano in ONNX and in Core ML."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevl.formats import Contents, Operation
from edgevl.formats.coreml_contents import read_coreml
from edgevl.runtime.coreml_quiet import import_coremltools, quiet_coremltools

pytest.importorskip("coremltools")
RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def build(body, shapes: dict[str, tuple], target: str = "iOS16", half: bool = False) -> Any:
    """The MLModel of `body(mb, *inputs)`, whose graph is left as described."""
    ct = import_coremltools("a test")
    from coremltools.converters.mil.mil import Builder as mb

    scope: dict[str, Any] = {"body": body, "mb": mb}
    exec(f"def program({', '.join(shapes)}): return body(mb, {', '.join(shapes)})", scope)
    opset = getattr(ct.target, target)
    with quiet_coremltools():
        program = mb.program([mb.TensorSpec(shape) for shape in shapes.values()], opset_version=opset)(scope["program"])
        return ct.convert(
            program, convert_to="mlprogram", minimum_deployment_target=opset, skip_model_load=True,
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.DEFAULT if half else ct.PassPipeline.EMPTY,
        )  # fmt: skip


def read(model: Any, tmp_path: Path) -> Contents:
    with quiet_coremltools():
        model.save(str(tmp_path / "model.mlpackage"))
    return read_coreml(tmp_path / "model.mlpackage")


def one(contents: Contents, kind: str) -> Operation:
    (found,) = [operation for operation in contents.operations if operation.type == kind]
    return found


def products(mb: Any, image: Any, tokens: Any) -> Any:
    weight = normal(8, 3, 3, 3)
    conv = mb.conv(x=image, weight=weight, strides=[2, 2], groups=2, name="conv")  # [1, 8, 4, 4] of 6 channels, 9 x 9
    up = mb.conv_transpose(x=conv, weight=normal(8, 5, 2, 2), strides=[2, 2], name="up")  # [1, 5, 8, 8]
    line = mb.linear(x=tokens, weight=normal(6, 16), bias=normal(6), name="line")  # [1, 7, 6]
    square = mb.matmul(x=line, y=line, transpose_x=True, name="square")  # [1, 6, 6]
    return up, square


@pytest.mark.parametrize("half,dtype", [(False, "float32"), (True, "float16")])
def test_multiply_adds(tmp_path, half, dtype):
    model = build(products, {"image": (1, 6, 9, 9), "tokens": (1, 7, 16)}, half=half)
    contents = read(model, tmp_path)
    counts = {operation.type: operation.macs for operation in contents.operations if operation.macs}
    assert counts == {
        "conv": 8 * 16 * 27, "conv_transpose": 8 * 16 * 20, "linear": 7 * 16 * 6, "matmul": 6 * 6 * 7,
    }  # fmt: skip
    assert contents.macs == {dtype: sum(counts.values())}
    assert (one(contents, "conv").shape, one(contents, "conv").dtype) == ((1, 8, 4, 4), dtype)
    assert all(weight.used for weight in contents.weights)


def test_einsum_and_attention(tmp_path):
    def body(mb: Any, q: Any, k: Any) -> Any:
        scores = mb.einsum(values=(q, mb.transpose(x=k, perm=[0, 3, 2, 1])), equation="nchw,nwhu->nchu")
        return scores, mb.scaled_dot_product_attention(query=q, key=k, value=k)

    contents = read(build(body, {"q": (1, 5, 3, 7), "k": (1, 5, 3, 7)}, "iOS18"), tmp_path)
    assert one(contents, "einsum").macs == 5 * 3 * 7 * 5
    assert one(contents, "scaled_dot_product_attention").macs == 2 * 5 * 3 * 3 * 7


def test_copies_and_what_nothing_reads(tmp_path):
    weight = normal(32, 32)

    def body(mb: Any, x: Any) -> Any:
        mb.linear(x=x, weight=normal(32, 32), bias=normal(32), name="dead")
        first = mb.linear(x=x, weight=mb.const(val=weight, name="a"), bias=normal(32), name="first")
        return mb.linear(x=first, weight=mb.const(val=weight.copy(), name="b"), bias=normal(32), name="second")

    contents = read(build(body, {"x": (1, 32)}), tmp_path)
    by_name = {item.name: item for item in contents.weights}
    assert by_name["a"].digest == by_name["b"].digest and len(by_name["a"].digest) == 64
    assert {item.bytes for item in contents.weights if not item.used} == {4096, 128}
    assert {operation.name for operation in contents.operations if not operation.used} == {"dead"}
    assert contents.macs == {"float32": 2 * 1024}


def compress(kind: str, model: Any) -> Any:
    import coremltools.optimize.coreml as cto

    config, run = {
        "int8": (cto.OpLinearQuantizerConfig(mode="linear_symmetric"), cto.linear_quantize_weights),
        "int4": (
            cto.OpLinearQuantizerConfig(dtype="int4", granularity="per_block", block_size=32),
            cto.linear_quantize_weights,
        ),
        "palette": (cto.OpPalettizerConfig(mode="kmeans", nbits=4), cto.palettize_weights),
        "sparse": (cto.OpMagnitudePrunerConfig(target_sparsity=0.75), cto.prune_weights),
    }[kind]
    with quiet_coremltools():
        return run(model, cto.OptimizationConfig(global_config=config))


@pytest.mark.parametrize(
    "kind,target,dtype,bytes_each",
    [
        ("int8", "iOS16", "int8", 1), ("int8", "iOS18", "int8", 1), ("int4", "iOS18", "int4", 1 / 2),
        ("palette", "iOS16", "uint4", 1 / 2), ("palette", "iOS18", "uint4", 1 / 2), ("sparse", "iOS16", "uint1", 1 / 8),
        ("sparse", "iOS18", "uint1", 1 / 8),
    ],
)  # fmt: skip
def test_compressed_weights_keep_their_stored_dtype(tmp_path, kind, target, dtype, bytes_each):
    weight = normal(64, 64)
    model = build(lambda mb, x: mb.linear(x=x, weight=weight, bias=normal(64)), {"x": (1, 64)}, target, half=True)
    contents = read(compress(kind, model), tmp_path)
    stored = max((item for item in contents.weights if item.dtype == dtype), key=lambda item: item.bytes)
    assert stored.bytes == 64 * 64 * bytes_each and np.prod(stored.shape) == 64 * 64
    assert contents.weight_bytes[dtype] - stored.bytes in (0, 64), "iOS 16 has a zero point for each channel"
    assert contents.macs == {"float16": 64 * 64}, "weights alone are integers"
    unpacked = [operation for operation in contents.operations if operation.type.startswith("constexpr_")]
    assert unpacked and all(operation.constant for operation in unpacked)
    assert not {operation.type for operation in contents.activations} & {operation.type for operation in unpacked}


def test_values_and_weights_in_int8(tmp_path):
    weight, scale = RANDOM.integers(-127, 128, (8, 16)).astype(np.int8), np.float32(0.1)

    def body(mb: Any, x: Any) -> Any:
        q = mb.quantize(input=x, scale=scale, zero_point=np.int8(0), output_dtype="int8")
        back = mb.reshape(x=mb.dequantize(input=q, scale=scale, zero_point=np.int8(0)), shape=[4, 16])
        unpacked = mb.constexpr_affine_dequantize(
            quantized_data=weight, zero_point=np.int8(0), scale=scale, axis=np.int32(0)
        )
        return mb.matmul(x=back, y=unpacked, transpose_y=True)

    contents = read(build(body, {"x": (2, 2, 16)}, "iOS17"), tmp_path)
    assert contents.macs == {"int8": 4 * 16 * 8}
    assert contents.weight_bytes["int8"] >= 128 and contents.activation_dtypes["int8"] == 1


def test_two_constants_over_one_block_take_its_bytes_once(tmp_path):
    """What coremltools writes for several functions that share weights."""
    from coremltools.proto import Model_pb2

    def body(mb: Any, x: Any) -> Any:
        first = mb.linear(x=x, weight=mb.const(val=normal(32, 32), name="a"), bias=normal(32))
        return mb.linear(x=first, weight=mb.const(val=normal(32, 32), name="b"), bias=normal(32))

    before = read(build(body, {"x": (1, 32)}), tmp_path)
    path = tmp_path / "model.mlpackage/Data/com.apple.CoreML/model.mlmodel"
    spec: Any = Model_pb2.Model()  # pyright: ignore[reportAttributeAccessIssue]
    spec.ParseFromString(path.read_bytes())
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    values = {op.outputs[0].name: op.attributes["val"].blobFileValue for op in block.operations if op.type == "const"}
    values["b"].offset = values["a"].offset
    path.write_bytes(spec.SerializeToString())
    after = read_coreml(tmp_path / "model.mlpackage")
    assert before.weight_bytes["float32"] - after.weight_bytes["float32"] == 4096


@pytest.fixture(scope="module")
def nano():
    from edgevl.models.checkpoint import load_model

    return load_model(None).model.eval()


@pytest.mark.slow
def test_the_nano_has_the_same_multiply_adds_in_onnx_core_ml_and_torch(nano, tmp_path):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from edgevl.export.to_coreml import write_coreml
    from edgevl.export.to_onnx import write_onnx
    from edgevl.formats.onnx_contents import read_onnx
    from edgevl.models.capture import ADAPTERS, Adapted, example_inputs
    from edgevl.models.question_answering import answering_program, export_program

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        Adapted(answering_program(nano), ADAPTERS["raw"])(*example_inputs(answering_program(nano)))
    expected = counter.get_total_flops() / 2
    write_onnx(export_program(nano, "raw"), tmp_path / "model.onnx")
    write_coreml(export_program(nano, "float"), tmp_path / "model.mlpackage")
    (onnx_macs,) = read_onnx(tmp_path / "model.onnx").macs.values()
    (coreml_macs,) = read_coreml(tmp_path / "model.mlpackage").macs.values()
    assert onnx_macs == pytest.approx(expected, rel=0.01) and coreml_macs == pytest.approx(expected, rel=0.01)
