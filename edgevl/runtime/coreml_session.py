"""Run a Core ML package: with Core ML itself on macOS, with the reference executor everywhere else."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgevl.errors import EdgeVLError, InputError
from edgevl.runtime.coreml_quiet import import_coremltools, quiet_coremltools
from edgevl.runtime.coreml_reference import MLProgram
from edgevl.runtime.coreml_reference import TensorSpec as ProgramSpec
from edgevl.runtime.eager_session import torch_threads
from edgevl.runtime.session import Arrays, ArtifactSession, Session, TensorSpec


class CoreMLReferenceSession(ArtifactSession):
    """The reference executor behind the session interface. `image` is uint8 [1, S, S, 3]."""

    runtime = "Core ML reference executor (fp32 accumulation)"
    thread_safe = True  # each run has its own values

    def __init__(self, path: str | Path, threads: int | None = None, precision: str = "fp16"):
        """Load `path`. `precision`: see `MLProgram.load`."""
        super().__init__()
        self._program = load_for_session(path, precision)
        self.inputs, self.outputs = _specs(self._program.inputs), _specs(self._program.outputs)
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
        program = load_for_session(path)
        self.inputs, self.outputs = _specs(program.inputs), _specs(program.outputs)
        try:
            with quiet_coremltools():
                self._model = ct.models.MLModel(str(path))
        except Exception as error:  # coremltools raises RuntimeError, ValueError and bare Exception here
            raise EdgeVLError(f"Core ML cannot load {path}: {error}") from error

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        prepared = {spec.name: _for_core_ml(feeds[spec.name]) for spec in self.inputs}
        results = self._model.predict(prepared)
        return {spec.name: _from_core_ml(results[spec.name], spec) for spec in self.outputs}


def _for_core_ml(array: np.ndarray) -> Any:
    """Pixels [1, H, W, 1 or 3] as a picture; anything else as it is."""
    from PIL import Image

    if array.dtype != np.uint8:
        return array
    return Image.fromarray(array[0, ..., 0] if array.shape[-1] == 1 else array[0])


def _from_core_ml(result: Any, spec: TensorSpec) -> np.ndarray:
    """A picture, whatever its mode, as pixels of the spec's shape; an array with the spec's dtype."""
    if hasattr(result, "convert"):
        result = result.convert("L" if spec.shape[-1] == 1 else "RGB")
    return np.asarray(result, dtype=spec.dtype).reshape(spec.shape)


def load_for_session(path: str | Path, precision: str = "fp16") -> MLProgram:
    """Load a package as a session shows it: every input with its default shape, arrays in and out, nothing kept.

    Raises `InputError` for what a session cannot show; `MLProgram` runs it.
    """
    program = MLProgram.load(path, precision)
    unlike = [spec.name for spec in (*program.states, *program.outputs) if spec in program.states or not spec.is_array]
    if unlike:
        raise InputError(
            f'{path}: "{unlike[0]}" is {"a state" if program.states else "no array but a label"}, which a session does '
            "not have: use edgevl.runtime.coreml_reference.MLProgram"
        )
    flexible = {spec.name: spec.shape for spec in program.inputs if spec.flexible}
    return MLProgram.load(path, precision, shapes=flexible) if flexible else program


def _specs(specs: Sequence[ProgramSpec]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(spec.name, spec.dtype, spec.shape) for spec in specs)


def open_coreml(path: Path, threads: int | None = None) -> Session:
    return CoreMLSession(path) if platform.system() == "Darwin" else CoreMLReferenceSession(path, threads)
