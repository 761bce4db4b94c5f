"""Write a program as ONNX: one file, opset 20, weights inside, nothing that names the machine that built it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

import edgevl
from edgevl.errors import EdgeVLError, InputError, MissingDependency, unknown_name
from edgevl.export.onnx_half import to_half
from edgevl.export.onnx_qdq import to_static_int8
from edgevl.export.onnx_weights import quantize_weights
from edgevl.export.registry import Option, Unconvertible, register_exporter
from edgevl.models.capture import program_inputs, program_outputs

if TYPE_CHECKING:
    import onnx

OPSET = 20  # the highest that ONNX Runtime's static int8 kernels take (docs/export.md)
_CONVERT = {"fp32": lambda model: model, "fp16": to_half, "w8": quantize_weights, "w8a8": to_static_int8}
PRECISIONS = tuple(_CONVERT)
DIALECTS = ("x86", "arm")
# fp16 is made from the file in fp32, and shapes are inferred from its bytes.
ONE_FILE_BYTES = {"fp32": 4, "fp16": 4, "w8": 1, "w8a8": 1}


def check_dialect(precision: str, dialect: str) -> None:
    """Raises `InputError` for an unknown precision, `w8a8` without a dialect, and a dialect without `w8a8`."""
    if precision not in PRECISIONS:
        raise unknown_name("ONNX precision", precision, PRECISIONS)
    if precision == "w8a8" and dialect not in DIALECTS:
        raise InputError("the precision w8a8 needs a dialect: x86 or arm")
    if precision != "w8a8" and dialect != "none":
        raise InputError(f'dialect "{dialect}" is for the precision w8a8; {precision} has none: leave it out')


@register_exporter(
    "onnx",
    artifact="model.onnx",
    adapter="raw",
    precisions=PRECISIONS,
    aliases=("ort", "onnxruntime"),
    options={"dialect": Option((*DIALECTS, "none"), "none", {"w8a8": "x86"})},
    check=check_dialect,
    one_file=ONE_FILE_BYTES,
)
def write_onnx(program: ExportedProgram, path: Path, precision: str = "fp32", dialect: str = "none") -> None:
    """Write `program` to `path`, optimized and checked. The same weights give the same bytes.

    Args:
        precision: `fp32`; `fp16` (strongly typed, see `edgevl.export.onnx_half`); `w8` (int8 weights, float32
            arithmetic, see `edgevl.export.onnx_weights`); or `w8a8` (static int8), for a program with Q/DQ.
        dialect: of `w8a8`, which the program was quantized in: `x86` or `arm`.
    Raises:
        InputError: a precision and a dialect that do not go together, or a weight that float16 cannot hold.
        MissingDependency: onnx or onnxscript is not installed.
        Unconvertible: the file would be larger than protobuf allows.
        EdgeVLError: the file cannot be written.
    """
    check_dialect(precision, dialect)
    with one_protobuf():
        save_onnx(_CONVERT[precision](to_onnx(program)), path)


@contextmanager
def one_protobuf() -> Iterator[None]:
    """Protobuf's own words for a model beyond 2 GiB are "Failed to serialize proto"."""
    from google.protobuf.message import EncodeError

    try:
        yield
    except EncodeError as error:
        raise Unconvertible("its ONNX file would be larger than 2 GiB, which is protobuf's limit") from error


def save_onnx(model: "onnx.ModelProto", path: Path) -> None:
    """Check a model and write it, the same bytes for the same model. Raises `EdgeVLError` if the disk refuses."""
    import onnx

    onnx.checker.check_model(model, full_check=True)
    try:
        path.write_bytes(model.SerializeToString(deterministic=True))
    except OSError as error:
        raise EdgeVLError(f"cannot write {path}: {error.strerror}") from error


def to_onnx(program: ExportedProgram) -> "onnx.ModelProto":
    """Convert, optimize (constants and batch norms folded) and clean. Returns the model, weights inside."""
    try:
        import onnx
        import onnxscript  # noqa: F401  torch.onnx's converter needs it and would say so in twenty lines
    except ImportError as error:
        raise MissingDependency(str(error.name), "onnx", "export to ONNX") from error
    exported = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=OPSET,
        input_names=[spec.name for spec in program_inputs(program)],
        output_names=[spec.name for spec in program_outputs(program)],
        optimize=True,
        external_data=False,
        verbose=False,
    )
    assert exported is not None, "torch.onnx.export returns the program when no file is named"
    model = exported.model_proto
    strip_build_traces(model.graph)
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    model.producer_name, model.producer_version = "edgevl", edgevl.__version__
    onnx.helper.set_model_props(model, {"torch": torch.__version__.split("+")[0]})
    return model


def strip_build_traces(graph: Any) -> None:
    """Remove doc strings and metadata from a graph, its nodes and values, in place.

    torch.onnx writes a Python stack trace with file paths of the building machine into `pkg.torch.onnx.stack_trace`.
    """
    for item in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                strip_build_traces(attribute.g)
