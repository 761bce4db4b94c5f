"""Opening ONNX files with the very options of `edgevl.runtime.onnx_session`.

That session checks static shapes and copies outputs to NumPy. The parts of a detector have dynamic shapes (how many
proposals a level gets), and their feature maps should move from one part to the next without a copy, so the bare
session is used here.
"""

from pathlib import Path
from typing import Any

from edgevl.errors import MissingDependency
from edgevl.guard import Call
from edgevl.runtime.onnx_session import session_options


def open_onnx(model: Path | bytes, threads: int, profile: Path | None = None) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU: `threads` inside an operator, operators one after another.

    Args:
        model: a file, or its content.
        profile: beginning of the path of a profile; `end_profiling` of the session returns the whole path.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingDependency("onnxruntime", "onnx", "running an ONNX file") from error
    options = session_options(threads)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    source = model if isinstance(model, bytes) else str(model)
    with Call("loading a model into ONNX Runtime"):
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
