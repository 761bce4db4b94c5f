"""The two runtimes: ONNX Runtime on the processor, TensorRT on the GPU with CUDA events.

A runner takes one query in three steps, so that each can be timed apart: `put` (inputs to where the model reads them),
`run` (the model alone; returns its seconds), `get` (logits [A]). TensorRT's Python API is used where 10 and 11 agree:
named tensors and execute_async_v3. CUDA is called through ctypes: no further package is needed.

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
from typing import Any

import build_engine
import numpy as np
from bundle_reader import BAD_INPUT, MISSING, REFUSED, Bundle, Problem
from onnx_wire import keeps_weights_elsewhere
from watch import BUILD_SECONDS, BUILDING, LOADING, Watch, die_with

CUDART = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
CUDART_PLACES = ("/usr/local/cuda/lib64/libcudart.so*", "/usr/local/cuda*/targets/*/lib/libcudart.so*")
TO_DEVICE, TO_HOST = 1, 2  # cudaMemcpyKind


ORT_TYPES = {"uint8": "tensor(uint8)", "int32": "tensor(int32)", "float32": "tensor(float)"}  # of docs/bundle.md


def open_runner(bundle: Bundle, threads: int, engines: Path | None, watch: Watch) -> Any:
    """TensorRT for a bundle of the target tensorrt, else ONNX Runtime. Raises `Problem`."""
    if bundle.target != "tensorrt":
        watch.step(LOADING)
        return OnnxRunner(bundle, threads)
    watch.step(BUILDING, BUILD_SECONDS)
    trt, files = find_engines(bundle, engines)
    watch.step(LOADING)
    return TensorRTRunner(bundle, trt, files)


def repeat(array: np.ndarray, shape: list[int]) -> np.ndarray:
    """One sample for an artifact of a fixed batch B: repeated B times, contiguous."""
    return np.ascontiguousarray(np.broadcast_to(array[None], shape))


class OnnxRunner:
    """ONNX Runtime on the processor; a split bundle's two programs one after the other."""

    def __init__(self, bundle: Bundle, threads: int):
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else it reports to its maker; read when the library is loaded
        try:
            import onnxruntime
        except ImportError:
            raise Problem(MISSING, "onnxruntime is not installed here: python3 -m pip install onnxruntime") from None
        self.threads, self._programs = threads, bundle.programs
        self.runtime = f"onnxruntime {onnxruntime.__version__}, CPU"
        self.versions = {"onnxruntime": onnxruntime.__version__}
        self.notes: list[str] = []
        self._shapes = {spec["name"]: spec["shape"] for spec in bundle.manifest["inputs"]}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        started = time.perf_counter()
        self._sessions = []
        for program in self._programs:
            data = read_onnx(bundle, program["artifact"])
            try:
                session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # ONNX Runtime has exceptions of its own for a file that it does not like
                raise Problem(REFUSED, f"{self.runtime}, refuses {program['artifact']}: {error}") from None
            check_interface(session, program)
            self._sessions.append(session)
        self.load_seconds = time.perf_counter() - started
        self._values: dict[str, np.ndarray] = {}

    def put(self, pixels: np.ndarray, ids: np.ndarray) -> None:
        """Pixels uint8 [S, S, 3] and ids int32 [T]."""
        feeds = {"image": pixels, "input_ids": ids}
        self._values = {name: repeat(feeds[name], shape) for name, shape in self._shapes.items()}

    def run(self) -> float:
        started = time.perf_counter()
        for program, session in zip(self._programs, self._sessions):
            names = [spec["name"] for spec in program["inputs"]]
            try:
                results = session.run(None, {name: self._values[name] for name in names})
            except Exception as error:  # of ONNX Runtime's own, again
                raise Problem(REFUSED, f"{program['artifact']} fails when it runs: {error}") from None
            self._values[program["outputs"][0]["name"]] = results[0]
        return time.perf_counter() - started

    def get(self) -> np.ndarray:
        return self._values["logits"][0]


def read_onnx(bundle: Bundle, name: str) -> bytes:
    """The bytes of an ONNX file, which have the manifest's digest and keep all weights inside."""
    data = bundle.read(name, bundle.manifest["files"][name]["bytes"])
    try:
        elsewhere = keeps_weights_elsewhere(data)
    except ValueError as error:
        raise Problem(REFUSED, f"{name} is truncated or not ONNX: {error}") from None
    if elsewhere:
        raise Problem(REFUSED, f"{name} keeps weights in other files, a bundle has them inside: export it again")
    return data


def check_interface(session: Any, program: dict[str, Any]) -> None:
    """Raise `Problem` unless the artifact takes and gives what the manifest says."""
    for key, found in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
        opened = {value.name: (value.type, list(value.shape)) for value in found}
        said = {spec["name"]: (ORT_TYPES[spec["dtype"]], spec["shape"]) for spec in program[key]}
        if opened != said:
            raise Problem(REFUSED, f"the {key} of {program['artifact']} are {opened}, the manifest says {said}")


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


class TensorRTRunner:
    """TensorRT engines of this GPU on one CUDA stream; a split bundle's `visual` stays on the GPU."""

    threads = 1  # one host thread feeds the GPU

    def __init__(self, bundle: Bundle, trt: Any, files: list[Path]):
        self.notes = ["model: CUDA events around enqueue; copies of inputs and logits are in the scope pipeline"]
        started = time.perf_counter()
        self._cuda = Cuda()
        self._stream = self._cuda.handle("cudaStreamCreate")
        self._start, self._end = self._cuda.handle("cudaEventCreate"), self._cuda.handle("cudaEventCreate")
        self._device: dict[str, ctypes.c_void_p] = {}
        self._host: dict[str, tuple[ctypes.c_void_p, np.ndarray]] = {}
        self._runtime = trt.Runtime(build_engine.log_of(trt))
        self._kept, self._contexts = [], []
        for program, file in zip(bundle.programs, files):
            self._open(program, file)
        self.load_seconds = time.perf_counter() - started
        record = json.loads(files[0].with_name(files[0].name + ".json").read_text(encoding="utf-8"))
        self.runtime = f"{trt.__name__} {trt.__version__}, {record['gpu']['name']}"
        self.versions = {trt.__name__: trt.__version__}
        self.notes.append(f"engine built in {record['engine']['seconds']} s by {record['tensorrt']['package']}")
        self.enqueue_seconds: list[float] = []

    def _open(self, program: dict[str, Any], file: Path) -> None:
        engine = self._runtime.deserialize_cuda_engine(file.read_bytes())
        context = engine and engine.create_execution_context()
        if not context:
            raise Problem(REFUSED, f"TensorRT cannot load {file}: delete it, and it is built again")
        for spec in [*program["inputs"], *program["outputs"]]:
            name = spec["name"]
            dtype, shape = build_engine.dtype_name(engine.get_tensor_dtype(name)), list(engine.get_tensor_shape(name))
            if (dtype, shape) != (spec["dtype"], spec["shape"]):
                raise Problem(REFUSED, f"the engine's {name} is {dtype} {shape}, the manifest says {spec}")
            self._add_buffer(name, dtype, shape)
            if not context.set_tensor_address(name, self._device[name].value):
                raise Problem(REFUSED, f"TensorRT does not take an address for {name}")
        self._kept.append(engine)  # a context is of no use without its engine
        self._contexts.append(context)

    def _add_buffer(self, name: str, dtype: str, shape: list[int]) -> None:
        if name in self._device:  # `visual`: written by the first program, read by the second
            return
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._device[name] = self._cuda.handle("cudaMalloc", ctypes.c_size_t(size))
        self._host[name] = self._cuda.host_array(shape, dtype)

    def put(self, pixels: np.ndarray, ids: np.ndarray) -> None:
        """Copy to the GPU, and wait: the clock of `run` starts with the inputs in place."""
        for name, array in (("image", pixels), ("input_ids", ids)):
            self._host[name][1][:] = array  # broadcast over the batch
            self._copy(name, TO_DEVICE)
        self._cuda("cudaStreamSynchronize", self._stream)

    def run(self) -> float:
        """Seconds on the GPU between two events on the stream, with nothing but the engines between them.

        Where kernels are so short that the processor cannot launch them as fast as they run, the gaps count too, as
        they do for whoever waits for the answer; `launch_note` says so.
        """
        self._cuda("cudaEventRecord", self._start, self._stream)
        started = time.perf_counter()
        for context in self._contexts:
            if not context.execute_async_v3(self._stream.value):
                raise Problem(1, "TensorRT could not enqueue the engine")
        enqueued = time.perf_counter()
        self._cuda("cudaEventRecord", self._end, self._stream)
        self._cuda("cudaEventSynchronize", self._end)
        self.enqueue_seconds.append(enqueued - started)
        return self._cuda.milliseconds(self._start, self._end) / 1e3

    def get(self) -> np.ndarray:
        self._copy("logits", TO_HOST)
        self._cuda("cudaStreamSynchronize", self._stream)
        return self._host["logits"][1][0].copy()

    def _copy(self, name: str, kind: int) -> None:
        ends = [self._device[name], self._host[name][0]]
        target, source = ends if kind == TO_DEVICE else ends[::-1]
        size = ctypes.c_size_t(self._host[name][1].nbytes)
        self._cuda("cudaMemcpyAsync", target, source, size, ctypes.c_int(kind), self._stream)


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
