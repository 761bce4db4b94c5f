"""Run TensorRT's artifact: the engine where TensorRT and a GPU are, else its ONNX file in ONNX Runtime.

The engine's session is written to TensorRT's documented Python API and has not been run yet: no GPU was at hand.
"""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgevl.apps.jetson import build_engine
from edgevl.errors import EdgeVLError, InputError, MissingDependency, VerificationFailed
from edgevl.runtime.onnx_session import OnnxSession
from edgevl.runtime.session import Arrays, ArtifactSession, Session, TensorSpec


class StandInSession(OnnxSession):
    """The very file that TensorRT builds from, in ONNX Runtime: proves the file's numbers, not TensorRT's."""

    def __init__(self, path: str | Path, threads: int | None = None, reason: str = "no GPU"):
        super().__init__(path, threads)
        self.runtime = f"ONNX Runtime (CPU) on TensorRT's ONNX file; TensorRT itself not run ({reason})"


class TensorRTSession(ArtifactSession):
    """An engine on the GPU. Its inputs and outputs are CUDA tensors of torch, made once and used for every run.

    So threads take turns; an execution context is for one of them at a time, too.
    """

    def __init__(self, path: str | Path):
        """Build the engine of an ONNX file for this GPU, or take it from the cache, and load it.

        Raises:
            MissingDependency: neither tensorrt nor tensorrt_rtx can be imported, or there is no GPU.
            VerificationFailed: TensorRT refuses the file.
            EdgeVLError: the engine cannot be loaded.
        """
        import torch

        super().__init__()
        trt, file = cached_engine(Path(path))
        self._trt = trt
        self._runtime = trt.Runtime(build_engine.log_of(trt))
        self._engine = self._runtime.deserialize_cuda_engine(file.read_bytes())
        self._context: Any = self._engine.create_execution_context() if self._engine else None
        if self._context is None:
            raise EdgeVLError(f"TensorRT cannot load {file}: delete it, and it is built again")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        specs = [(_spec(trt, self._engine, name), self._engine.get_tensor_mode(name)) for name in names]
        self.inputs = tuple(spec for spec, mode in specs if mode == trt.TensorIOMode.INPUT)
        self.outputs = tuple(spec for spec, mode in specs if mode == trt.TensorIOMode.OUTPUT)
        self.runtime = f"TensorRT {trt.__version__} ({trt.__name__}, {torch.cuda.get_device_name()})"
        self._stream = torch.cuda.Stream()
        self._buffers = {
            spec.name: torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype), device="cuda") for spec, _ in specs
        }
        torch.cuda.synchronize()  # the zeros are written on another stream
        for name, buffer in self._buffers.items():
            self._context.set_tensor_address(name, buffer.data_ptr())

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        import torch

        with torch.cuda.stream(self._stream):
            for spec in self.inputs:
                self._buffers[spec.name].copy_(torch.from_numpy(np.require(feeds[spec.name], requirements=["C", "W"])))
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise EdgeVLError("TensorRT could not run the engine: " + "; ".join(_errors(self._trt)))
            results = {spec.name: self._buffers[spec.name].cpu().numpy() for spec in self.outputs}
        self._stream.synchronize()
        return results


def open_tensorrt(path: Path, threads: int | None = None) -> Session:
    reason = why_not_here()
    return StandInSession(path, threads, reason) if reason else TensorRTSession(path)


def why_not_here() -> str:
    """Why no engine can run on this machine, in a few words; "" if one can."""
    import torch

    if not torch.cuda.is_available():
        return "no GPU"
    if not any(importlib.util.find_spec(name) for name in build_engine.PACKAGES):
        return "it is not installed"
    return ""


def cached_engine(path: Path) -> tuple[Any, Path]:
    """TensorRT, and the engine of an ONNX file for this GPU and this TensorRT: built once, kept in the user's cache."""
    try:
        data, digest = build_engine.read_model(path, path.name)
        trt, gpu = build_engine.load_tensorrt(ahead_of_time=False), build_engine.find_gpu()
        if gpu is None:
            raise build_engine.Problem(build_engine.MISSING, "CUDA's driver answers no question about the GPU")
        record = build_engine.make_record(trt, path.name, digest, gpu, None, {"tf32": False, "workspace_mb": None})
        engine = build_engine.engine_path(path, record, cache_folder(digest))
        if not build_engine.is_current(engine, record):
            serialized = build_engine.build_one(trt, build_engine.parse(trt, data, path.name), record)
            build_engine.keep(engine, serialized, record)
        return trt, engine
    except build_engine.Problem as problem:
        raise as_error(problem) from problem


def cache_folder(digest: str) -> Path:
    """Of one ONNX file, below the user's own cache: an engine is code, and a temporary folder is anybody's."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "edgevl" / "engines" / digest[:16]


def as_error(problem: build_engine.Problem) -> EdgeVLError:
    """The same line and exit code as an error of EdgeVL."""
    if problem.exit_code == build_engine.MISSING:
        return MissingDependency("tensorrt", "tensorrt", f"running an engine ({problem})")
    kind = {build_engine.BAD_INPUT: InputError, build_engine.REFUSED: VerificationFailed}
    return kind.get(problem.exit_code, EdgeVLError)(str(problem))


def _spec(trt: Any, engine: Any, name: str) -> TensorSpec:
    dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name
    return TensorSpec(name, dtype, tuple(engine.get_tensor_shape(name)))


def _errors(trt: Any) -> list[str]:
    return build_engine.log_of(trt).messages[-1:] or ["it gives no reason"]
