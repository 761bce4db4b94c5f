"""Write a program as a Core ML ML Program (`.mlpackage`) with an image input. Runs on Linux and on macOS."""

import json
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._decomp import get_decompositions
from torch.export import ExportedProgram

import edgevl
from edgevl.errors import EdgeVLError, InputError, unknown_name
from edgevl.export.coreml_weights import Compression, pipeline
from edgevl.export.passes import graph_pass
from edgevl.export.registry import Option, register_exporter
from edgevl.models.capture import program_inputs, program_outputs
from edgevl.runtime.coreml_quiet import import_coremltools, quiet_coremltools
from edgevl.runtime.session import TensorSpec

UNKNOWN = (torch.ops.aten.addcmul,)  # what coremltools 9 cannot convert and torch can take apart (ConvNeXt V2 has it)
DEPLOYMENT_TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")
SCHEMES = ("blocks", "palette")  # of w4
_COMPUTE_PRECISION = {"fp32": "FLOAT32"} | dict.fromkeys(
    ("fp16", "w8", "w4", "w8a8"), "FLOAT16"
)  # as ct.precision says
_OPTIONS = {
    "deployment_target": Option(DEPLOYMENT_TARGETS, "iOS16", {"w4": "iOS18", "w8a8": "iOS17"}),
    "scheme": Option((*SCHEMES, "none"), "none", {"w4": "blocks"}),
}


def check_compression(precision: str, deployment_target: str, scheme: str = "none") -> Compression | None:
    """Return how the weights are to be compressed, None for not at all.

    Raises `InputError` for an unknown name, a scheme without `w4`, and a system too old for the operators needed.
    """
    if precision not in _COMPUTE_PRECISION:
        raise unknown_name("Core ML precision", precision, _COMPUTE_PRECISION)
    if deployment_target not in DEPLOYMENT_TARGETS:
        raise unknown_name("deployment target", deployment_target, DEPLOYMENT_TARGETS)
    if scheme not in (*SCHEMES, "none"):
        raise unknown_name("scheme", scheme, SCHEMES)
    if precision != "w4" and scheme != "none":
        raise InputError(f'scheme "{scheme}" is for the precision w4; {precision} has none: leave it out')
    if precision not in ("w8", "w4", "w8a8"):
        return None
    if precision == "w4" and scheme == "none":
        raise InputError("the precision w4 needs a scheme: blocks or palette")
    if scheme == "blocks" and deployment_target != "iOS18":
        raise InputError(
            f"int4 in blocks needs the deployment target iOS18, not {deployment_target}; a palette runs from iOS16"
        )
    if precision == "w8a8" and deployment_target in ("iOS15", "iOS16"):
        raise InputError(f"int8 activations (w8a8) need the deployment target iOS17 or later, not {deployment_target}")
    if deployment_target == "iOS15":
        raise InputError(f"compressed weights ({precision}) need the deployment target iOS16 or later, not iOS15")
    ios18 = deployment_target == "iOS18"
    return Compression(int(precision[1]), palette=scheme == "palette", ios18=ios18, tables=precision == "w8a8")


@register_exporter(
    "coreml",
    artifact="model.mlpackage",
    adapter="float",
    precisions=("fp16", "fp32", "w8", "w4", "w8a8"),
    aliases=("core-ml", "mlpackage", "mlprogram"),
    options=_OPTIONS,
    check=check_compression,
    max_batch=1,
    batch_advice="a Core ML image is one picture; an app passes several to MLModel.predictions(from:)",
    dialect="coreml",
)
def write_coreml(
    program: ExportedProgram,
    path: Path,
    precision: str = "fp16",
    deployment_target: str | None = None,
    scheme: str | None = None,
    pictures: Sequence[str] = ("image",),
) -> None:
    """Write `program`, whose pictures are float [1, 3, S, S] in 0..255, as an ML Program.

    Each picture of the package is a Core ML image input (S x S pixels, RGB); outputs are float32 in every precision.
    The same weights give the same bytes.

    Args:
        precision: `fp16` (weights and arithmetic in half precision, what the Neural Engine runs), `fp32`, or compressed
            weights with arithmetic in half precision: `w8` (int8, a scale for each output channel) or `w4`. Small
            weights stay float; in `w4` embedding and answer head are int8, unless they are a large share of the model.
            `w8a8` is for a program with Q/DQ in the dialect `coreml`; the rest is half precision, tables are int8.
        deployment_target: the oldest system that must run it: iOS15 to iOS18 (macOS 12 to 15); None: iOS18 for `w4`,
            iOS17 for `w8a8`, otherwise iOS16. A newer one offers newer operators. `w8` and palettes need iOS16, `w8a8`
            iOS17, blocks iOS18.
        scheme: of `w4`: `blocks` (int4, a scale for 32 weights; None is this) or `palette` (indices into 16 values).
        pictures: names of the inputs that are pictures.
    Raises:
        InputError: an unknown precision, deployment target or scheme, or one that does not go with another.
        MissingDependency: coremltools is not installed.
    """
    target = deployment_target or _default("deployment_target", precision)
    compression = check_compression(precision, target, scheme or _default("scheme", precision))
    model = to_mlprogram(program, precision, target, compression, pictures)
    try:
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / "model.mlpackage"
            model.save(str(saved))
            make_reproducible(saved, model.get_spec())
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(saved, path)
    except (OSError, shutil.Error) as error:
        raise EdgeVLError(f"cannot write {path}: {error}") from error


def _default(option: str, precision: str) -> str:
    return _OPTIONS[option].for_precision.get(precision, _OPTIONS[option].default)


def to_mlprogram(
    program: ExportedProgram,
    precision: str,
    deployment_target: str,
    compression: Compression | None = None,
    pictures: Sequence[str] = ("image",),
) -> Any:
    """Convert to a `coremltools.models.MLModel`, in memory."""
    ct = import_coremltools("export to Core ML")
    with quiet_coremltools():
        return ct.convert(
            without_aliases(program.run_decompositions(get_decompositions(UNKNOWN))),
            convert_to="mlprogram",
            inputs=[_input_type(ct, spec, spec.name in pictures) for spec in program_inputs(program)],
            outputs=[ct.TensorType(name=spec.name, dtype=np.float32) for spec in program_outputs(program)],
            compute_precision=getattr(ct.precision, _COMPUTE_PRECISION[precision]),
            minimum_deployment_target=getattr(ct.target, deployment_target),
            pass_pipeline=pipeline(ct, compression) if compression else None,
            skip_model_load=True,  # on macOS it would compile the model here, only to throw the result away
        )


def _input_type(ct: Any, spec: TensorSpec, is_picture: bool) -> Any:
    if is_picture:
        return ct.ImageType(name=spec.name, shape=spec.shape, color_layout=ct.colorlayout.RGB, scale=1.0)
    return ct.TensorType(name=spec.name, shape=spec.shape, dtype=np.dtype(spec.dtype).type)


@graph_pass("no-aliases", "coreml", "runs", "removes operators that return their argument")
def without_aliases(program: ExportedProgram) -> ExportedProgram:
    """Remove `aten.alias`, which returns its argument, in place: coremltools 9 cannot convert it (its issue 2517).

    torch.export writes one for a slice that keeps everything (`position[:, :length]`).
    """
    for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten.alias.default):
        source = node.args[0]
        node.replace_all_uses_with(source)
        program.graph_signature.replace_all_uses(node.name, source.name)
        program.graph.erase_node(node)
    return program


def make_reproducible(package: Path, spec: Any) -> None:
    """Rewrite a saved package so that its bytes depend on the model only.

    coremltools writes today's date into the metadata, random identifiers into the manifest, protobuf maps in any order,
    and a debug table beside the model (`executorch_debug_handle_mapping.json`) that no Core ML tool reads.
    """
    spec.description.metadata.author = "edgevl"
    spec.description.metadata.versionString = edgevl.__version__
    spec.description.metadata.userDefined.pop("com.github.apple.coremltools.conversion_date", None)
    (package / "Data/com.apple.CoreML/model.mlmodel").write_bytes(spec.SerializeToString(deterministic=True))
    (package / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    manifest_path = package / "Manifest.json"
    manifest_path.write_text(
        json.dumps(_name_items(json.loads(manifest_path.read_text(encoding="utf-8"))), indent=4, sort_keys=True),
        encoding="utf-8",
    )


def _name_items(manifest: dict[str, Any]) -> dict[str, Any]:
    """Replace the random item identifiers of a manifest by ones derived from the items' paths."""
    names = {
        old: str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"])) for old, item in manifest["itemInfoEntries"].items()
    }
    items = {names[old]: item for old, item in manifest["itemInfoEntries"].items()}
    return {**manifest, "itemInfoEntries": items, "rootModelIdentifier": names[manifest["rootModelIdentifier"]]}
