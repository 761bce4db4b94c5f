"""The roofline: what a graph costs by hand, which limit holds, and where the runtime says that the time goes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from edgevl.bench.ort_profile import parse_profile, profile_onnx
from edgevl.bench.peaks import Yardstick, measure_peak, read_bandwidth
from edgevl.bench.roofline import Counts, bundle_roofline, count_artifact, roofline, weight_bytes, where_time_goes
from edgevl.bench.schema import Peak
from edgevl.bundle.folder import Bundle
from edgevl.formats import read_artifact

PEAK = Peak(threads=1, gmacs={"fp32": 100.0, "int8": 400.0}, bandwidth_gbs=10.0, how="by hand")


@pytest.fixture
def graph(tmp_path) -> Path:
    """image [1, 4, 16, 16] -> depthwise 3x3 -> 1x1 to 8 -> pooled; ids [1, 3] -> rows of a table of 1000; both -> 5."""

    def weight(name, *shape):
        return numpy_helper.from_array(np.ones(shape, np.float32), name)

    def node(kind, reads, writes, **attributes):
        return helper.make_node(kind, reads, [writes], name=writes, **attributes)

    nodes = [
        node("Conv", ["image", "deep"], "a", group=4, pads=[1, 1, 1, 1]),
        node("Conv", ["a", "wide"], "b"),
        node("GlobalAveragePool", ["b"], "c"),
        node("Flatten", ["c"], "d"),
        node("Gather", ["table", "ids"], "e"),
        node("ReduceMean", ["e"], "f", axes=[1], keepdims=0),
        node("Add", ["d", "f"], "g"),
        node("Gemm", ["g", "head"], "logits"),
    ]
    weights = [weight("deep", 4, 1, 3, 3), weight("wide", 8, 4, 1, 1), weight("table", 1000, 8), weight("head", 8, 5)]
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 4, 16, 16]),
        helper.make_tensor_value_info("ids", TensorProto.INT32, [1, 3]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5])]
    path = tmp_path / "model.onnx"
    made = helper.make_graph(nodes, "toy", inputs, outputs, weights)
    save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


FEEDS = {"image": np.ones((1, 4, 16, 16), np.float32), "ids": np.zeros((1, 3), np.int32)}
MACS = 4 * 256 * 9 + 8 * 256 * 4 + 8 * 5
WEIGHTS = 4 * (4 * 9 + 8 * 4 + 3 * 8 + 8 * 5)  # of the table the three rows that are looked up


def bundle_of(path: Path, target: str = "onnx") -> Bundle:
    """As much of a bundle as counting needs."""
    spec = SimpleNamespace
    outside = spec(kind="picture")
    inputs = tuple(spec(shape=s, dtype=d, source=outside) for s, d in (((1, 4, 16, 16), "float32"), ((1, 3), "int32")))
    program = spec(artifact="model.onnx", inputs=inputs, outputs=(spec(shape=(1, 5), dtype="float32"),))
    manifest = spec(target=target, programs=(program,))
    return cast(Any, spec(manifest=manifest, file=lambda name: path))


def test_counts_are_those_by_hand(graph):
    assert weight_bytes(graph, read_artifact(graph, "onnx")) == WEIGHTS
    counts = count_artifact(bundle_of(graph))
    assert counts == Counts({"float32": MACS}, WEIGHTS + 4 * (1024 + 3 + 5))
    assert count_artifact(bundle_of(graph, "litert")) is None


def test_the_larger_of_two_times_is_the_limit():
    fast = roofline(Counts({"float32": 10**8, "int8": 4 * 10**8}, 10**6), PEAK, 10.0, p50_ms=4.0)
    assert (fast.compute_ms, fast.memory_ms, fast.limit, fast.share) == (2.0, 0.1, "compute", 0.5)
    wide = roofline(Counts({"float32": 10**8}, 10**8), PEAK, 10.0, p50_ms=20.0)
    assert (wide.memory_ms, wide.limit, wide.share) == (10.0, "memory", 0.5)


def test_a_real_profile_is_read(graph, tmp_path):
    profile = profile_onnx([(graph, {})], FEEDS, 1, tmp_path)
    assert 0 < sum(kernel.seconds for kernel in profile.kernels) <= profile.seconds
    macs = {kernel.kind: kernel.macs for kernel in profile.kernels}
    assert macs["Gemm"] == 40 and macs["GlobalAveragePool"] == 0
    assert any(kind.startswith("depthwise 3x3 Conv") for kind in macs)
    lines = where_time_goes(profile, PEAK)
    assert lines[-1].startswith("between operators: ") and lines[-2].startswith("other operators (")


def test_a_model_gets_its_limit_and_its_profile(graph, tmp_path):
    found = bundle_roofline(bundle_of(graph), PEAK, FEEDS, 1, 1.0, tmp_path)
    assert found is not None and found.macs == MACS and found.rest
    assert found.bandwidth_gbs is not None and found.bandwidth_gbs >= PEAK.bandwidth_gbs  # a cache is no slower


def test_what_is_multiplied_in_an_unknown_type_has_no_limit(graph, tmp_path, monkeypatch):
    monkeypatch.setattr("edgevl.bench.roofline.count_artifact", lambda bundle: Counts({"": 10, "float32": 5}, 10))
    assert bundle_roofline(bundle_of(graph), PEAK, FEEDS, 1, 1.0, tmp_path) is None


def event(name, op, start, duration, inputs=((),), output=()):
    args = {"op_name": op, "input_type_shape": [{"float": list(shape)} for shape in inputs]}
    args["output_type_shape"] = [{"float": list(output)}]
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": start, "dur": duration, "args": args}


def test_only_the_last_queries_of_a_profile_count_and_packed_weights_are_not_guessed():
    product = {"inputs": ((2, 8), (8, 4)), "output": (2, 4)}
    events = [
        {"name": "model_run", "cat": "Session", "ts": 0, "dur": 900, "args": {}},
        event("m", "MatMul", 1, 800, **product),
        {"name": "model_run", "cat": "Session", "ts": 1000, "dur": 100, "args": {}},
        event("m", "MatMul", 1001, 40, **product),
        event("c", "QLinearConv", 1050, 30, inputs=((1, 4, 4, 3), ()), output=(1, 4, 4, 8)),
    ]
    profile = parse_profile(events, queries=1)
    assert profile.seconds == pytest.approx(100e-6)
    assert [(k.kind, k.seconds, k.macs) for k in profile.kernels] == [
        ("MatMul", pytest.approx(40e-6), 64), ("QLinearConv", pytest.approx(30e-6), None)
    ]  # fmt: skip
    lines = where_time_goes(profile, PEAK)
    assert lines[0].startswith("MatMul (1): 40% of the time, at ") and lines[1] == "QLinearConv (1): 30% of the time"
    assert lines[-1] == "between operators: 30% of the time"


def test_this_machine_has_a_peak(monkeypatch):
    monkeypatch.setattr("edgevl.bench.peaks.SECONDS", 0.05)
    peak = measure_peak(1)
    assert peak.threads == 1 and peak.gmacs["fp32"] > 1 and peak.gmacs["int8"] > 1 and "MatMulInteger" in peak.how
    assert read_bandwidth(10) > 0.1  # read as a buffer of a MiB, not of ten bytes
    assert Yardstick(1).gmacs() > 1
