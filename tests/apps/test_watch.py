"""Artifacts that never end, take all memory or crash: the board's script ends them, with one line and exit code 4."""

import faulthandler
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

JETSON = Path(__file__).parents[2] / "apps" / "jetson"


@pytest.fixture
def hostile(bundles, tmp_path) -> Callable[[list, dict], Path]:
    """A bundle with digests that fit, whose graph of the right inputs and outputs has these nodes and constants."""
    bundle = Path(shutil.copytree(bundles["onnx"], tmp_path / "hostile.edgevl"))
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))

    def make(nodes: list, constants: dict) -> Path:
        dtypes = {"uint8": TensorProto.UINT8, "int32": TensorProto.INT32, "float32": TensorProto.FLOAT}
        inputs, outputs = (
            [
                helper.make_tensor_value_info(s["name"], dtypes[s["dtype"]], s["shape"])
                for s in manifest["programs"][0][key]
            ]
            for key in ("inputs", "outputs")
        )
        kept = [numpy_helper.from_array(value, name) for name, value in constants.items()]
        graph = helper.make_graph(nodes, "g", inputs, outputs, kept)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        data = model.SerializeToString()
        (bundle / "model.onnx").write_bytes(data)
        manifest["files"]["model.onnx"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return bundle

    return make


def endless(answers: int) -> tuple[list, dict]:
    """A loop of 2**62, as in cases/reliability/endless_graph.py."""
    row = [1, answers]
    body = helper.make_graph(
        [helper.make_node("Identity", ["more"], ["go_on"]), helper.make_node("Add", ["x", "x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, row),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, row),
        ],
    )
    nodes = [helper.make_node("Loop", ["count", "true", "zero"], ["logits"], body=body)]
    constants = {"count": np.array(2**62), "true": np.array(True), "zero": np.zeros(row, np.float32)}
    return nodes, constants


def large(answers: int, bytes_: int) -> tuple[list, dict]:
    """A constant of so many bytes that is made when the model runs, from the tokens, so that nobody folds it before."""
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.INT64),
        helper.make_node("ReduceMin", ["ids"], ["least"], keepdims=0),  # 0: the padding
        helper.make_node("Add", ["least", "count"], ["many"]),
        helper.make_node("Reshape", ["many", "one"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("Expand", ["sum", "row"], ["logits"]),
    ]
    return nodes, {"count": np.array(bytes_ // 4), "one": np.array([1]), "row": np.array([1, answers])}


def check(bundle: Path, *options: object) -> tuple[int, list[str], float]:
    """(exit code, error lines, seconds) of the script with --check."""
    started = time.monotonic()
    command = [sys.executable, JETSON / "benchmark.py", bundle, "--check", "--threads", 1, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, encoding="utf-8")
    assert "Traceback" not in done.stderr, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return done.returncode, errors, time.monotonic() - started


def answers_of(bundle: Path) -> int:
    return json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["labels"]["count"]


def test_a_graph_that_never_ends(hostile, bundles):
    bundle = hostile(*endless(answers_of(bundles["onnx"])))
    code, errors, seconds = check(bundle, "--step-seconds", 3)
    assert code == 4 and seconds < 20
    assert len(errors) == 1 and "took more than 3 s, so it was ended" in errors[0] and "--step-seconds N" in errors[0]


@pytest.mark.parametrize("gigabytes", [2, 100])
def test_a_graph_that_takes_all_memory(hostile, bundles, gigabytes):
    """Two GB are there, and the limit ends it; a hundred are not, and the runtime says so itself."""
    bundle = hostile(*large(answers_of(bundles["onnx"]), gigabytes << 30))
    code, errors, seconds = check(bundle, "--memory-mb", 600, "--step-seconds", 15)
    assert code == 4 and len(errors) == 1 and seconds < 20, errors
    if gigabytes == 2:
        assert "took more than 600 MiB of memory, so it was ended; --memory-mb N allows more" in errors[0]


def test_limits_can_be_raised(hostile, bundles):
    """A graph that is only large runs to its end, and is told to be another model than the golden cases'."""
    bundle = hostile(*large(answers_of(bundles["onnx"]), 200 << 20))
    code, errors, _ = check(bundle, "--memory-mb", 30)
    assert code == 4 and "of memory" in errors[0]
    code, errors, _ = check(bundle)
    assert code == 4 and "logits differs by" in errors[0]


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "many", ""])
def test_limits_are_numbers(bundles, value):
    command = [sys.executable, JETSON / "benchmark.py", bundles["onnx"], f"--memory-mb={value}"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 2 and "is not a number above 0" in done.stderr


@pytest.mark.parametrize(("number", "words"), [(signal.SIGSEGV, "crashes its runtime"), (signal.SIGKILL, "memory")])
def test_a_crash_is_one_line(jetson, capfd, number, words):
    watch = jetson.watch

    def work(watcher) -> int:
        faulthandler.disable()  # pytest's, which would write what the test does not look for
        watcher.step(watch.LOADING)
        os.kill(os.getpid(), number)
        return 0

    assert watch.watched(work, watch.Limits()) == 4
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: loading the artifact ended the process with SIG") and words in line


def test_steps_that_are_each_in_time_take_as_long_as_they_want(jetson, capfd):
    watch = jetson.watch

    def work(watcher) -> int:
        query = watcher.each(lambda: time.sleep(0.2))
        for _ in range(6):
            query()
        return 7

    assert watch.watched(work, watch.Limits(seconds=0.6)) == 7 and capfd.readouterr().err == ""


def test_what_a_child_has_started_counts_and_is_ended_too(jetson, capfd, tmp_path):
    """As TensorRT's builder, which runs in a process of its own."""
    watch, pid = jetson.watch, tmp_path / "pid"
    code = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); x = b'x' * (300 << 20); time.sleep(60)"

    def work(watcher) -> int:
        return subprocess.run([sys.executable, "-c", code]).returncode

    assert watch.watched(work, watch.Limits(seconds=30, memory_mb=200)) == 4
    assert "more than 200 MiB of memory" in capfd.readouterr().err
    assert are_gone([pid.read_text(encoding="utf-8")])


def test_a_program_that_starts_does_not_count_its_parent_twice(jetson, capfd):
    """A fork shares its parent's pages until it runs a program of its own: here it never does."""
    watch, ballast = jetson.watch, b"x" * (300 << 20)

    def work(_) -> int:
        child = os.fork()
        if child == 0:
            time.sleep(1)
            os._exit(0)
        os.waitpid(child, 0)
        return 7

    assert watch.watched(work, watch.Limits(memory_mb=200)) == 7 and ballast and capfd.readouterr().err == ""


def test_a_look_never_finds_a_limit_half_written(jetson):
    """Who announces a step and who looks are two processes without a lock: no look may find a time long passed."""
    watcher = jetson.watch.Watch(jetson.watch.Limits(seconds=60))
    child = os.fork()
    if child == 0:
        for _ in range(200_000):
            watcher.step(jetson.watch.QUERY)
        os._exit(0)
    soonest = float("inf")
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        for _ in range(1000):
            soonest = min(soonest, jetson.watch._SHARED.unpack_from(watcher.shared)[0] - time.monotonic())
    assert soonest > 0


def are_gone(pids: list[str]) -> bool:
    """Within some seconds; who waits for a process that has ended is not asked."""
    for _ in range(100):
        states = [Path(f"/proc/{pid}/status") for pid in pids]
        if not [path for path in states if path.exists() and "zombie" not in path.read_text(encoding="utf-8")]:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_nothing_goes_on_when_it_is_interrupted(bundles, tmp_path, how):
    command = [sys.executable, JETSON / "benchmark.py", bundles["onnx"], "--preset", "normal"]
    process = subprocess.Popen(
        list(map(str, command)), stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background has it ignored,
    encoding="utf-8")  # fmt: skip
    assert process.stderr
    for line in process.stderr:
        if "timing" in line:
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
    assert children
    os.killpg(process.pid, how) if how == signal.SIGINT else process.send_signal(how)
    assert process.wait(20) == (130 if how == signal.SIGINT else -how)
    assert are_gone(children) and not list(tmp_path.iterdir())


# What an ONNX file names outside of itself


def test_weights_in_other_files_are_refused_before_they_are_opened(jetson, hostile, bundles):
    """Also in a tensor of a node, of a subgraph and of a function; an older ONNX Runtime would open any path."""
    weights = numpy_helper.from_array(np.zeros((1, answers_of(bundles["onnx"])), np.float32), "w")
    outside = onnx.TensorProto()
    outside.CopyFrom(weights)
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    entry = outside.external_data.add()
    entry.key, entry.value = "location", "/dev/zero"
    constant = helper.make_node("Constant", [], ["w"], value=outside)
    inner = helper.make_graph([constant], "inner", [], [helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 3])])
    nested = helper.make_node("If", ["yes"], ["logits"], then_branch=inner, else_branch=inner)
    plain = helper.make_node("Identity", ["w"], ["logits"])
    for nodes in ([constant, plain], [nested]):
        bundle = hostile(nodes, {"yes": np.array(True)})
        code, errors, _ = check(bundle)
        assert code == 4 and "keeps weights in other files" in errors[0]
    function = helper.make_function("own", "F", [], ["w"], [constant], [helper.make_opsetid("", 18)])
    graph = helper.make_graph([plain], "g", [], [])
    model = helper.make_model(graph, functions=[function])
    assert jetson.onnx_wire.keeps_weights_elsewhere(model.SerializeToString())
    model = helper.make_model(helper.make_graph([plain], "g", [], [], [outside]))
    assert jetson.onnx_wire.keeps_weights_elsewhere(model.SerializeToString())
    assert not jetson.onnx_wire.keeps_weights_elsewhere((bundles["onnx"] / "model.onnx").read_bytes())


@pytest.mark.parametrize("data", [b"\xff" * 20, b"hello, world", b"\x3a\xff\xff\xff\x7f", b"\x0b\x0c"])
def test_what_is_no_onnx_is_said_to_be_none(jetson, data):
    with pytest.raises(ValueError, match=r"field|number"):
        jetson.onnx_wire.keeps_weights_elsewhere(data)
