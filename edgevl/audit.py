"""What is really inside an artifact: weight bytes per dtype, operators, inputs, outputs. Read from the file, not run.

A claim is checked against it: a file that says fp16 and holds fp32 weights fails, whatever its manifest says.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgevl.bundle import Bundle
from edgevl.contents import Contents, merge, read_artifact
from edgevl.errors import EdgeVLError, MissingDependency, VerificationFailed
from edgevl.manifest import Accuracy, Manifest, Parity, TensorSpec

MAX_FOREIGN = 0.05  # share of the weight bytes that may have another dtype than the one claimed
MIN_QUANTIZED = 0.5  # share of the weight bytes that must be quantized in w8, w4 and w8a8
_QUANTIZE_OPS = {"QuantizeLinear", "QLinearConv", "quantize"}


class WeightInfo(BaseModel):
    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


class InspectReport(BaseModel):
    """What `edgevl inspect --json` prints."""

    bundle: str
    name: str
    task: str
    target: str
    precision: str
    bytes: int  # of the whole bundle
    files: dict[str, int]  # bytes
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    weight_bytes: dict[str, int]
    op_types: dict[str, int]
    largest: list[WeightInfo]
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
    manifest, found = bundle.manifest, read_contents(bundle)
    contents = merge(found.values())
    largest = sorted(contents.weights, key=lambda weight: -weight.bytes)[:10]
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
        weight_bytes=contents.weight_bytes,
        op_types=contents.op_types,
        largest=[WeightInfo(**dataclasses.asdict(weight)) for weight in largest],
        versions=manifest.versions,
        license=manifest.license,
        checkpoint=manifest.provenance.checkpoint,
        parity=manifest.parity,
        accuracy=manifest.accuracy,
        problems=[str(problem) for problem in bundle.check_digests()] + claim_problems(manifest, found),
    )


def read_contents(bundle: Bundle) -> dict[str, Contents]:
    """Read the artifacts of a bundle: path -> contents. A bundle has one, or with the layout `split` two.

    Raises `VerificationFailed` if one is truncated or of another format.
    """
    return {name: _read(bundle, name) for name, _, _ in bundle.manifest.each_program()}


def _read(bundle: Bundle, name: str) -> Contents:
    path = bundle.file(name)
    try:
        return read_artifact(path, bundle.manifest.target)
    except MissingDependency:
        raise
    except EdgeVLError as error:
        raise VerificationFailed(f"{name}: {error}") from None
    except Exception as error:  # protobuf, struct and numpy all have their own for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise VerificationFailed(f"{name} is truncated or damaged ({reason})") from None


def claim_problems(manifest: Manifest, contents: Mapping[str, Contents]) -> list[str]:
    """Sentences that say where the artifacts are not what the manifest claims; empty if they are."""
    problems = []
    for name, inputs, outputs in manifest.each_program():
        found = contents[name]
        problems += _precision_problems(name, manifest.precision, found)
        problems += _interface_problems(name, "input", inputs, found.inputs)
        problems += _interface_problems(name, "output", outputs, found.outputs)
    return problems


def _interface_problems(artifact: str, kind: str, claimed: Sequence[TensorSpec], found: Sequence[Any]) -> list[str]:
    problems, shapes = [], dict(found)
    for spec in claimed:
        if spec.name not in shapes:
            problems.append(f"{artifact}: the {kind} {spec.name} of the manifest is not in the artifact")
        elif shapes[spec.name] != spec.shape:
            problems.append(
                f"{artifact}: the {kind} {spec.name} has shape {list(shapes[spec.name])}, "
                f"the manifest says {list(spec.shape)}"
            )
    unknown = shapes.keys() - {spec.name for spec in claimed}
    return problems + [f"{artifact}: the {kind} {name} is not in the manifest" for name in sorted(unknown)]


def _precision_problems(artifact: str, precision: str, contents: Contents) -> list[str]:
    # Shapes, indices and masks are integers and booleans in every precision; they are few and not judged as floats.
    total = sum(contents.weight_bytes.values())
    if not total:
        return [f"{artifact} holds no weights"]
    shares = {dtype: size / total for dtype, size in contents.weight_bytes.items()}
    if precision in ("fp32", "fp16"):
        claimed = {"fp32": "float32", "fp16": "float16"}[precision]
        foreign = [dtype for dtype, share in shares.items() if dtype != claimed and share > MAX_FOREIGN]
        return [_foreign(artifact, precision, contents, dtype, shares[dtype], claimed) for dtype in foreign]
    problems = []
    quantized = sum(share for dtype, share in shares.items() if _is_quantized(dtype, precision))
    if quantized < MIN_QUANTIZED:
        problems.append(
            f"{artifact} claims {precision}, but only {quantized:.1%} of its weight bytes are quantized "
            f"({_list(contents.weight_bytes)})"
        )
    if precision == "w8a8" and not _QUANTIZE_OPS & contents.op_types.keys():
        problems.append(f"{artifact} claims w8a8, but no operator in it quantizes an activation")
    return problems


def _foreign(artifact: str, precision: str, contents: Contents, dtype: str, share: float, claimed: str) -> str:
    largest = max((weight for weight in contents.weights if weight.dtype == dtype), key=lambda weight: weight.bytes)
    return (
        f"{artifact} claims {precision}, but {share:.1%} of its weight bytes are {dtype}, "
        f"not {claimed}; the largest such tensor is {largest.name} ({largest.bytes:,} bytes)"
    )


def _is_quantized(dtype: str, precision: str) -> bool:
    four_bits = dtype in ("int4", "uint4", "uint3", "uint2", "uint1", "int2")
    return four_bits or (precision != "w4" and dtype in ("int8", "uint8"))


def _list(weight_bytes: dict[str, int]) -> str:
    return ", ".join(f"{dtype} {size:,}" for dtype, size in weight_bytes.items())
