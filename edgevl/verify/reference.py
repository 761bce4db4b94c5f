"""The float PyTorch model that a bundle was made from: find it by its digest, and answer samples with it."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevl.bundle.folder import Bundle, sha256_file
from edgevl.bundle.manifest import MANIFEST, parse_json, read_text
from edgevl.bundle.specs import ImageProcessing
from edgevl.embedded import EMBEDDED_MODELS
from edgevl.errors import EdgeVLError, InputError
from edgevl.models.deployable import with_scaled
from edgevl.opened import Opened, eager
from edgevl.verify.measure import Measured, draw, measure, side_of


@dataclasses.dataclass(frozen=True)
class Reference:
    """The checkpoint to compare with: `path` None is the embedded one. `reason` says why there is none."""

    found: bool
    path: Path | None = None
    reason: str = ""


def find_reference(bundle: Bundle, given: str | Path | None = None) -> Reference:
    """Find the checkpoint with the digest that the manifest records: `given`, the embedded one, or one lying nearby.

    Raises `InputError` if `given` holds other weights, or the manifest has no digest to know them by.
    """
    from edgevl.models.kinds import is_foreign

    provenance = bundle.manifest.provenance
    if provenance.checkpoint_sha256 is None:
        if given is not None:
            raise InputError(f'"{bundle.path.name}" names no checkpoint that "{given}" could be; drop --checkpoint')
        return Reference(False, reason="the manifest names no checkpoint")
    if given is not None:
        if not is_foreign(given) and not (Path(given) / "model.safetensors").is_file():
            raise InputError(f'"{given}" is not a model folder: model.safetensors is missing')
        if not _holds(Path(given), provenance.checkpoint_sha256):
            raise InputError(f'"{given}" does not hold the weights that "{bundle.path.name}" was made from')
        return Reference(True, Path(given))
    for folder in EMBEDDED_MODELS.values():
        if _holds(folder, provenance.checkpoint_sha256):
            return Reference(True, folder)
    name = Path(provenance.checkpoint).name  # a name, never a path: a bundle cannot make us read elsewhere
    for folder in (bundle.path.parent / name, Path(name)):
        if _holds(folder, provenance.checkpoint_sha256):
            return Reference(True, folder)
    return Reference(False, reason=f'the checkpoint "{provenance.checkpoint}" is not here (or has other weights)')


def open_reference(reference: Reference) -> Opened:
    """Open the float model. Raises `InputError` for a folder that cannot be loaded."""
    from edgevl.models.kinds import open_deployable

    return eager(open_deployable(reference.path))


@functools.lru_cache(maxsize=4)
def measured_reference(path: Path | None, sha256: str, data: str, count: int, scaled: tuple[str, ...] = ()) -> Measured:
    """Answer samples with a model folder (None: the embedded one). Cached: two targets share one reference.

    `scaled`: the image processings whose `decode` is "scaled" in the bundle that is compared.

    Raises:
        InputError: the folder cannot be loaded, or its weights do not have the digest `sha256`.
    """
    from edgevl.models.kinds import open_deployable

    deployable = open_deployable(path)
    if deployable.sha256 != sha256:
        raise InputError(f"the weights in {path} are not those that the bundle was made from")
    model = eager(with_scaled(deployable, scaled))
    return measure(model, draw(data, model.task_name, count, side_of(model)), text="running the PyTorch reference")


def source_problems(bundle: Bundle, reference: Reference) -> list[str]:
    """Say where the bundle describes another model than the checkpoint is.

    With other labels or another tokenizer, right values become wrong answers; another processing of pictures, another
    decoding or another order of calls is another model.
    """
    if not reference.found:
        return []
    model, manifest = open_reference(reference), bundle.manifest
    said = {name: codec.spec.model_copy(update={"file": ""}) for name, codec in model.texts.items()}
    held = {name: spec.model_copy(update={"file": ""}) for name, spec in manifest.text_processing.items()}
    pairs = [
        ("task", model.task_name, manifest.task),
        ("image_processing", _whole(model.images), _whole(manifest.image_processing)),
        ("text_processing", said, held),
        ("decoding", _as_json(model.decoding), _as_json(manifest.decoding)),
    ]
    problems = [f"{MANIFEST}: {name} is not that of the checkpoint" for name, own, other in pairs if own != other]
    for name, spec in manifest.text_processing.items():
        own = parse_json(model.texts[name].to_text(), spec.file) if name in model.texts else None
        if own != parse_json(read_text(bundle.file(spec.file)), spec.file):
            problems.append(f"{spec.file} is not that of the checkpoint {manifest.provenance.checkpoint}")
    if manifest.labels and list(model.labels or ()) != bundle.labels():
        problems.append(f"{manifest.labels.file} is not that of the checkpoint {manifest.provenance.checkpoint}")
    return problems


def _whole(images: Mapping[str, ImageProcessing]) -> dict[str, ImageProcessing]:
    """Return image processings without how JPEGs are decoded, which `edgevl export` is told."""
    return {name: spec.model_copy(update={"decode": "whole"}) for name, spec in images.items()}


def _as_json(values: Mapping[str, Any]) -> Any:
    """Return values as a file holds them: a tuple is a list there."""
    return json.loads(json.dumps(dict(values)))


def _holds(folder: Path, sha256: str) -> bool:
    """Compare digests: of a folder of ours that of one file, of a foreign one whatever its family says."""
    from edgevl.models.kinds import is_foreign, open_deployable

    weights = folder / "model.safetensors"
    try:
        if is_foreign(folder):
            return open_deployable(folder).sha256 == sha256
        return weights.is_file() and sha256_file(weights) == sha256
    except (OSError, EdgeVLError):
        return False
