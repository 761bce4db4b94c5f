"""Planted lies: for every precision a file that claims it and does not keep it, and the honest one beside it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgevl.bundle.folder import Bundle
from edgevl.bundle.manifest import Manifest
from edgevl.cli import main
from edgevl.formats import Contents, Operation, Weight
from edgevl.verify.audit import inspect_bundle
from edgevl.verify.claims import claim_problems

# A file of each precision: bytes of its weights, multiply-adds, operators beside them.
HONEST = {
    "fp32": ({"float32": 100, "int64": 4}, {"float32": 100}, ()),
    "fp16": ({"float16": 100, "float32": 4}, {"float16": 95, "float32": 5}, ()),
    "w8": ({"int8": 100, "float32": 12}, {"float32": 100}, ("DequantizeLinear",)),
    "w4": ({"int4": 60, "int8": 20, "float16": 10}, {"float16": 100}, ("DequantizeLinear",)),
    "w8a8": ({"int8": 100, "float32": 12}, {"int8": 85, "float32": 15}, ("QuantizeLinear", "DequantizeLinear")),
}


def contents(sizes: dict[str, int], macs: dict[str, int], kinds=(), used: bool = True) -> Contents:
    weights = tuple(Weight(f"w_{dtype}", dtype, (size,), size, used=used) for dtype, size in sizes.items())
    products = [Operation("MatMul", f"m_{dtype}", "float32", (1,), count, dtype) for dtype, count in macs.items()]
    return Contents(weights, (*products, *(Operation(kind, kind, "float32", (1,)) for kind in kinds)), (), ())


@pytest.fixture(scope="module")
def judge(exported):
    """`judge("fp16", contents)`: the sentences about a file that claims fp16."""
    bundle = Bundle.open(exported["onnx"])

    def problems(precision: str, found: Contents, target: str = "onnx") -> list[str]:
        (program,) = bundle.manifest.programs
        programs = (program.model_copy(update={"precision": precision}),)
        changed = {"precision": precision, "target": target, "programs": programs}
        manifest: Manifest = bundle.manifest.model_copy(update=changed)
        inputs, outputs = (
            tuple((spec.name, spec.shape) for spec in specs) for specs in (manifest.inputs, manifest.outputs)
        )
        found = dataclasses.replace(found, inputs=inputs, outputs=outputs)
        return claim_problems(manifest, {manifest.artifact: found})

    return problems


@pytest.mark.parametrize("claim", HONEST)
@pytest.mark.parametrize("truth", HONEST)
def test_every_swapped_claim_is_one_sentence_that_names_the_biggest_offender(judge, claim, truth):
    problems = judge(claim, contents(*HONEST[truth]))
    if claim == truth:
        assert problems == []
    else:
        (problem,) = problems
        assert f"claims {claim}" in problem and ("w_" in problem or "m_" in problem or "no operator" in problem)


@pytest.mark.parametrize(
    "claim,macs,words",
    [
        ("fp16", {"float32": 100}, "only 0.0% of its multiply-adds are float16"),
        ("fp16", {"float16": 89, "float32": 11}, "only 89.0% of its multiply-adds are float16"),
        ("fp16", {"float16": 80, "": 20}, "unknown 20.0%"),
        ("fp32", {"float16": 20, "float32": 80}, "only 80.0% of its multiply-adds are float32"),
        ("w8a8", {"int8": 70, "float32": 30}, "claims w8a8, but only 70.0% of its multiply-adds are int8"),
        ("w8", {"int8": 21, "float32": 79}, "the arithmetic of w8a8"),
    ],
)
def test_arithmetic_that_is_not_what_is_claimed(judge, claim, macs, words):
    sizes, _, kinds = HONEST[claim]
    (problem,) = judge(claim, contents(sizes, macs, kinds))
    assert words in problem and "MatMul m_" in problem and "multiply-adds)" in problem


@pytest.mark.parametrize("claim", ["fp16", "fp32"])
def test_weights_that_nothing_reads_prove_nothing(judge, claim):
    """A lot of unused weights in the claimed dtype would push the real ones below the threshold."""
    other = {"fp16": "float32", "fp32": "float16"}[claim]
    real, dead = (
        contents({other: 100}, {}),
        contents({{"fp16": "float16", "fp32": "float32"}[claim]: 10_000}, {}, used=False),
    )
    padded = dataclasses.replace(real, weights=real.weights + dead.weights)
    (problem,) = judge(claim, padded)
    assert f"100.0% of its weight bytes are {other}" in problem


def test_who_decides_what_is_computed(judge):
    """LiteRT unpacks fp16 weights; a delegate that hides its arithmetic is judged by what is known."""
    half = contents(HONEST["fp16"][0], {"float32": 100})
    assert judge("fp16", half, "litert") == [] and judge("fp16", half, "coreml") != []
    hidden = contents(HONEST["fp16"][0], {"": 90, "float16": 10})
    assert judge("fp16", hidden, "executorch") == [] and judge("fp16", hidden, "onnx") != []
    assert judge("w8", contents(HONEST["w8"][0], {"int8": 100}), "litert") == []


@pytest.mark.parametrize("claim", HONEST)
def test_a_product_that_cannot_be_counted_keeps_no_claim(judge, claim):
    honest = contents(*HONEST[claim])
    hidden = Operation("FusedMatMul", "m", "float32", (1, 64), counted=False, domain="com.microsoft")
    for place in ("used", "constant"):  # what no output needs, or what follows from weights alone, hides nothing
        harmless = dataclasses.replace(hidden, **{place: place == "constant"})
        assert judge(claim, dataclasses.replace(honest, operations=(*honest.operations, harmless))) == []
    (problem,) = judge(claim, dataclasses.replace(honest, operations=(*honest.operations, hidden)))
    assert "the multiply-adds of FusedMatMul m cannot be counted" in problem


def test_many_other_dtypes_are_as_bad_as_one(judge):
    sizes = {"float32": 86, "float16": 5, "int8": 4.5, "uint8": 4.5}
    (problem,) = judge("fp32", contents(sizes, {"float32": 100}))  # pyright: ignore[reportArgumentType]
    assert "14.0% of its weight bytes are float16 and int8 and uint8, not float32" in problem


def test_dynamic_range_is_not_static_int8(judge):
    found = contents(HONEST["w8"][0], {"int8": 100}, ("FULLY_CONNECTED",))
    assert "no operator in it quantizes an activation" in judge("w8a8", found, "litert")[0]


def rewrite(path: Path, change) -> None:
    """Change the ONNX file of a bundle: `change(graph, weights)`, weights being the large float32 initializers."""
    import onnx

    model = onnx.load(path / "model.onnx")
    tensors = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and np.prod(t.dims) > 64]
    change(model.graph, tensors)
    onnx.checker.check_model(model, full_check=True)
    (path / "model.onnx").write_bytes(model.SerializeToString())


def silently_fp32(graph, tensors) -> None:
    """Weights in half precision, each cast back before it is used: half the bytes, none of the speed."""
    import onnx

    for tensor in tensors:
        half = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16), tensor.name + ".h")
        cast = onnx.helper.make_node("Cast", [half.name], [tensor.name], to=onnx.TensorProto.FLOAT)
        graph.node.insert(0, cast)
        graph.initializer.append(half)
        graph.initializer.remove(tensor)


def weights_alone(graph, tensors) -> None:
    """Integer weights and one activation that is quantized for show."""
    import onnx

    for tensor in tensors:
        value = onnx.numpy_helper.to_array(tensor)
        scale = np.array(max(np.abs(value).max(), 1e-6) / 127, np.float32)
        integers = onnx.numpy_helper.from_array((value / scale).round().astype(np.int8), tensor.name + ".q")
        scales = onnx.numpy_helper.from_array(scale, tensor.name + ".s")
        graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", [integers.name, scales.name], [tensor.name]))
        graph.initializer.extend([integers, scales])
        graph.initializer.remove(tensor)
    scale = graph.initializer[-1].name
    last = graph.node[-1]
    name, last.output[0] = last.output[0], "before"
    graph.node.append(onnx.helper.make_node("QuantizeLinear", ["before", scale], ["quantized"]))
    graph.node.append(onnx.helper.make_node("DequantizeLinear", ["quantized", scale], [name]))


@pytest.mark.parametrize(
    "change,claim,words",
    [
        (silently_fp32, "fp16", "claims fp16, but only 0.0% of its multiply-adds are float16 (float32 100.0%)"),
        (weights_alone, "w8a8", "claims w8a8, but only 0.0% of its multiply-adds are int8 (float32 100.0%)"),
    ],
)
def test_a_real_file_that_lies_fails_verify_with_exit_code_4(fresh, tools, capsys, change, claim, words):
    path = fresh("onnx")
    rewrite(path, change)
    tools.claim(path, claim)
    tools.forge(path)
    (problem,) = inspect_bundle(path).problems
    assert words in problem and "the largest other operator is" in problem
    assert main(["verify", str(path), "--samples", "2"]) == 4
    assert words in " ".join((capsys.readouterr().out).split())
