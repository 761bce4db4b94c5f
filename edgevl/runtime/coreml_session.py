"""Run a Core ML package: with Core ML itself on macOS, with the reference executor everywhere else."""

import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgevl.errors import EdgeVLError
from edgevl.runtime.coreml_quiet import import_coremltools, quiet_coremltools
from edgevl.runtime.coreml_reference import MLProgram
from edgevl.runtime.session import Arrays, ArtifactSession, Session, sessions
from edgevl.runtime.torch_session import torch_threads


class CoreMLReferenceSession(ArtifactSession):
    """The reference executor behind the session interface. `image` is uint8 [1, S, S, 3]."""

    runtime = "Core ML reference executor (fp32 accumulation)"
    thread_safe = True  # each run has its own values

    def __init__(self, path: str | Path, threads: int | None = None, precision: str = "fp16"):
        """Load `path`. `precision`: see `MLProgram.load`."""
        super().__init__()
        self._program = MLProgram.load(path, precision)
        self.inputs, self.outputs = self._program.inputs, self._program.outputs
        self._threads = threads

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        with torch_threads(self._threads):
            return self._program.predict(feeds)


class CoreMLSession(ArtifactSession):
    """Apple's own Core ML, on macOS. The operating system chooses the processor; it takes no number of threads.

    "Use an MLModel instance on one thread or one dispatch queue at a time": threads take turns.
    """

    runtime = "Core ML"

    def __init__(self, path: str | Path):
        """Load and compile `path`. Raises `EdgeVLError` for a package that Core ML refuses."""
        super().__init__()
        ct = import_coremltools("running a Core ML package")
        # The interface comes from the same reader as on Linux, so that both sessions accept exactly the same arrays.
        program = MLProgram.load(path)
        self.inputs, self.outputs = program.inputs, program.outputs
        try:
            with quiet_coremltools():
                self._model = ct.models.MLModel(str(path))
        except Exception as error:  # coremltools raises RuntimeError, ValueError and bare Exception here
            raise EdgeVLError(f"Core ML cannot load {path}: {error}") from error

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        from PIL import Image

        prepared = {
            spec.name: Image.fromarray(feeds[spec.name][0]) if spec.dtype == "uint8" else feeds[spec.name]
            for spec in self.inputs
        }
        results = self._model.predict(prepared)
        return {spec.name: np.asarray(results[spec.name], dtype=spec.dtype) for spec in self.outputs}


@sessions.register("coreml")
def open_coreml(path: Path, threads: int | None = None) -> Session:
    return CoreMLSession(path) if platform.system() == "Darwin" else CoreMLReferenceSession(path, threads)
