"""Run a `.tflite` file with LiteRT's interpreter on the CPU."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgevl.errors import EdgeVLError, MissingDependency
from edgevl.quiet import without_native_stderr
from edgevl.runtime.litert_file import LiteModel, read_model, tensor_shape
from edgevl.runtime.session import Arrays, ArtifactSession, Session, TensorSpec

_PURPOSE = "running a LiteRT file"


class LiteRTSession(ArtifactSession):
    """LiteRT's interpreter; XNNPACK computes what it can, LiteRT's own kernels the rest.

    Inputs and outputs have the names, and the order, of the model's signature. An interpreter holds the tensors of one
    run, so threads take turns.
    """

    runtime = "LiteRT (XNNPACK, CPU)"

    def __init__(self, path: str | Path, threads: int | None = None):
        """Load `path`; `threads` is passed on, None is LiteRT's default (1).

        Raises:
            MissingDependency: ai-edge-litert is not installed.
            VerificationFailed: the file is damaged.
            EdgeVLError: LiteRT refuses it, for example for an operator that it does not have.
        """
        super().__init__()
        self.path = Path(path)
        model = read_model(self.path, _PURPOSE)
        inputs, outputs = model.signature("inputs"), model.signature("outputs")
        self.inputs = tuple(_spec(model, name, inputs[name]) for name in _ordered(model.graph.inputs, inputs))
        self.outputs = tuple(_spec(model, name, outputs[name]) for name in _ordered(model.graph.outputs, outputs))
        self._indices = {**inputs, **outputs}
        self._interpreter = _load(self.path, threads)

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        try:
            for spec in self.inputs:
                self._interpreter.set_tensor(self._indices[spec.name], feeds[spec.name])
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise EdgeVLError(f"{self.path.name} fails when it runs ({_line(error)})") from error
        # get_tensor copies, so that the next run does not change what this one returned
        return {spec.name: self._interpreter.get_tensor(self._indices[spec.name]) for spec in self.outputs}


def open_litert(path: Path, threads: int | None = None) -> Session:
    return LiteRTSession(path, threads)


def _ordered(indices: Any, names: dict[str, int]) -> list[str]:
    """The names in the order of the graph; the signature lists them by the alphabet."""
    order = {int(index): place for place, index in enumerate(indices)}
    return sorted(names, key=lambda name: order[names[name]])


def _spec(model: LiteModel, name: str, index: int) -> TensorSpec:
    tensor = model.tensors[index]
    return TensorSpec(name, model.dtype(tensor), tensor_shape(tensor))


def _load(path: Path, threads: int | None) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingDependency("ai-edge-litert", "litert", _PURPOSE) from error
    try:
        with without_native_stderr():  # "Created TensorFlow Lite XNNPACK delegate for CPU"
            interpreter = Interpreter(model_path=str(path), num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise EdgeVLError(f"{path} cannot be loaded by LiteRT ({_line(error)}). Export it again") from error
    return interpreter


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
