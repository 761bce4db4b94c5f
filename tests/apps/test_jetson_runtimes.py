"""The TensorRT runner without a GPU: CUDA's real names and errors, and its order of calls on a stand-in for a GPU.

Nothing real can run an engine here. The stand-in is a C library with the prototypes of CUDA's runtime, so that what
ctypes passes is what C receives; copies wait for the synchronization that makes them true on a GPU as well.
"""

import ctypes
import json
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgevl.app.conformance.small_models import MODELS

JETSON = Path(__file__).parents[2] / "apps/jetson"
SOURCE = "".join((JETSON / name).read_text(encoding="utf-8") for name in ("cuda_runtime.py", "tensorrt_runner.py"))

STAND_IN = r"""
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
static struct { void *to; const void *from; size_t bytes; } waiting[64];
static int count, now;
struct event { int recorded, done, at; };
static struct event *events[64];
static int event_count;
static void happen(void) {
    for (int i = 0; i < count; i++) memcpy(waiting[i].to, waiting[i].from, waiting[i].bytes);
    for (int i = 0; i < event_count; i++) if (events[i]->recorded) events[i]->done = 1;
    count = 0;
}
const char *cudaGetErrorString(int code) { return code == 100 ? "no CUDA-capable device is detected" : "wrong order"; }
int cudaFree(void *p) { free(p); return getenv("NO_GPU") ? 100 : 0; }
int cudaMalloc(void **p, size_t bytes) { *p = malloc(bytes); return 0; }
int cudaMallocHost(void **p, size_t bytes) { *p = malloc(bytes); return 0; }
int cudaStreamCreate(void **stream) { *stream = &count; return 0; }
int cudaEventCreate(void **e) { *e = events[event_count++] = calloc(1, sizeof(struct event)); return 0; }
int cudaEventRecord(struct event *e, void *stream) {
    if (stream != &count) return 1;
    e->recorded = 1; e->done = 0; e->at = now++;
    return 0;
}
int cudaEventSynchronize(struct event *e) { happen(); return !e->recorded; }
int cudaEventElapsedTime(float *ms, struct event *a, struct event *b) {
    if (!a->done || !b->done) return 1;
    *ms = b->at - a->at;
    return 0;
}
int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream) {
    if (stream != &count || (kind != 1 && kind != 2)) return 1;
    waiting[count].to = to; waiting[count].from = from; waiting[count++].bytes = bytes;
    return 0;
}
int cudaStreamSynchronize(void *stream) { happen(); return stream != &count; }
int ran(void) { happen(); return now++; }  /* what an engine does on its stream: after the copies in front of it */
"""


@pytest.fixture(scope="module")
def cudart(tmp_path_factory) -> str:
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("cuda")
    (folder / "stand_in.c").write_text(STAND_IN, encoding="utf-8")
    library = folder / "libcudart.so.12"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "stand_in.c"], check=True)
    return str(library)


class Engine:
    """What `TensorRTRunner` uses of an engine and of its context; ONNX Runtime computes."""

    def __init__(self, model: bytes, library: Any):
        import onnxruntime

        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._library, self._addresses = library, {}
        self._specs = {spec.name: spec for spec in [*self._session.get_inputs(), *self._session.get_outputs()]}

    def create_execution_context(self) -> "Engine":
        return self

    def get_tensor_dtype(self, name: str) -> Any:
        name = {"tensor(uint8)": "UINT8", "tensor(int32)": "INT32", "tensor(float)": "FLOAT"}[self._specs[name].type]
        return SimpleNamespace(name=name)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._specs[name].shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return isinstance(address, int) and name in self._specs

    def execute_async_v3(self, stream: int) -> bool:
        self._library.ran()
        feeds = {spec.name: self._view(spec.name) for spec in self._session.get_inputs()}
        for spec, value in zip(self._session.get_outputs(), self._session.run(None, feeds)):
            self._view(spec.name)[:] = value
        return isinstance(stream, int)

    def _view(self, name: str) -> np.ndarray:
        dtype = {"UINT8": np.uint8, "INT32": np.int32, "FLOAT": np.float32}[self.get_tensor_dtype(name).name]
        shape = self.get_tensor_shape(name)
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        raw: Any = (ctypes.c_uint8 * size).from_address(self._addresses[name])
        return np.frombuffer(raw, dtype).reshape(shape)


class Log:
    """TensorRT's ILogger, which build_engine.py derives from."""


@pytest.fixture
def open_on_stand_in(jetson, cudart, monkeypatch, tmp_path):
    """A runner whose engines are the ONNX files of a bundle."""
    library = ctypes.CDLL(cudart)
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda model: Engine(model, library))
    trt: Any = ModuleType("tensorrt")
    trt.Runtime, trt.ILogger, trt.__version__ = lambda log: runtime, Log, "10.3.0"
    record = {"gpu": {"name": "stand-in"}, "engine": {"seconds": 1.5}, "tensorrt": {"package": "tensorrt"}}

    def find_engines(bundle, engines):
        files = []
        for program in bundle.manifest["programs"]:
            files.append(tmp_path / program["artifact"].replace("/", "-"))
            shutil.copy(bundle.path / program["artifact"], files[-1])
            files[-1].with_name(files[-1].name + ".json").write_text(json.dumps(record), encoding="utf-8")
        return trt, files

    monkeypatch.setattr(jetson.cuda_runtime, "CUDART", (cudart,))
    return lambda bundle: jetson.tensorrt_runner.TensorRTRunner(bundle, *find_engines(bundle, None))


def as_tensorrt(jetson, bundles: dict[str, Path], layout: str) -> Any:
    """The bundle for TensorRT in two files, or the one in one file: to the stand-in they are all the same."""
    return jetson.bundle_reader.Bundle(bundles["onnx" if layout == "single" else "tensorrt"])


@pytest.mark.parametrize("layout", ["single", "split"])
def test_golden_cases_pass_through_the_calls_of_cuda(jetson, bundles, open_on_stand_in, layout):
    bundle = as_tensorrt(jetson, bundles, layout)
    runner = open_on_stand_in(bundle)
    assert runner.runtime == "tensorrt 10.3.0, stand-in" and "engine built in 1.5 s by tensorrt" in runner.notes

    pipeline = jetson.pipeline.Pipeline(bundle, runner, (), ())
    assert jetson.golden_cases.replay(bundle, pipeline.values) == 6


@pytest.mark.parametrize("name", [*MODELS, "renamed"])
def test_every_kind_of_plan_passes_its_golden_cases(jetson, small, open_on_stand_in, name):
    """Also where a program is called for each of several texts or pictures, and where it is called for each token."""
    bundle = jetson.bundle_reader.Bundle(small[name])
    pipeline = jetson.pipeline.Pipeline(bundle, open_on_stand_in(bundle), (), ())
    assert jetson.golden_cases.replay(bundle, pipeline.values) == len(bundle.golden["cases"])


@pytest.mark.parametrize("name", [*MODELS, "renamed"])
def test_both_runtimes_give_the_same_values_query_after_query(jetson, small, open_on_stand_in, name):
    """Without a recorded result to follow, and with other numbers of texts in turn: no buffer keeps what was before."""
    bundle = jetson.bundle_reader.Bundle(small[name])
    runners = jetson.onnx_runner.OnnxRunner(bundle, 1), open_on_stand_in(bundle)
    pipelines = [jetson.pipeline.Pipeline(bundle, runner, (), ()) for runner in runners]
    cases = [jetson.golden_cases.Case(bundle, case) for case in bundle.golden["cases"]]
    queries = [(case.pictures(), case.texts) for case in cases]
    if len(cases[0].texts) > 1:
        queries += [(pictures, texts[:1]) for pictures, texts in queries] + [(queries[0][0], queries[0][1] * 2)]
    for pictures, texts in [*queries, *reversed(queries)]:
        on_host, on_gpu = (pipeline.values(pictures, texts, None) for pipeline in pipelines)
        assert on_host.keys() == on_gpu.keys()
        for name, wanted in on_host.items():
            assert np.array_equal(on_gpu[name], wanted)


def test_a_value_goes_to_the_next_program_on_the_gpu(jetson, small, open_on_stand_in):
    """Also where that program has its own name for it. What is sent are the inputs, what is fetched the result."""
    bundle = jetson.bundle_reader.Bundle(small["renamed"])
    runner = open_on_stand_in(bundle)
    pipeline = jetson.pipeline.Pipeline(bundle, runner, (), ())
    case = jetson.golden_cases.Case(bundle, bundle.golden["cases"][0])
    pipeline.values(case.pictures(), case.texts, None)
    assert sorted(key[1] for key in runner._buffers._host) == ["box", "image", "input_ids"]
    assert sorted(key[1] for key in runner._buffers._device) == ["box", "image", "input_ids", "visual"]


def test_a_value_between_programs_of_other_batches_is_refused(jetson, small, open_on_stand_in):
    bundle = jetson.bundle_reader.Bundle(small["renamed"])
    runner = open_on_stand_in(bundle)
    bundle.manifest["programs"][1]["inputs"][0]["shape"] = [4, 4, 32]
    plan = bundle.decoding.plan(1, 1)
    with pytest.raises(jetson.problems.Problem, match="visual goes between programs of different batches") as caught:
        runner.put(plan, {})
    assert caught.value.exit_code == 2


def leaves_of(bundle: Any, plan: Any) -> dict[Any, np.ndarray]:
    ids = {leaf: bundle.texts["main"].encode("what color is the car?") for leaf in plan.leaves("text")}
    return ids | {leaf: np.zeros((32, 32, 3), np.uint8) for leaf in plan.leaves("picture")}


@pytest.mark.parametrize(("layout", "engines"), [("single", 1), ("split", 2)])
def test_nothing_but_the_engines_lies_between_the_events(jetson, bundles, open_on_stand_in, layout, engines):
    bundle = as_tensorrt(jetson, bundles, layout)
    runner = open_on_stand_in(bundle)
    plan = bundle.decoding.plan(1, 1)
    runner.put(plan, leaves_of(bundle, plan))
    # The stand-in's clock ticks once for an event and once for an engine; milliseconds become seconds.
    assert runner.run() == pytest.approx((1 + engines) / 1e3)
    assert len(runner.enqueue_seconds) == 1


def test_the_picture_is_encoded_once_and_each_text_once(jetson, small, open_on_stand_in, monkeypatch):
    """Addresses are in place before the clock starts, but for those of further calls of a program."""
    bundle = jetson.bundle_reader.Bundle(small["towers"])
    runner = open_on_stand_in(bundle)
    plan = bundle.decoding.plan(1, 3)
    runner.put(plan, leaves_of(bundle, plan))
    bound: list[str] = []
    bind = Engine.set_tensor_address
    monkeypatch.setattr(Engine, "set_tensor_address", lambda *given: bound.append(given[1]) or bind(*given))
    assert runner.run() == pytest.approx((1 + 1 + 3) / 1e3)
    assert sorted(set(bound)) == ["input_ids", "text_embeds"] and len(bound) == 4
    assert runner.get()["text_embeds"].shape == (3, 16)


def test_an_engine_of_another_shape_is_refused(jetson, bundles, open_on_stand_in):
    bundle = as_tensorrt(jetson, bundles, "single")
    bundle.manifest["programs"][0]["inputs"][1]["shape"] = [1, 99]
    with pytest.raises(jetson.bundle_reader.Problem, match="the engine's input_ids is int32") as caught:
        open_on_stand_in(bundle)
    assert caught.value.exit_code == 4


def test_without_a_gpu_cuda_says_so(jetson, cudart, monkeypatch):
    monkeypatch.setattr(jetson.cuda_runtime, "CUDART", (cudart,))
    monkeypatch.setenv("NO_GPU", "1")
    with pytest.raises(jetson.bundle_reader.Problem, match="no CUDA-capable device is detected") as caught:
        jetson.cuda_runtime.Cuda()
    assert caught.value.exit_code == 3


def test_the_real_libcudart_has_every_function(jetson):
    """pip's own package of CUDA's runtime library loads without a GPU, and says that there is none."""
    pytest.importorskip("nvidia", reason="no package of NVIDIA's")
    try:
        library = jetson.cuda_runtime.Cuda._load()
    except jetson.bundle_reader.Problem:
        pytest.skip("libcudart is not installed")
    names = set(re.findall(r'"(cuda[A-Z]\w+)"', SOURCE)) | {"cudaGetErrorString"}
    assert len(names) >= 10 and not [name for name in names if not hasattr(library, name)]
    devices = ctypes.c_int()
    if library.cudaGetDeviceCount(ctypes.byref(devices)):
        with pytest.raises(jetson.bundle_reader.Problem, match=r"CUDA says after cudaFree: .*(driver|device)"):
            jetson.cuda_runtime.Cuda()


def test_tensorrt_has_every_name_that_the_runner_uses():
    trt: Any = pytest.importorskip("tensorrt_rtx")
    engine = ("create_execution_context", "get_tensor_dtype", "get_tensor_shape")
    assert all(hasattr(trt.ICudaEngine, name) and f".{name}(" in SOURCE for name in engine)
    context = ("set_tensor_address", "execute_async_v3")
    assert all(hasattr(trt.IExecutionContext, name) and f".{name}(" in SOURCE for name in context)
    assert hasattr(trt.Runtime, "deserialize_cuda_engine")


def test_launches_that_take_most_of_the_time_are_remarked(jetson):
    note = jetson.tensorrt_runner.launch_note
    assert note([0.9e-3, 0.9e-3], [1e-3, 1e-3]) == (
        "the GPU waits for the processor: launching the kernels takes 0.900 of 1.000 ms"
    )
    assert note([0.2e-3], [1e-3]) == ""
