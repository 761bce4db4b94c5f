"""Run an ONNX file with ONNX Runtime on the CPU."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgevl.errors import EdgeVLError, MissingDependency, first_line
from edgevl.runtime.session import Arrays, ArtifactSession, Session, TensorSpec

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}

# Threads of a session go on spinning after a run and take the cores from whatever comes next: another session, NMS in
# torch, decoding. Measured: the SSD pipeline of the benchmark, three sessions, 63 ms with spinning and 27 ms without;
# our own model, one session, the same (docs/log.md).
STOP_SPINNING = "session.force_spinning_stop"


class OnnxSession(ArtifactSession):
    """An ONNX Runtime session on the CPU, nodes one after another: `threads` is all the parallelism there is."""

    runtime = "ONNX Runtime (CPU)"
    thread_safe = True  # "Multiple threads can invoke the Run() method on the same inference session object"

    def __init__(self, path: str | Path, threads: int | None = None):
        """Load `path`.

        Raises:
            MissingDependency: onnxruntime is not installed.
            EdgeVLError: the file is not an ONNX model that this ONNX Runtime can run.
        """
        super().__init__()
        self.path = Path(path)
        self._session = _load(self.path, threads)
        self.inputs = tuple(_spec(value) for value in self._session.get_inputs())
        self.outputs = tuple(_spec(value) for value in self._session.get_outputs())
        self._output_names = [spec.name for spec in self.outputs]

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        return dict(zip(self._output_names, self._session.run(self._output_names, dict(feeds)), strict=True))


def open_onnx(path: Path, threads: int | None = None) -> Session:
    return OnnxSession(path, threads)


def _load(path: Path, threads: int | None) -> Any:
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingDependency("onnxruntime", "onnx", "running an ONNX file") from error
    ort.disable_telemetry_events()
    try:
        return ort.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen types of its own, all derived from Exception only
        reason = first_line(error)
        raise EdgeVLError(
            f"{path} cannot be loaded by ONNX Runtime ({reason}). If it is truncated or was changed, export it again"
        ) from error


def session_options(threads: int | None) -> Any:
    """`onnxruntime.SessionOptions`: nodes one after another on `threads` (None: as many as onnxruntime likes)."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # an error comes as an exception; a warning is for the exporter, not for the user
    options.inter_op_num_threads = 1
    options.add_session_config_entry(STOP_SPINNING, "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def _spec(value: Any) -> TensorSpec:
    if value.type not in _DTYPES or not all(isinstance(side, int) for side in value.shape):
        raise EdgeVLError(f"{value.name} is {value.type} {value.shape}: only tensors of static shape are supported")
    return TensorSpec(value.name, _DTYPES[value.type], tuple(value.shape))
