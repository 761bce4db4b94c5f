"""Opening the opponent's ONNX files with the very options of `edgevl.runtime.onnx_session`.

That session checks static shapes and copies outputs to NumPy. The parts of a detector have dynamic shapes (how many
proposals a level gets), and their feature maps should move from one part to the next without a copy, so the bare
session is used here.
"""

from pathlib import Path
from typing import Any

from edgevl.errors import MissingDependency


def open_onnx(path: Path, threads: int) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU: `threads` inside an operator, operators one after another."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingDependency("onnxruntime", "onnx", "running an ONNX file") from error
    options = ort.SessionOptions()
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
