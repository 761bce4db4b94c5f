"""The float PyTorch model as a reference: find it by its digest, and compare logits with it."""

import dataclasses
from pathlib import Path

import numpy as np

from edgevl.bundle import Bundle, sha256_file
from edgevl.config import ModelConfig
from edgevl.errors import InputError
from edgevl.manifest import MANIFEST, Parity, parse_json, read_text
from edgevl.reading import read_json

MAX_PSNR = 300.0  # reported for logits that are equal, where the ratio is infinite
_LARGEST = 1e12  # what the manifest can hold


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
    from edgevl.checkpoint import EMBEDDED

    provenance = bundle.manifest.provenance
    if provenance.checkpoint_sha256 is None:
        if given is not None:
            raise InputError(f'"{bundle.path.name}" names no checkpoint that "{given}" could be; drop --checkpoint')
        return Reference(False, reason="the manifest names no checkpoint")
    if given is not None:
        if not (Path(given) / "model.safetensors").is_file():
            raise InputError(f'"{given}" is not a model folder: model.safetensors is missing')
        if not _holds(Path(given), provenance.checkpoint_sha256):
            raise InputError(f'"{given}" does not hold the weights that "{bundle.path.name}" was made from')
        return Reference(True, Path(given))
    if _holds(EMBEDDED, provenance.checkpoint_sha256):
        return Reference(True, None)
    name = Path(provenance.checkpoint).name  # a name, never a path: a bundle cannot make us read elsewhere
    for folder in (bundle.path.parent / name, Path(name)):
        if _holds(folder, provenance.checkpoint_sha256):
            return Reference(True, folder)
    return Reference(False, reason=f'the checkpoint "{provenance.checkpoint}" is not here (or has other weights)')


def source_problems(bundle: Bundle, reference: Reference) -> list[str]:
    """Labels and tokenizer must be those of the checkpoint: with others, right logits become wrong answers.

    So must the configuration, which an app may show and which says how pixels are normalized inside.
    """
    from edgevl.checkpoint import EMBEDDED

    if not reference.found:
        return []
    problems = []
    config = (reference.path or EMBEDDED) / "config.json"
    if config.is_file() and ModelConfig.from_file(config) != bundle.manifest.model:
        problems.append(f"{MANIFEST}: model is not the config.json of {bundle.manifest.provenance.checkpoint}")
    for name in (bundle.manifest.labels.file, bundle.manifest.tokenizer.file):
        source = (reference.path or EMBEDDED) / Path(name).name
        if source.is_file() and read_json(source, object) != parse_json(read_text(bundle.file(name)), name):
            problems.append(f"{name} is not that of the checkpoint {bundle.manifest.provenance.checkpoint}")
    return problems


def _holds(folder: Path, sha256: str) -> bool:
    weights = folder / "model.safetensors"
    try:
        return weights.is_file() and sha256_file(weights) == sha256
    except OSError:
        return False


def measure_parity(own_NA: np.ndarray, reference_NA: np.ndarray, data: str, runtime: str) -> Parity:
    """Compare logits [N, A]. PSNR = 20 log10(max |reference| / rms difference); cosine is the mean over samples."""
    own, reference = own_NA.astype(np.float64), reference_NA.astype(np.float64)
    difference = own - reference
    rms, peak = float(np.sqrt(np.mean(difference**2))), float(np.abs(reference).max())
    psnr = MAX_PSNR if rms == 0 else min(MAX_PSNR, 20 * np.log10(max(peak, 1e-12) / rms))
    norms = np.linalg.norm(own, axis=1) * np.linalg.norm(reference, axis=1)
    cosine = (own * reference).sum(axis=1) / np.maximum(norms, 1e-12)
    return Parity(
        max_abs=min(_LARGEST, float(np.abs(difference).max())),
        psnr_db=max(-MAX_PSNR, float(psnr)),
        cosine=float(cosine.mean()),
        top1_agreement=float((own.argmax(axis=1) == reference.argmax(axis=1)).mean()),
        samples=len(own),
        data=data,
        runtime=runtime,
    )
