"""The two runtimes: ONNX Runtime on the processor (onnx_runner.py), TensorRT on the GPU with CUDA events.

A runner takes one query in three steps, so that each can be timed apart: `put` (inputs to where the model reads them),
`run` (the model alone; returns its seconds), `get` (the values that the decoding reads, by output). Which programs are
called, and with what, is the query's `calls.Plan`. TensorRT's Python API is used where 10 and 11 agree: named tensors
and execute_async_v3. CUDA is called through ctypes: no further package is needed.

The TensorRT part is written to NVIDIA's documentation and has not been run on a GPU yet.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
import glob
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import build_engine
import numpy as np
from bundle_reader import Bundle
from calls import Leaf
from onnx_runner import OnnxRunner
from problems import BAD_INPUT, MISSING, REFUSED, Problem
from watch import BUILD_SECONDS, BUILDING, LOADING, Watch, die_with

if TYPE_CHECKING:
    from collections.abc import Mapping

    from calls import Plan

CUDART = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
CUDART_PLACES = ("/usr/local/cuda/lib64/libcudart.so*", "/usr/local/cuda*/targets/*/lib/libcudart.so*")
TO_DEVICE, TO_HOST = 1, 2  # cudaMemcpyKind


def open_runner(bundle: Bundle, threads: int, engines: Path | None, watch: Watch) -> Any:
    """TensorRT for a bundle of the target tensorrt, else ONNX Runtime. Raises `Problem`."""
    for program in bundle.manifest["programs"]:
        if any(spec.get("kind", "tensor") == "image" for spec in program["inputs"]):
            raise Problem(REFUSED, f"{program['artifact']} takes a picture type, which no {bundle.target} file has")
    if bundle.target != "tensorrt":
        watch.step(LOADING)
        return OnnxRunner(bundle, threads)
    for case in bundle.golden["cases"]:  # before an engine is built, which takes minutes
        refuse_repeats(bundle.decoding.plan(len(case["pictures"]), len(case["texts"])))
    watch.step(BUILDING, BUILD_SECONDS)
    trt, files = find_engines(bundle, engines)
    watch.step(LOADING)
    return TensorRTRunner(bundle, trt, files)


class Cuda:
    """The few functions of CUDA's runtime library that are needed. Each raises `Problem` with CUDA's own words."""

    def __init__(self) -> None:
        self._library = self._load()
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        self("cudaFree", ctypes.c_void_p())  # makes the context now, so that no query pays for it

    @staticmethod
    def _load() -> Any:
        places = [*CUDART, ctypes.util.find_library("cudart") or ""]
        for pattern in CUDART_PLACES:
            places += sorted(glob.glob(pattern))
        with contextlib.suppress(ImportError):  # the packages that `pip install tensorrt` brings along
            import nvidia

            for folder in nvidia.__path__:
                places += sorted(glob.glob(os.path.join(folder, "*", "lib", "libcudart.so*")))
        for place in filter(None, places):
            with contextlib.suppress(OSError):
                return ctypes.CDLL(place)
        raise Problem(MISSING, "libcudart is not here: install JetPack's CUDA (sudo apt-get install nvidia-jetpack)")

    def __call__(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            reason = self._library.cudaGetErrorString(status).decode()
            raise Problem(MISSING if function == "cudaFree" else 1, f"CUDA says after {function}: {reason}")

    def handle(self, function: str, *arguments: Any) -> ctypes.c_void_p:
        """What a function hands out through its first argument: a stream, an event, memory."""
        made = ctypes.c_void_p()
        self(function, ctypes.byref(made), *arguments)
        return made

    def host_array(self, shape: list[int], dtype: str) -> tuple[ctypes.c_void_p, np.ndarray]:
        """Pinned memory, from which and to which the GPU copies without the processor, and an array that views it."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        pointer = self.handle("cudaMallocHost", ctypes.c_size_t(size))
        raw: Any = (ctypes.c_uint8 * size).from_address(pointer.value or 0)
        return pointer, np.frombuffer(raw, dtype).reshape(shape)

    def milliseconds(self, start: ctypes.c_void_p, end: ctypes.c_void_p) -> float:
        """Between two events that have both happened; CUDA's resolution is about half a microsecond."""
        elapsed = ctypes.c_float()
        self("cudaEventElapsedTime", ctypes.byref(elapsed), start, end)
        return elapsed.value


def refuse_repeats(plan: Plan) -> None:
    """Raise `Problem` (2) for a query that TensorRT does not run here: one with a loop, or a program called twice."""
    names = [call.program["name"] for call in plan.calls]
    repeated = [plan.loop.call.program["name"]] if plan.loop else [name for name in names if names.count(name) > 1]
    if repeated:
        raise Problem(
            BAD_INPUT,
            f"{repeated[0]} is called more than once for a query, which TensorRT is not asked here: export for onnx",
        )


class TensorRTRunner:
    """TensorRT engines of this GPU on one CUDA stream; values that go from one program to the next stay on the GPU.

    Each program is called once for a query, so that a value has one buffer.
    """

    threads = 1  # one host thread feeds the GPU

    def __init__(self, bundle: Bundle, trt: Any, files: list[Path]):
        self.notes = ["model: CUDA events around enqueue; copies of inputs and outputs are in the scope pipeline"]
        started = time.perf_counter()
        self._cuda = Cuda()
        self._stream = self._cuda.handle("cudaStreamCreate")
        self._start, self._end = self._cuda.handle("cudaEventCreate"), self._cuda.handle("cudaEventCreate")
        self._device: dict[str, ctypes.c_void_p] = {}  # by buffer: see `_buffer_of`
        self._host: dict[str, tuple[ctypes.c_void_p, np.ndarray]] = {}
        self._runtime = trt.Runtime(build_engine.log_of(trt))
        self._kept: list[Any] = []
        self._contexts: dict[str, Any] = {}  # by program
        for program, file in zip(bundle.manifest["programs"], files):
            self._open(program, file)
        self.load_seconds = time.perf_counter() - started
        record = json.loads(files[0].with_name(files[0].name + ".json").read_text(encoding="utf-8"))
        self.runtime = f"{trt.__name__} {trt.__version__}, {record['gpu']['name']}"
        self.versions = {trt.__name__: trt.__version__}
        self.notes.append(f"engine built in {record['engine']['seconds']} s by {record['tensorrt']['package']}")
        self.enqueue_seconds: list[float] = []
        self._plan: Plan | None = None

    def _open(self, program: dict[str, Any], file: Path) -> None:
        engine = self._runtime.deserialize_cuda_engine(file.read_bytes())
        context = engine and engine.create_execution_context()
        if not context:
            raise Problem(REFUSED, f"TensorRT cannot load {file}: delete it, and it is built again")
        for spec in [*program["inputs"], *program["outputs"]]:
            name, buffer = spec["name"], _buffer_of(program, spec)
            dtype, shape = build_engine.dtype_name(engine.get_tensor_dtype(name)), list(engine.get_tensor_shape(name))
            if (dtype, shape) != (spec["dtype"], spec["shape"]):
                raise Problem(REFUSED, f"the engine's {name} is {dtype} {shape}, the manifest says {spec}")
            self._add_buffer(buffer, dtype, shape)
            if not context.set_tensor_address(name, self._device[buffer].value):
                raise Problem(REFUSED, f"TensorRT does not take an address for {name}")
        self._kept.append(engine)  # a context is of no use without its engine
        self._contexts[program["name"]] = context

    def _add_buffer(self, name: str, dtype: str, shape: list[int]) -> None:
        """Memory on the GPU and pinned memory for it; a value has one, whoever writes and reads it."""
        if name in self._device:
            if list(self._host[name][1].shape) != shape:
                raise Problem(BAD_INPUT, f"{name} goes between programs of different batches: export them with one")
            return
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._device[name] = self._cuda.handle("cudaMalloc", ctypes.c_size_t(size))
        self._host[name] = self._cuda.host_array(shape, dtype)

    def put(self, plan: Plan, leaves: Mapping[Leaf, np.ndarray]) -> None:
        """Copy to the GPU, and wait: the clock of `run` starts with the inputs in place."""
        if plan is not self._plan:
            refuse_repeats(plan)
            self._plan = plan
        for call in plan.calls:
            for spec, origin in call.specs():
                if isinstance(origin, Leaf):
                    buffer = _buffer_of(call.program, spec)
                    self._host[buffer][1][:] = leaves[origin]  # broadcast over the batch
                    self._copy(buffer, TO_DEVICE)
        self._cuda("cudaStreamSynchronize", self._stream)

    def run(self, along: Any = None) -> float:
        """Seconds on the GPU between two events on the stream, with nothing but the engines between them.

        Where kernels are so short that the processor cannot launch them as fast as they run, the gaps count too, as
        they do for whoever waits for the answer; `launch_note` says so.
        """
        assert self._plan, "put comes first"
        contexts = [self._contexts[call.program["name"]] for call in self._plan.calls]
        self._cuda("cudaEventRecord", self._start, self._stream)
        started = time.perf_counter()
        for context in contexts:
            if not context.execute_async_v3(self._stream.value):
                raise Problem(1, "TensorRT could not enqueue the engine")
        enqueued = time.perf_counter()
        self._cuda("cudaEventRecord", self._end, self._stream)
        self._cuda("cudaEventSynchronize", self._end)
        self.enqueue_seconds.append(enqueued - started)
        return self._cuda.milliseconds(self._start, self._end) / 1e3

    def get(self) -> dict[str, np.ndarray]:
        """Copy the values that the decoding reads from the GPU, and wait."""
        assert self._plan, "put comes first"
        for name in self._plan.rows:
            self._copy(name, TO_HOST)
        self._cuda("cudaStreamSynchronize", self._stream)
        # A program is called once, so all rows of an output are one.
        return {name: np.repeat(self._host[name][1][:1], len(rows), axis=0) for name, rows in self._plan.rows.items()}

    def _copy(self, name: str, kind: int) -> None:
        ends = [self._device[name], self._host[name][0]]
        target, source = ends if kind == TO_DEVICE else ends[::-1]
        size = ctypes.c_size_t(self._host[name][1].nbytes)
        self._cuda("cudaMemcpyAsync", target, source, size, ctypes.c_int(kind), self._stream)


def _buffer_of(program: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    """A value is called by its own name, also where an input reads it under another; what comes from outside apart."""
    source = spec.get("from")
    if source is None:
        return spec["name"]
    return source["name"] if source["kind"] == "value" else f"{program['name']}/{spec['name']}"


def launch_note(enqueue_seconds: list[float], model_seconds: list[float]) -> str:
    """A remark where the processor needs most of the model's time to launch its kernels; "" else."""
    launch, whole = float(np.median(enqueue_seconds)), float(np.median(model_seconds))
    if launch < 0.8 * whole:
        return ""
    return f"the GPU waits for the processor: launching the kernels takes {1e3 * launch:.3f} of {1e3 * whole:.3f} ms"


def find_engines(bundle: Bundle, engines: Path | None) -> tuple[Any, list[Path]]:
    """TensorRT and the engine of each program for this GPU: our build_engine.py builds what is missing.

    The bundle's is not run, whatever it is. Building has a process of its own, whose memory is free again before
    anything is measured.
    """
    engines = engines or cache_folder(bundle.artifact_sha256)
    try:
        trt, gpu = build_engine.load_tensorrt(False), build_engine.find_gpu()
        if gpu is None:
            raise Problem(MISSING, "no NVIDIA GPU answers here: run this on the board, or export for onnx")
        command = [sys.executable, str(build_engine.__file__), str(bundle.path), "--out", str(engines)]
        done = subprocess.run(command, stdout=sys.stderr, preexec_fn=functools.partial(die_with, os.getpid()))
        if done.returncode:
            raise Problem(done.returncode, "build_engine.py could not build the engine; its reason stands above")
        found = []
        for _, name, (_, digest) in build_engine.find_models(bundle.path):
            flags = {"tf32": False, "workspace_mb": None}  # what build_engine.py does without options
            record = build_engine.make_record(trt, name, digest, gpu, None, flags)
            found.append(build_engine.engine_path(bundle.path, record, engines))
        return trt, found
    except build_engine.Problem as problem:
        raise Problem(problem.exit_code, str(problem)) from None
    except OSError as error:
        raise Problem(BAD_INPUT, f"the engine cannot be built ({error})") from None


def cache_folder(digest: str) -> Path:
    """Of one artifact's engines, below the user's own cache: an engine is code, and beside a bundle lies anybody's."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(root) / "edgevl" / "engines" / digest[:16]
