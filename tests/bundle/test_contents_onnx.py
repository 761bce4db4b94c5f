"""Hand-made ONNX files whose dtypes, multiply-adds and unused weights are known from the formulas."""

from pathlib import Path

import numpy as np
import pytest

from edgevl.errors import VerificationFailed
from edgevl.formats import Contents, Operation
from edgevl.formats.onnx_contents import read_onnx

onnx = pytest.importorskip("onnx")
helper, FLOAT, HALF, INT64 = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64


def read(tmp_path: Path, nodes, inputs, outputs, weights, values=(), functions=(), opsets=(("", 20),)) -> Contents:
    """Save a model and read it. inputs, outputs: name -> (type, shape); weights: name -> array."""
    described = [[helper.make_tensor_value_info(n, *kind) for n, kind in side.items()] for side in (inputs, outputs)]
    stored = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", *described, stored, value_info=list(values))
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets]
    onnx.save(helper.make_model(graph, opset_imports=imports, functions=list(functions)), tmp_path / "model.onnx")
    return read_onnx(tmp_path / "model.onnx")


def node(kind: str, inputs: str, outputs: str, **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def normal(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def one(contents: Contents, kind: str) -> Operation:
    (found,) = [operation for operation in contents.operations if operation.type == kind]
    return found


@pytest.mark.parametrize(
    "shape,weight,options,output,macs",
    [
        # out 8 channels of 6 x 6, each a sum over 3 x 3 x 3
        ((1, 3, 8, 8), (8, 3, 3, 3), {}, (1, 8, 6, 6), 8 * 36 * 27),
        ((2, 3, 9, 9), (8, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, (2, 8, 5, 5), 2 * 8 * 25 * 27),
        ((1, 6, 8, 8), (4, 3, 3, 3), {"group": 2, "dilations": [2, 2]}, (1, 4, 4, 4), 4 * 16 * 27),
        ((1, 8, 5, 5), (8, 1, 3, 3), {"group": 8}, (1, 8, 3, 3), 8 * 9 * 9),
        ((1, 4, 10), (6, 4, 5), {}, (1, 6, 6), 6 * 6 * 20),
    ],
)
def test_convolutions(tmp_path, shape, weight, options, output, macs):
    nodes = [node("Conv", "x w", "y", **options)]
    contents = read(tmp_path, nodes, {"x": (FLOAT, shape)}, {"y": (FLOAT, None)}, {"w": normal(*weight)})
    found = one(contents, "Conv")
    assert (found.shape, found.dtype, found.macs, found.compute) == (output, "float32", macs, "float32")
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        stride, pad = options.get("strides", [1])[0], options.get("pads", [0])[0]
        keys = {"stride": stride, "padding": pad, "dilation": options.get("dilations", [1])[0]}
        function = torch.conv1d if len(shape) == 3 else torch.conv2d
        function(torch.zeros(shape), torch.zeros(weight), groups=options.get("group", 1), **keys)
    assert counter.get_total_flops() == 2 * macs


def test_transposed_convolution(tmp_path):
    nodes = [node("ConvTranspose", "x w", "y", strides=[2, 2], group=2)]
    contents = read(tmp_path, nodes, {"x": (FLOAT, [1, 4, 5, 5])}, {"y": (FLOAT, None)}, {"w": normal(4, 3, 2, 2)})
    # each of the 4 x 25 inputs is spread over 3 channels of 2 x 2
    assert one(contents, "ConvTranspose").macs == 100 * 12
    assert one(contents, "ConvTranspose").shape == (1, 6, 10, 10)


@pytest.mark.parametrize(
    "made,left,right,macs",
    [
        (node("MatMul", "x w", "y"), (5, 7), (7, 3), 5 * 7 * 3),
        (node("MatMul", "x w", "y"), (2, 4, 5, 7), (4, 7, 3), 2 * 4 * 5 * 7 * 3),
        (node("MatMul", "x w", "y"), (7,), (7,), 7),
        (node("Gemm", "x w", "y"), (5, 7), (7, 3), 5 * 7 * 3),
        (node("Gemm", "x w", "y", transA=1, transB=1), (7, 5), (3, 7), 5 * 7 * 3),
        (node("Einsum", "x w", "y", equation="bhqd,bhkd->bhqk"), (2, 4, 5, 7), (2, 4, 6, 7), 2 * 4 * 5 * 6 * 7),
        (node("Einsum", "x w", "y", equation="... i j, j k -> ... i k"), (2, 5, 7), (7, 3), 2 * 5 * 7 * 3),
    ],
)
def test_products(tmp_path, made, left, right, macs):
    contents = read(tmp_path, [made], {"x": (FLOAT, left)}, {"y": (FLOAT, None)}, {"w": normal(*right)})
    assert one(contents, made.op_type).macs == macs and contents.macs == {"float32": macs}


def test_half_precision_and_a_false_value_info(tmp_path):
    """What the file says of its inner values is not believed: the product here is in float32."""
    lie = helper.make_tensor_value_info("h", HALF, [5, 7])
    nodes = [node("Relu", "x", "h"), node("MatMul", "h w", "z"), node("Cast", "z", "y", to=HALF)]
    contents = read(tmp_path, nodes, {"x": (FLOAT, [5, 7])}, {"y": (HALF, [5, 3])}, {"w": normal(7, 3)}, [lie])
    assert contents.macs == {"float32": 105}
    assert contents.activation_dtypes == {"float32": 2, "float16": 1}
    nodes = [node("MatMul", "x w", "y")]
    half = {"w": normal(7, 3, dtype=np.float16)}
    contents = read(tmp_path, nodes, {"x": (HALF, [5, 7])}, {"y": (HALF, [5, 3])}, half)
    assert contents.macs == {"float16": 105}


def quantized(weight_only: bool, weight: np.ndarray):
    nodes = [] if weight_only else [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "x1")]
    nodes += [
        node("DequantizeLinear", "w ws", "w1"),
        node("Transpose", "w1", "w2", perm=[1, 0]),
        node("MatMul", f"{'x' if weight_only else 'x1'} w2", "y"),
    ]
    weights = {"w": weight, "ws": np.float32(0.1)}
    return nodes, weights if weight_only else {**weights, "s": np.float32(0.1), "z": np.uint8(128)}


@pytest.mark.parametrize("weight_only,compute", [(True, "float32"), (False, "int8")])
def test_quantized_operands(tmp_path, weight_only, compute):
    nodes, weights = quantized(weight_only, np.ones((3, 7), np.int8))
    contents = read(tmp_path, nodes, {"x": (FLOAT, [5, 7])}, {"y": (FLOAT, [5, 3])}, weights)
    assert contents.macs == {compute: 105}
    assert contents.weight_bytes["int8"] == 21 and contents.weight_bytes["float32"] == (4 if weight_only else 8)
    fixed = {operation.name for operation in contents.operations if operation.constant}
    assert fixed == {"w1", "w2"}, "a dequantized weight is no activation"
    assert contents.activation_dtypes.get("uint8") == (None if weight_only else 1)


def test_integer_operators(tmp_path):
    scale, zero = np.float32(0.1), np.uint8(0)
    nodes = [node("QLinearMatMul", "x s z w s z s z", "y")]
    weights = {"w": np.ones((7, 3), np.uint8), "s": scale, "z": zero}
    inputs, outputs = {"x": (onnx.TensorProto.UINT8, [5, 7])}, {"y": (onnx.TensorProto.UINT8, [5, 3])}
    assert read(tmp_path, nodes, inputs, outputs, weights).macs == {"int8": 105}


def test_four_bit_weights_keep_their_dtype(tmp_path):
    packed = helper.make_tensor("w", onnx.TensorProto.INT4, [7, 3], np.ones(21, np.int8))
    nodes = [node("DequantizeLinear", "w ws", "w1"), node("MatMul", "x w1", "y")]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", FLOAT, [5, 7])],
        [helper.make_tensor_value_info("y", FLOAT, [5, 3])],
        [packed, onnx.numpy_helper.from_array(np.float32(0.1), "ws")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), tmp_path / "model.onnx")
    contents = read_onnx(tmp_path / "model.onnx")
    assert contents.weight_bytes == {"int4": 11, "float32": 4} and contents.macs == {"float32": 105}


def test_copies_and_what_nothing_reads(tmp_path):
    weight = normal(32, 32)
    weights = {
        "a": weight,
        "b": weight.copy(),
        "c": normal(32, 31),
        "lost": weight + 1,
        "small": weight[:1],
        "d": weight,
    }
    nodes = [
        node("MatMul", "x a", "x1"), node("MatMul", "x1 b", "x2"), node("MatMul", "x2 c", "y"),
        node("MatMul", "x d", "dead"), node("Add", "dead small", "dead2"),
    ]  # fmt: skip
    contents = read(tmp_path, nodes, {"x": (FLOAT, [1, 32])}, {"y": (FLOAT, [1, 31])}, weights)
    by_name = {weight.name: weight for weight in contents.weights}
    assert by_name["a"].digest == by_name["b"].digest != by_name["c"].digest
    assert len(by_name["a"].digest) == 64 and by_name["small"].digest == ""
    assert {name for name, weight in by_name.items() if not weight.used} == {"lost", "d", "small"}
    assert {operation.name for operation in contents.operations if not operation.used} == {"dead", "dead2"}
    assert contents.macs == {"float32": 2 * 1024 + 32 * 31}, "a dead product proves nothing"


def test_external_weights_have_the_digest_of_their_bytes(tmp_path):
    weight = normal(32, 32)
    inside = read(
        tmp_path, [node("MatMul", "x w", "y")], {"x": (FLOAT, [1, 32])}, {"y": (FLOAT, [1, 32])}, {"w": weight}
    )
    model = onnx.load(tmp_path / "model.onnx")
    onnx.save(model, tmp_path / "out.onnx", save_as_external_data=True, location="out.bin", size_threshold=0)
    outside = read_onnx(tmp_path / "out.onnx")
    assert outside.weights == inside.weights and outside.macs == inside.macs


def test_sides_that_are_not_fixed(tmp_path):
    contents = read(
        tmp_path, [node("MatMul", "x w", "y")], {"x": (FLOAT, ["batch", 7])}, {"y": (FLOAT, ["batch", 3])},
        {"w": normal(7, 3)},
    )  # fmt: skip
    assert contents.inputs == (("x", (-1, 7)),) and one(contents, "MatMul").shape == (-1, 3)
    assert contents.macs == {"float32": 21}, "of one sample"


def test_types_inside_subgraphs_and_functions(tmp_path):
    make, value = helper.make_graph, helper.make_tensor_value_info
    branches = [
        make([node("MatMul", f"x {weight}", name)], name, [], [value(name, FLOAT, None)])
        for name, weight in (("a", "w"), ("b", "v"))
    ]
    body = helper.make_function(
        "own", "twice", ["i"], ["o"], [node("MatMul", "i i", "h"), node("MatMul", "h h", "o")],
        [helper.make_opsetid("", 20)],
    )  # fmt: skip
    nodes = [
        node("If", "c", "z", then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("twice", ["z"], ["y"], domain="own"),
    ]
    weights = {"c": np.array(True), "w": normal(4, 4), "v": normal(4, 4)}
    opsets = (("", 20), ("own", 1))
    contents = read(
        tmp_path, nodes, {"x": (FLOAT, [4, 4])}, {"y": (FLOAT, [4, 4])}, weights, functions=[body], opsets=opsets
    )
    assert contents.op_types == {"MatMul": 4, "If": 1} and contents.macs == {"float32": 4 * 64}
    assert all(weight.used for weight in contents.weights)


def test_numbers_written_out_and_sparse_ones_are_weights(tmp_path):
    values = normal(4096)
    nodes = [node("Constant", "", "c", value_floats=values.tolist()), node("Mul", "x c", "y")]
    contents = read(tmp_path, nodes, {"x": (FLOAT, (1, 4096))}, {"y": (FLOAT, None)}, {})
    assert contents.weight_bytes == {"float32": 4 * 4096} and contents.weights[0].digest
    model = onnx.load(tmp_path / "model.onnx")
    del model.graph.node[0]
    stored = onnx.numpy_helper.from_array(values[:1000], "c")
    places = onnx.numpy_helper.from_array(np.arange(1000), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(stored, places, [4096]))
    onnx.save(model, tmp_path / "model.onnx")
    contents = read_onnx(tmp_path / "model.onnx")
    assert contents.weight_bytes == {"float32": 4000} and contents.weights[0].used
    assert one(contents, "Mul").shape == (1, 4096)


def test_products_that_cannot_be_counted(tmp_path):
    opsets, x, y = (("", 20), ("com.microsoft", 1)), {"x": (FLOAT, (1, 64))}, {"y": (FLOAT, None)}
    fused = helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft")
    found = one(read(tmp_path, [fused], x, y, {"w": normal(64, 64)}, opsets=opsets), "FusedMatMul")
    assert (found.counted, found.macs, found.domain) == (False, 0, "com.microsoft")
    nodes = [helper.make_node("QuickGelu", ["x"], ["g"], domain="com.microsoft"), node("MatMul", "g w", "y")]
    contents = read(tmp_path, nodes, x, y, {"w": normal(64, 64)}, opsets=opsets)
    assert one(contents, "QuickGelu").counted and not one(contents, "MatMul").counted


def test_a_negative_side_is_refused(tmp_path):
    read(tmp_path, [node("MatMul", "x w", "y")], {"x": (FLOAT, [1, 8])}, {"y": (FLOAT, [1, 8])}, {"w": normal(8, 8)})
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.initializer[0].dims[0] = -8
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(VerificationFailed, match="tensor w has a side of -8"):
        read_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "calls,words", [(lambda level: level + 1, "more than 300,000"), (lambda level: 0, "calls itself")]
)
def test_functions_that_never_end_are_refused(tmp_path, calls, words):
    """Forty functions, each calling the next one twice, would be 2 to the 40th operators."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    functions = [
        helper.make_function("own", f"f{level}", ["i"], ["o"], [
            helper.make_node(f"f{calls(level)}", ["i"], ["h"], domain="own"),
            helper.make_node(f"f{calls(level)}", ["h"], ["o"], domain="own"),
        ], opsets)
        for level in range(40)
    ]  # fmt: skip
    functions.append(helper.make_function("own", "f40", ["i"], ["o"], [node("Relu", "i", "o")], opsets))
    nodes = [helper.make_node("f0", ["x"], ["y"], domain="own")]
    with pytest.raises(VerificationFailed, match=words):
        read(
            tmp_path, nodes, {"x": (FLOAT, [1])}, {"y": (FLOAT, [1])}, {}, functions=functions,
            opsets=(("", 20), ("own", 1)),
        )  # fmt: skip
