"""Sections from what other commands measured: a bundle's manifest, a benchmark."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgevl.bench.schema import BenchReport
from edgevl.report.figures import format_ms
from edgevl.report.sections import Accuracy, Artifact, KindAccuracy, Point, Verdict

if TYPE_CHECKING:
    from edgevl.verify import VerifyReport


def artifact_from_bundle(path: str | Path, verified: "VerifyReport | None" = None) -> Artifact:
    """The row of a bundle: from `verified` where given, else from what the manifest says was measured.

    Raises:
        InputError, VerificationFailed: as `edgevl.bundle.Bundle.open`.
    """
    from edgevl.bundle import Bundle

    bundle = Bundle.open(path)
    manifest = bundle.manifest
    parity = verified.parity if verified else manifest.parity
    accuracy = verified.accuracy if verified else manifest.accuracy
    audit = verified.audit if verified else manifest.audit
    return Artifact(
        name=Path(path).name,
        target=manifest.target,
        precision=manifest.precision,
        bytes=manifest.artifact_bytes,
        sha256=bundle.artifact_sha256,
        ok=verified.ok if verified else (audit.ok if audit else None),
        runtime=accuracy.runtime if accuracy else None,
        max_abs=parity.max_abs if parity else None,
        psnr_db=parity.psnr_db if parity else None,
        top1=parity.top1_agreement if parity else None,
        parity_samples=parity.samples if parity else None,
        accuracy=accuracy.artifact if accuracy else None,
        reference=accuracy.reference if accuracy else None,
        ci95=accuracy.ci95 if accuracy else None,
        samples=accuracy.samples if accuracy else None,
        data=accuracy.data if accuracy else None,
        problems=tuple(audit.problems) if audit else (),
        audit=audit if audit and audit.weight_bytes else None,
    )


def accuracy_from_bundle(
    path: str | Path, verified: "VerifyReport | None" = None, blind: dict[str, float] | None = None
) -> Accuracy | None:
    """Accuracy by kind of question; None if unmeasured. `blind`: kind or "overall" -> share of the blind baseline."""
    from edgevl.bundle import Bundle

    bundle = Bundle.open(path)
    measured = verified.accuracy if verified else bundle.manifest.accuracy
    if measured is None:
        return None
    blind = blind or {}
    kinds = [
        KindAccuracy(kind, entry.artifact, entry.samples, blind.get(kind)) for kind, entry in measured.per_kind.items()
    ]
    return Accuracy(measured.data, kinds, measured.artifact, blind.get("overall"), Path(path).name)


def derive_verdict(artifacts: Sequence[Artifact], accuracy: Accuracy | None, bench: BenchReport | None) -> Verdict:
    """The verdict that the measured sections support, and nothing more."""
    points = [*_artifact_points(artifacts), *_accuracy_points(accuracy), *_bench_points(bench)]
    parts = []
    if bench and bench.ratios:
        ratio = next((ratio for ratio in bench.ratios if ratio.scope == "pipeline"), bench.ratios[0])
        remark = "" if bench.valid else " (timing flagged, see below)"
        parts.append(f"{format_factor(ratio.ratio)} faster than {ratio.baseline}, picture and words to answer{remark}")
    failed = [artifact.name for artifact in artifacts if artifact.ok is False]
    if failed:
        parts.append(f"verification failed for {', '.join(failed)}")
    elif artifacts and all(artifact.ok for artifact in artifacts):
        which = "the exported artifact" if len(artifacts) == 1 else "every exported artifact"
        parts.append(f"{which} is verified")
    sentence = "; ".join(parts) or "Nothing was measured"
    return Verdict(sentence[0].upper() + sentence[1:] + ".", points)


def format_factor(ratio: float) -> str:
    """97.3 -> "97×", 9.73 -> "9.7×": the digits that an interval of some percent supports."""
    return f"{ratio:.0f}×" if ratio >= 20 else f"{ratio:.1f}×"


def _artifact_points(artifacts: Sequence[Artifact]) -> list[Point]:
    points = []
    for artifact in artifacts:
        if artifact.accuracy is None:
            points.append(Point(f"{artifact.name}: accuracy not measured", artifact.ok))
            continue
        text = f"{artifact.name}: {artifact.accuracy:.1%} on {artifact.samples:,} samples of {artifact.data}"
        if artifact.reference is not None:
            text += f", PyTorch {artifact.reference:.1%} on the same"
        points.append(Point(text, artifact.ok))
    return points


def _accuracy_points(accuracy: Accuracy | None) -> list[Point]:
    if accuracy is None or accuracy.overall is None or accuracy.blind is None:
        return []
    text = f"{accuracy.overall:.1%} against {accuracy.blind:.1%} for a model that sees no picture ({accuracy.data})"
    return [Point(text, accuracy.overall > accuracy.blind)]


def _bench_points(bench: BenchReport | None) -> list[Point]:
    if bench is None:
        return []
    points = []
    for ratio in bench.ratios:
        if ratio.scope == "pipeline":
            ours, theirs = bench.result(ratio.candidate, ratio.scope), bench.result(ratio.baseline, ratio.scope)
            low, high = (format_factor(value) for value in ratio.ci95)
            times = f"{format_ms(ours.p50_ms)} against {format_ms(theirs.p50_ms)} for {ratio.baseline}"
            points.append(Point(f"{times} (95%: {low} to {high})", ratio.ci95[0] > 1))
    if not bench.valid:
        points.append(Point("the timing is not valid under its preset: see the reasons below its table", False))
    return points
