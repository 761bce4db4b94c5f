"""Artifacts that never end or take all memory: every command that runs one stops, with exit code 4 and one line."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgevl.bundle.folder import list_files


@pytest.fixture(scope="module")
def good(tiny_model, tmp_path_factory) -> Path:
    from edgevl.bundle_export import export_bundle

    return export_bundle(tiny_model, "onnx", out=tmp_path_factory.mktemp("good") / "good.edgevl")


@pytest.fixture
def hostile(good, tmp_path):
    """`hostile(nodes, constants)`: a bundle whose artifact is that graph, its digests made to fit."""

    def make(nodes, constants) -> Path:
        bundle = Path(shutil.copytree(good, tmp_path / "their.edgevl"))
        values = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        specs = [_value(spec) for spec in (*values["programs"][0]["inputs"], *values["programs"][0]["outputs"])]
        tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
        graph = helper.make_graph(nodes, "g", specs[:2], specs[2:], tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        (bundle / "model.onnx").write_bytes(model.SerializeToString())
        values["files"] = {name: entry.model_dump() for name, entry in list_files(bundle).items()}
        (bundle / "manifest.json").write_text(json.dumps(values), encoding="utf-8")
        return bundle

    return make


def _value(spec):
    kinds = {"uint8": TensorProto.UINT8, "int32": TensorProto.INT32, "float32": TensorProto.FLOAT}
    return helper.make_tensor_value_info(spec["name"], kinds[spec["dtype"]], spec["shape"])


def endless(answers: int):
    """A loop of 2**62 turns."""
    row = [1, answers]
    values = [("i", TensorProto.INT64, []), ("more", TensorProto.BOOL, []), ("x", TensorProto.FLOAT, row)]
    given = [("go_on", TensorProto.BOOL, []), ("y", TensorProto.FLOAT, row)]
    body = helper.make_graph(
        [helper.make_node("Identity", ["more"], ["go_on"]), helper.make_node("Add", ["x", "x"], ["y"])], "body",
        [helper.make_tensor_value_info(*value) for value in values],
        [helper.make_tensor_value_info(*value) for value in given],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["count", "true", "zero"], ["logits"], body=body)
    return [loop], {"count": np.int64(2**62), "true": np.bool_(True), "zero": np.zeros(row, np.float32)}


def huge(answers: int, elements: int):
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceMean", ["huge"], ["mean"], keepdims=1),
        helper.make_node("Add", ["mean", "zero"], ["logits"]),
    ]
    return nodes, {"shape": np.array([elements], np.int64), "zero": np.zeros([1, answers], np.float32)}


def edgevl(*words: object, program: str = "-m edgevl") -> tuple[int, str, list[str], float]:
    """Exit code, standard output, error lines, seconds."""
    start = time.monotonic()
    command = [sys.executable, *program.split(maxsplit=1), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, encoding="utf-8")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, errors, time.monotonic() - start


@pytest.fixture
def answers(good) -> int:
    return json.loads((good / "manifest.json").read_text(encoding="utf-8"))["labels"]["count"]


@pytest.mark.parametrize("command", ["verify", "predict", "bench", "compare"])
def test_a_graph_that_never_ends(hostile, answers, good, command):
    bundle = hostile(*endless(answers))
    words = {"verify": ["--json"], "predict": ["sample", "what is it?"], "bench": ["--against", ""],
             "compare": [good, "--preset", "rapid"]}[command]  # fmt: skip
    code, out, errors, _ = edgevl(command, bundle, *words, "--max-seconds", 1)
    assert (code, out) == (4, "")
    assert errors == [
        "error: running their.edgevl/model.onnx did not end within 1 s, the limit, and was stopped: "
        "--max-seconds raises it (in Python, Limits(seconds=...))"
    ]


def test_an_endless_graph_is_read_but_not_run_by_inspect(hostile, answers):
    code, out, errors, _ = edgevl("inspect", hostile(*endless(answers)), "--json", "--max-seconds", 60)
    assert code == 0 and json.loads(out)["op_types"]["Loop"] == 1 and not errors


@pytest.mark.parametrize("elements", [1_500_000_000, 25_000_000_000])  # 6 GB that are there perhaps, 100 GB
def test_a_graph_that_takes_all_memory(hostile, answers, elements):
    code, out, (line,), _ = edgevl("predict", hostile(*huge(answers, elements)), "sample", "what?", "--max-memory", 1)
    assert (code, out) == (4, "") and "memory" in line
    assert line.startswith("error: running their.edgevl/model.onnx ") and "--max-memory raises it" in line


FRESH = """
import sys
from edgevl.guard import children
children.CAN_FORK = False
sys.argv[0] = "edgevl"
from edgevl.cli import main
sys.exit(main())
"""


def test_where_a_process_cannot_fork(hostile, answers, good, tmp_path):
    """macOS and Windows start a fresh interpreter for the work."""
    script = tmp_path / "fresh.py"
    script.write_text(FRESH, encoding="utf-8")
    bundle = hostile(*endless(answers))
    question = ["sample", "what?", "--max-seconds", 1]
    code, out, errors, _ = edgevl("predict", bundle, *question, program=str(script))
    assert (code, out, len(errors)) == (4, "", 1) and "did not end within 1 s" in errors[0]
    code, out, errors, _ = edgevl("predict", good, *question[:2], "--json", program=str(script))
    assert code == 0 and json.loads(out)["answer"] and not errors


def test_python_has_it_in_one_call(hostile, answers):
    from edgevl.guard import LimitPassed, Limits, limited
    from edgevl.predict import predict

    with pytest.raises(LimitPassed, match=r"running their\.edgevl/model\.onnx did not end within 1 s"):
        limited(predict, hostile(*endless(answers)), "sample", "what is it?", limits=Limits(seconds=1))
