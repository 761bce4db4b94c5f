"""Write a program for TensorRT: a strongly typed ONNX file and the script that builds its engine on the device."""

import shutil
from pathlib import Path

from torch.export import ExportedProgram

from edgevl.apps.jetson import build_engine
from edgevl.errors import EdgeVLError, InputError, MissingDependency, unknown_name
from edgevl.export.onnx_qdq import to_symmetric_int8
from edgevl.export.registry import register_exporter
from edgevl.export.to_onnx import ONE_FILE_BYTES, one_protobuf, save_onnx, to_onnx, write_onnx
from edgevl.models.capture import program_inputs

PRECISIONS = ("fp16", "fp32", "w8a8")


class NoTorchTensorRT(MissingDependency):
    """No extra of ours brings it: its libraries come from NVIDIA's own index, and it needs a CUDA device at import."""

    def __init__(self, reason: str):
        EdgeVLError.__init__(
            self, f"torch-tensorrt cannot be imported ({reason}): pip install torch-tensorrt, on a machine with a GPU"
        )


def copy_script(folder: Path) -> None:
    """Put `build_engine.py`, which needs nothing of EdgeVL, into a bundle. Raises `EdgeVLError` if the disk refuses."""
    script = Path(build_engine.__file__)
    try:
        shutil.copyfile(script, folder / script.name)
    except OSError as error:
        raise EdgeVLError(f"cannot write {folder / script.name}: {error.strerror}") from error


@register_exporter(
    "tensorrt",
    artifact="model.onnx",
    adapter="raw",
    precisions=PRECISIONS,
    aliases=("trt", "engine", "rtx"),
    finish=copy_script,
    dialect="tensorrt",
    one_file=ONE_FILE_BYTES,
)
def write_tensorrt(program: ExportedProgram, path: Path, precision: str = "fp16") -> None:
    """Write `program` as ONNX for TensorRT 10 and 11. The same weights give the same bytes.

    The file says the type of every value (strongly typed), so that no flag of a builder decides the precision.

    Args:
        precision: `fp16` (layer norm and softmax in float32 between casts, see `edgevl.export.onnx_half`), `fp32`, or
            `w8a8` (symmetric int8 in front of convolutions and matrix products, the rest float32), for a program with
            Q/DQ in the dialect `tensorrt`.
    Raises:
        InputError: an unknown precision, or a weight that float16 cannot hold.
        MissingDependency: onnx or onnxscript is not installed.
        EdgeVLError: the file cannot be written.
    """
    if precision not in PRECISIONS:
        raise unknown_name("TensorRT precision", precision, PRECISIONS)
    if precision == "w8a8":
        with one_protobuf():
            save_onnx(to_symmetric_int8(to_onnx(program)), path)
    else:
        write_onnx(program, path, precision)


def build_with_torch_tensorrt(program: ExportedProgram, path: Path) -> None:
    """Build the engine of a float32 `program` with torch-tensorrt, without ONNX, for the GPU of this machine.

    A second opinion where TensorRT's ONNX parser and torch's converters disagree; `build_engine.py` is the way to ship.
    Written to torch-tensorrt's documented API and never run: no GPU was at hand.

    Args:
        program: what `edgevl.models.capture.capture` gives.
        path: the engine to write; TensorRT's own runtime loads it.
    Raises:
        MissingDependency: torch-tensorrt is not installed, or finds no GPU.
        InputError: the file cannot be written.
        EdgeVLError: torch-tensorrt cannot convert the program.
    """
    import torch

    try:
        import torch_tensorrt  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError, RuntimeError) as error:
        raise NoTorchTensorRT(str(error).splitlines()[0]) from error
    zeros = [
        torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype), device="cuda") for spec in program_inputs(program)
    ]
    try:
        engine = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
            program, arg_inputs=zeros, use_explicit_typing=True, disable_tf32=True
        )
        path.write_bytes(engine)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    except Exception as error:  # it raises whatever its converters raise
        raise EdgeVLError(f"torch-tensorrt cannot build the program: {error}") from error
