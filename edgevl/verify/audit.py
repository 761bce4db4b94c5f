"""What is really inside an artifact: weights, operators, arithmetic, hazards. Read from the file, not run.

A claim is checked against it: a file that says fp16 and holds fp32 weights fails, whatever its manifest says.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from edgevl.bundle.folder import Bundle
from edgevl.bundle.manifest import Accuracy, Audit, AuditWeight, Duplicate, Hazard, Parity
from edgevl.bundle.specs import InputSpec, OutputSpec
from edgevl.errors import EdgeVLError, MissingDependency, VerificationFailed, first_line
from edgevl.formats import Contents, Weight, merge, read_artifact
from edgevl.formats.graph import SMALLEST_DIGEST
from edgevl.verify.claims import UNKNOWN, claim_problems
from edgevl.verify.hazards import KINDS, Found, find_hazards

__all__ = ["InspectReport", "audit_contents", "claim_problems", "inspect_bundle", "read_contents"]

MAX_HAZARDS, MAX_LISTED, MAX_LARGEST, MAX_NAMES = 50, 20, 10, 8  # as `Audit` of the manifest allows
MAX_COUNTS = 500  # entries of a histogram
_MAX_COUNT, _MAX_MACS, _MAX_LABEL = 2**40, 2**53, 200
_DTYPE = re.compile(r"[a-z][a-z0-9_]{0,30}")


class InspectReport(BaseModel):
    """What `edgevl inspect --json` prints."""

    bundle: str
    name: str
    task: str
    target: str
    precision: str
    bytes: int  # of the whole bundle
    files: dict[str, int]  # bytes
    inputs: list[InputSpec]
    outputs: list[OutputSpec]
    weight_bytes: dict[str, int]
    op_types: dict[str, int]
    largest: list[AuditWeight]
    audit: Audit
    versions: dict[str, str]
    license: str
    checkpoint: str
    parity: Parity | None
    accuracy: Accuracy | None
    problems: list[str]


def inspect_bundle(path: str | Path) -> InspectReport:
    """Describe a bundle without running it.

    Raises:
        InputError: there is no bundle at `path`.
        VerificationFailed: its manifest or artifact cannot be read.
    """
    bundle = Bundle.open(path)
    copy = bundle.copied()
    manifest, found = bundle.manifest, read_contents(copy)
    problems = [str(problem) for problem in copy.problems] + claim_problems(manifest, found)
    audit = audit_contents(manifest.target, found, problems)
    sizes = {name: entry.bytes for name, entry in manifest.files.items()}
    return InspectReport(
        bundle=str(bundle.path),
        name=manifest.name,
        task=manifest.task,
        target=manifest.target,
        precision=manifest.precision,
        bytes=sum(sizes.values()),
        files=sizes,
        inputs=list(manifest.inputs),
        outputs=list(manifest.outputs),
        weight_bytes=audit.weight_bytes,
        op_types=audit.op_types,
        largest=list(audit.largest),
        audit=audit,
        versions=manifest.versions,
        license=manifest.license,
        checkpoint=manifest.provenance.checkpoint,
        parity=manifest.parity,
        accuracy=manifest.accuracy,
        problems=problems,
    )


def read_contents(bundle: Bundle) -> dict[str, Contents]:
    """Read the artifacts of a bundle: path -> contents, one for each program.

    Raises `VerificationFailed` if one is truncated or of another format.
    """
    return {program.artifact: _read(bundle, program.artifact) for program in bundle.manifest.programs}


def _read(bundle: Bundle, name: str) -> Contents:
    path = bundle.file(name)
    try:
        return read_artifact(path, bundle.manifest.target)
    except MissingDependency:
        raise
    except EdgeVLError as error:
        raise VerificationFailed(f"{name}: {error}") from None
    except Exception as error:  # protobuf, struct and numpy all have their own for a damaged file
        raise VerificationFailed(f"{name} is truncated or damaged ({first_line(error, 200)})") from None


def audit_contents(target: str, contents: Mapping[str, Contents], problems: Sequence[str] = ()) -> Audit:
    """The audit of the artifacts of one bundle, ready for its manifest: long lists and names are cut, counts are not.

    Args:
        target: decides which operators are hazards.
        contents: path -> contents, as `read_contents` returns it.
        problems: what `claim_problems` and others found.
    """
    everything = merge(contents.values())
    macs = _by_dtype(everything.macs, _MAX_MACS)
    copies = _by_size(group for found in contents.values() for group in _duplicates(found.weights))
    unused = _by_size((weight,) for weight in everything.weights if not weight.used)
    hazards = _grouped(hazard for found in contents.values() for hazard in find_hazards(target, found))
    return Audit(
        ok=not problems,
        weight_bytes=_by_dtype(everything.weight_bytes, _MAX_COUNT),
        op_types=_counts(everything.op_types),
        problems=tuple(" ".join(problem.split())[:2000] for problem in problems),
        activation_dtypes=_by_dtype(everything.activation_dtypes, _MAX_COUNT),
        macs=macs,
        mac_shares={dtype: count / sum(macs.values()) for dtype, count in macs.items()},
        largest=tuple(_entry(weight) for (weight,) in _by_size((w,) for w in everything.weights)[:MAX_LARGEST]),
        duplicates=tuple(_duplicate(group) for group in copies[:MAX_LISTED]),
        duplicate_bytes=_limited(sum(weight.bytes for group in copies for weight in group[1:])),
        unused=tuple(_entry(weight) for (weight,) in unused[:MAX_LISTED]),
        unused_count=len(unused),
        unused_bytes=_limited(sum(weight.bytes for (weight,) in unused)),
        hazards=tuple(hazards[:MAX_HAZARDS]),
        hazard_count=sum(hazard.count for hazard in hazards),
    )


Group = tuple[Weight, ...]


def _by_size(groups: Iterable[Group]) -> list[Group]:
    """The groups that hold the most bytes first."""
    return sorted(groups, key=lambda group: -group[0].bytes * len(group))


def _duplicates(weights: Iterable[Weight]) -> list[Group]:
    """Weights of one dtype with the same bytes; small ones are equal by nature and have no digest."""
    groups: dict[tuple[str, str], list[Weight]] = {}
    for weight in weights:
        if weight.digest and weight.bytes >= SMALLEST_DIGEST:
            groups.setdefault((weight.dtype, weight.digest), []).append(weight)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _grouped(found: Iterable[Found]) -> list[Hazard]:
    """One entry for all operators of a type with the same hazard, named after the first; in the order of `KINDS`."""
    counts: dict[tuple[str, str, str], int] = {}
    names: dict[tuple[str, str, str], str] = {}
    for hazard in found:
        key = (hazard.kind, hazard.op, hazard.why)
        counts[key] = counts.get(key, 0) + 1
        names.setdefault(key, hazard.name)
    ordered = sorted(counts, key=lambda key: (KINDS.index(key[0]), -counts[key]))
    return [
        Hazard(kind=key[0], op=_label(key[1]), name=_label(names[key]), why=_label(key[2]), count=counts[key])
        for key in ordered
    ]


def _entry(weight: Weight) -> AuditWeight:
    shape = tuple(max(-1, min(side, _MAX_COUNT)) for side in weight.shape[:16])
    return AuditWeight(name=_label(weight.name), dtype=_dtype(weight.dtype), shape=shape, bytes=_limited(weight.bytes))


def _duplicate(group: Group) -> Duplicate:
    names = tuple(_label(weight.name) for weight in group[:MAX_NAMES])
    return Duplicate(names=names, copies=len(group), bytes=_limited(group[0].bytes))


def _counts(counts: Mapping[str, int]) -> dict[str, int]:
    return {_label(name) or UNKNOWN: _limited(count) for name, count in list(counts.items())[:MAX_COUNTS]}


def _by_dtype(counts: Mapping[str, int], most: int) -> dict[str, int]:
    result: dict[str, int] = {}
    for dtype, count in counts.items():
        result[_dtype(dtype)] = min(most, result.get(_dtype(dtype), 0) + max(0, count))
    return result


def _dtype(name: str) -> str:
    return name if _DTYPE.fullmatch(name) else UNKNOWN


def _limited(count: int) -> int:
    return max(0, min(count, _MAX_COUNT))


def _label(text: str) -> str:
    """A name from the file as one short line; names in a file may be of any length."""
    text = " ".join(text.split())
    return text if len(text) <= _MAX_LABEL else text[: _MAX_LABEL - 1] + "…"
