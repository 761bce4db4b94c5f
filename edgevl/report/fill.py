"""Sections from what other commands measured: a bundle's manifest, a benchmark."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevl.bench.schema import BenchReport, read_report
from edgevl.bundle.manifest import metric_title
from edgevl.errors import InputError
from edgevl.report.sections import Accuracy, Artifact, KindAccuracy

if TYPE_CHECKING:
    from edgevl.bundle.folder import Bundle
    from edgevl.verify.run import VerifyReport


def sections_from(bundles: Sequence[str | Path], benches: Sequence[str | Path] = ()) -> dict[str, Any]:
    """The arguments of `render_report` for bundles and for JSON files of `edgevl bench --out` or of a board.

    Where bundles are given, every benchmark must be of one of them: a time beside another artifact's accuracy would be
    read as its own.

    Raises:
        InputError: a file is no benchmark, or one of another artifact.
        VerificationFailed: as `edgevl.bundle.folder.Bundle.open`.
    """
    from edgevl.bundle.folder import Bundle

    opened = [Bundle.open(path) for path in bundles]  # once: another reading may find another manifest
    artifacts = [artifact_from_bundle(bundle) for bundle in opened]
    accuracies = [accuracy_from_bundle(bundle) for bundle in opened]
    reports = [_bench_of(path, artifacts) for path in benches]
    return {"artifacts": artifacts, "accuracy": [one for one in accuracies if one], "bench": reports}


def _bench_of(path: str | Path, artifacts: Sequence[Artifact]) -> BenchReport:
    report = read_report(path)
    measured = {result.artifact_sha256 for result in report.results if result.name == report.candidate}
    if artifacts and not measured & {artifact.sha256 for artifact in artifacts}:
        of = ", ".join(sha[:12] if sha else "of which it does not say the sha256" for sha in measured)
        given = ", ".join(f"{artifact.name} {(artifact.sha256 or '')[:12]}" for artifact in artifacts)
        raise InputError(
            f'"{path}" is not of a bundle given ({given}): it measured {report.candidate}, {of}; '
            "give that bundle or none"
        )
    return report


def artifact_from_bundle(source: "str | Path | Bundle", verified: "VerifyReport | None" = None) -> Artifact:
    """The row of a bundle or of the one at a path, from `verified` where given, else from what the manifest says.

    Raises:
        InputError, VerificationFailed: as `edgevl.Bundle.open`, or the files are not those of the manifest.
    """
    bundle = _opened(source)
    if verified is None:
        bundle.require_intact()
    manifest = bundle.manifest
    parity = verified.parity if verified else manifest.parity
    accuracy = verified.accuracy if verified else manifest.accuracy
    audit = verified.audit if verified else manifest.audit
    return Artifact(
        name=bundle.path.name,
        target=manifest.target,
        precision=manifest.precision,
        bytes=manifest.artifact_bytes,
        sha256=bundle.artifact_sha256,
        ok=verified.ok if verified else (audit.ok if audit else None),
        runtime=accuracy.runtime if accuracy else None,
        max_abs=parity.max_abs if parity else None,
        psnr_db=parity.psnr_db if parity else None,
        snr_db=parity.snr_db if parity else None,
        top1=parity.top1_agreement if parity else None,
        parity_samples=parity.samples if parity else None,
        metric=accuracy.metric if accuracy else "accuracy",
        accuracy=accuracy.artifact if accuracy else None,
        reference=accuracy.reference if accuracy else None,
        ci95=accuracy.ci95 if accuracy else None,
        samples=accuracy.samples if accuracy else None,
        data=accuracy.data if accuracy else None,
        problems=tuple(audit.problems) if audit else (),
        audit=audit if audit and audit.weight_bytes else None,
    )


def accuracy_from_bundle(
    source: "str | Path | Bundle", verified: "VerifyReport | None" = None, blind: dict[str, float] | None = None
) -> Accuracy | None:
    """Accuracy by kind of question, or by metric where there are several and one kind; None if there is one of each.

    `blind`: kind or "overall" -> share of the blind baseline.
    """
    bundle = _opened(source)
    measured = verified.accuracy if verified else bundle.manifest.accuracy
    if measured is None:
        return None
    name, sha256 = bundle.path.name, bundle.artifact_sha256
    if not measured.per_kind.keys() - {"all"}:
        metrics = [KindAccuracy(metric_title(one.name), one.artifact, one.samples) for one in measured.metrics]
        if len(metrics) < 2:
            return None
        return Accuracy(measured.data, metrics, source=name, sha256=sha256, by="metric")
    blind = blind or {}
    kinds = [
        KindAccuracy(kind, entry.artifact, entry.samples, blind.get(kind)) for kind, entry in measured.per_kind.items()
    ]
    overall = (measured.artifact, blind.get("overall"))
    return Accuracy(measured.data, kinds, *overall, source=name, sha256=sha256)


def _opened(source: "str | Path | Bundle") -> "Bundle":
    from edgevl.bundle.folder import Bundle

    return source if isinstance(source, Bundle) else Bundle.open(source)
