"""Write a program as a Core ML ML Program (`.mlpackage`) with an image input. Runs on Linux and on macOS."""

import json
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

import edgevl
from edgevl.errors import EdgeVLError, unknown_name
from edgevl.export.program import INPUT_NAMES, OUTPUT_NAME
from edgevl.export.registry import register_exporter
from edgevl.runtime.coreml_quiet import import_coremltools, quiet_coremltools

DEPLOYMENT_TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")
_COMPUTE_PRECISION = {"fp16": "FLOAT16", "fp32": "FLOAT32"}  # what ct.precision calls them


@register_exporter(
    "coreml", artifact="model.mlpackage", adapter="float", precisions=("fp16", "fp32"), aliases=("core-ml", "mlpackage")
)
def write_coreml(
    program: ExportedProgram, path: Path, precision: str = "fp16", deployment_target: str = "iOS16"
) -> None:
    """Write `program`, which takes `image` float [1, 3, S, S] in 0..255 and `input_ids` int32 [1, T], as an ML Program.

    The package's `image` is a Core ML image input (S x S pixels, RGB); `logits` is float32 [1, A] in either precision.
    The same weights give the same bytes.

    Args:
        precision: `fp16` (weights and arithmetic in half precision, what the Neural Engine runs) or `fp32`.
        deployment_target: the oldest system that must run it: iOS15 to iOS18 (macOS 12 to 15). A newer one offers newer
            operators.
    Raises:
        InputError: an unknown precision or deployment target.
        MissingDependency: coremltools is not installed.
    """
    if precision not in _COMPUTE_PRECISION:
        raise unknown_name("Core ML precision", precision, _COMPUTE_PRECISION)
    if deployment_target not in DEPLOYMENT_TARGETS:
        raise unknown_name("deployment target", deployment_target, DEPLOYMENT_TARGETS)
    model = to_mlprogram(program, precision, deployment_target)
    try:
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / "model.mlpackage"
            model.save(str(saved))
            make_reproducible(saved, model.get_spec())
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(saved, path)
    except (OSError, shutil.Error) as error:
        raise EdgeVLError(f"cannot write {path}: {error}") from error


def to_mlprogram(program: ExportedProgram, precision: str, deployment_target: str) -> Any:
    """Convert to a `coremltools.models.MLModel`, in memory."""
    ct = import_coremltools("export to Core ML")
    image_shape, ids_shape = input_shapes(program)
    image_name, ids_name = INPUT_NAMES
    with quiet_coremltools():
        return ct.convert(
            without_aliases(program.run_decompositions({})),
            convert_to="mlprogram",
            inputs=[
                ct.ImageType(name=image_name, shape=image_shape, color_layout=ct.colorlayout.RGB, scale=1.0),
                ct.TensorType(name=ids_name, shape=ids_shape, dtype=np.int32),
            ],
            outputs=[ct.TensorType(name=OUTPUT_NAME, dtype=np.float32)],
            compute_precision=getattr(ct.precision, _COMPUTE_PRECISION[precision]),
            minimum_deployment_target=getattr(ct.target, deployment_target),
            skip_model_load=True,  # on macOS it would compile the model here, only to throw the result away
        )


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


def input_shapes(program: ExportedProgram) -> list[tuple[int, ...]]:
    """Return the shapes of the program's own inputs (not of its weights), in order."""
    names = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT}  # pyright: ignore[reportAttributeAccessIssue]
    return [
        tuple(node.meta["val"].shape) for node in program.graph.nodes if node.op == "placeholder" and node.name in names
    ]


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
    manifest_path.write_text(json.dumps(_name_items(json.loads(manifest_path.read_text())), indent=4, sort_keys=True))


def _name_items(manifest: dict[str, Any]) -> dict[str, Any]:
    """Replace the random item identifiers of a manifest by ones derived from the items' paths."""
    names = {
        old: str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"])) for old, item in manifest["itemInfoEntries"].items()
    }
    items = {names[old]: item for old, item in manifest["itemInfoEntries"].items()}
    return {**manifest, "itemInfoEntries": items, "rootModelIdentifier": names[manifest["rootModelIdentifier"]]}
