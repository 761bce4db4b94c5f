"""Reading an artifact takes time and memory in proportion to its size: small files that once took hours, or gigabytes.

What is measured is this process's own processor time, since other tests share the machine; the limits are several times
what is needed, and a small part of what it was.
"""

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgevl.errors import VerificationFailed
from edgevl.formats import Contents, read_artifact
from edgevl.formats.flatbuffer import REUSE, Table
from edgevl.formats.graph import Backwards, Once, Parts, Step, elements, live_values

ROW = [1, 4]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    before = time.process_time()
    yield
    assert time.process_time() - before < seconds


@pytest.fixture
def read(tmp_path) -> Callable[..., Contents]:
    """`read(nodes, name=array, ...)`: an ONNX file of these nodes and constants, read."""

    def make(nodes, **constants) -> Contents:
        tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ROW)]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ROW)]
        model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, tensors), ir_version=9)
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        return read_artifact(tmp_path / "model.onnx", "onnx")

    return make


def test_a_shape_that_is_doubled_forty_times(read):
    """ONNX's data propagation stores the numbers of a value that may become a shape: 2^40 of them."""
    doubled = [helper.make_node("Concat", [f"s{i}", f"s{i}"], [f"s{i + 1}"], axis=0) for i in range(40)]
    nodes = [helper.make_node("Shape", ["x"], ["s0"]), *doubled, helper.make_node("Neg", ["x"], ["y"])]
    with within(5):
        assert read(nodes).op_types["Concat"] == 40


def test_values_of_ever_more_sides(read):
    """A chain of Unsqueeze: the sides of its values together are the square of its length."""
    chain = [helper.make_node("Unsqueeze", [f"v{i}" if i else "x", "axes"], [f"v{i + 1}"]) for i in range(8000)]
    with within(10):
        found = read([*chain, helper.make_node("Neg", ["x"], ["y"])], axes=np.array([0]))
    assert found.op_types["Unsqueeze"] == 8000 and max(len(one.shape) for one in found.operations) < 300


def test_honest_shapes_are_still_inferred(read):
    """Squeeze and Unsqueeze in turn, and shapes that are put together from parts."""
    turns = [
        node
        for i in range(200)
        for node in (
            helper.make_node("Unsqueeze", [f"v{i}" if i else "x", "axes"], [f"u{i}"]),
            helper.make_node("Squeeze", [f"u{i}", "axes"], [f"v{i + 1}"]),
        )
    ]
    tail = [
        helper.make_node("Shape", ["v200"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["sides"], axis=0),
        helper.make_node("Reshape", ["v200", "sides"], ["r"]),
        helper.make_node("MatMul", ["r", "weight"], ["m"]),
        helper.make_node("Flatten", ["m"], ["y"]),
    ]
    found = read(
        [*turns, *tail], axes=np.array([0]), first=np.array([0]), rest=np.array([2, 2]), weight=np.ones((2, 3), "f4")
    )
    assert sum(found.macs.values()) == 2 * 2 * 3


def test_one_operator_that_reads_and_writes_ten_thousand_values(read):
    many = [f"v{i}" for i in range(10_000)]
    nodes = [helper.make_node("Wide", ["x", *many], ["y", *[f"w{i}" for i in range(10_000)]], domain="a.b")]
    nodes.append(helper.make_node("Wide", [f"w{i}" for i in range(10_000)], many, domain="a.b"))
    with within(10):
        read(nodes)


def test_ten_thousand_products_behind_ten_thousand_moves(read):
    moves = [helper.make_node("Identity", [f"v{i}" if i else "x"], [f"v{i + 1}"]) for i in range(10_000)]
    products = [helper.make_node("MatMul", ["v10000", "weight"], [f"p{i}"]) for i in range(10_000)]
    with within(20):
        found = read([*moves, *products, helper.make_node("Neg", ["x"], ["y"])], weight=np.ones((4, 4), "f4"))
    assert found.op_types == {"Identity": 10_000, "MatMul": 10_000, "Neg": 1}


def test_what_lies_in_nested_graphs_is_read_once(read):
    """Both branches of an If hold an If, ten deep; what they hold was read again at each level around it."""
    with within(20):
        found = read([_nested(11, "a", "y")], condition=np.bool_(True), zero=np.zeros(ROW, "f4"))
    assert found.op_types == {"If": 2**11 - 1, "Identity": 2**11}


def _nested(depth: int, tag: str, name: str):
    def branch(side: str):
        inner = f"{tag}{side}"
        leaf = helper.make_node("Identity", ["zero"], [inner])
        node = _nested(depth - 1, inner, inner) if depth > 1 else leaf
        return helper.make_graph([node], inner, [], [helper.make_tensor_value_info(inner, TensorProto.FLOAT, ROW)])

    return helper.make_node("If", ["condition"], [name], then_branch=branch("t"), else_branch=branch("e"))


def test_a_thousand_weights_that_are_the_same_bytes(tmp_path):
    """Of external data: each was read and hashed for itself."""
    (tmp_path / "data.bin").write_bytes(bytes(30_000_000))
    tensors = []
    for index in range(1000):
        tensor = TensorProto(name=f"w{index}", data_type=TensorProto.UINT8, dims=[30_000_000])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="data.bin")
        tensors.append(tensor)
    value = helper.make_tensor_value_info("y", TensorProto.UINT8, [30_000_000])
    model = helper.make_model(
        helper.make_graph([helper.make_node("Identity", ["w0"], ["y"])], "g", [], [value], tensors)
    )
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with within(10):
        found = read_artifact(tmp_path / "model.onnx", "onnx")
    assert len({weight.digest for weight in found.weights}) == 1 and len(found.weights) == 1000


def test_weights_that_overlap_are_refused(tmp_path):
    (tmp_path / "data.bin").write_bytes(bytes(1_000_000))
    parts = Parts(tmp_path / "data.bin")
    assert parts.digest(0, 1000) == "" and len(parts.digest(5, 900_000)) == 64
    assert parts.digest(5, 900_000) == Parts(tmp_path / "data.bin").digest(0, 900_000)
    with pytest.raises(VerificationFailed, match=r"data\.bin names the same bytes as many weights: they overlap"):
        for start in range(10):
            parts.digest(start, 900_000)
    once = Once(1_000_000, "a file")
    once.add(1_900_000)
    with pytest.raises(VerificationFailed, match="a file names the same bytes"):
        once.add(200_000)


def test_shapes_have_few_sides():
    assert elements((2, 0, 3)) == 0
    with pytest.raises(VerificationFailed, match="a value has 1,000 dimensions"):
        elements((2**62,) * 1000)


def test_what_depends_on_what_is_asked_once():
    wide = Step(tuple(f"r{i}" for i in range(3000)), tuple(f"w{i}" for i in range(3000)))
    with within(2):
        assert len(live_values([wide], wide.writes)) == 6000


def test_chains_are_followed_once_and_circles_end():
    asked = []

    def step(name: str) -> tuple[str, str]:
        asked.append(name)
        return ("int8", "") if name == "0" else ("", str(int(name) - 1)) if name.isdigit() else ("", "ring")

    back = Backwards(step)
    assert [back("900"), back("1000"), back("500"), back("ring"), back("")] == ["int8"] * 3 + ["", ""]
    assert len(asked) == 1002


def test_a_flatbuffer_that_names_one_vector_a_thousand_times():
    data = _flatbuffer(names=2000, numbers=20_000)
    with within(5), pytest.raises(VerificationFailed, match=f"over and over: to read it takes {REUSE} times its size"):
        for table in Table.root(data, "the file", (b"TEST",)).tables(0):
            table.scalars(0, "i")
    few = Table.root(_flatbuffer(names=3, numbers=20_000), "the file", (b"TEST",))
    assert [len(table.scalars(0, "i")) for table in few.tables(0)] == [20_000] * 3


def _flatbuffer(names: int, numbers: int) -> bytes:
    """A root with a vector of `names` tables, all of them the same one, which holds a vector of `numbers` integers."""
    table = 20 + 4 + 4 * names  # where that one lies, behind root and vector; both tables share the vtable at 8
    head = struct.pack("<I4sHHHxx", 16, b"TEST", 6, 8, 4)  # root at 16; vtable: 6 bytes, a table of 8, its field at 4
    root = struct.pack("<iI", 16 - 8, 4)  # back to the vtable; the vector begins 4 bytes on
    start = len(head) + len(root)
    offsets = [table + 4 - (start + 4 + 4 * index) for index in range(names)]
    inner = struct.pack("<iI", table + 4 - 8, 4)
    return (
        head
        + root
        + struct.pack(f"<I{names}I", names, *offsets)
        + inner
        + struct.pack(f"<I{numbers}i", numbers, *range(numbers))
    )


def test_the_files_of_this_test_folder_are_read_as_before(bundles):
    """What is honest stays within every limit."""
    for name, path in bundles.items():
        target = "onnx" if name == "split" else name
        artifacts = sorted(Path(path).glob("model.*")) + sorted(Path(path).glob("model/*"))
        for artifact in artifacts:
            assert read_artifact(artifact, target).macs
