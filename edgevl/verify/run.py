"""`edgevl verify`: run the artifact itself and prove what its bundle claims. The thresholds are in docs/verify.md.

Digests, audit, golden cases, then parity and accuracy on real samples, from cheap to dear. A bundle whose files are
not those of its manifest is not run.
"""

import contextlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgevl.bundle.folder import Bundle
from edgevl.bundle.golden import replay
from edgevl.bundle.manifest import Accuracy, Audit, KindAccuracy, Manifest, MetricValue, Parity
from edgevl.contracts import Metric, Sample
from edgevl.data import open_dataset
from edgevl.data.own import USUAL, judged_on
from edgevl.errors import EdgeVLError, InputError, MissingDependency, VerificationFailed, first_line
from edgevl.opened import Opened
from edgevl.precisions import PRECISIONS
from edgevl.progress import Progress
from edgevl.runtime.session import CannotRunHere
from edgevl.targets import TARGETS
from edgevl.verify.audit import audit_contents, claim_problems, read_contents
from edgevl.verify.measure import Measured, ask, compare, draw, measure, per_kind, side_of, unknown_targets
from edgevl.verify.reference import Reference, find_reference, measured_reference, source_problems

SAMPLES = 1000  # that are run where nobody says how many
ALIKE_DB = 30.0  # PSNR above signal to noise; of trained models 13 to 17, of random weights 40 and more


class GoldenReport(BaseModel):
    passed: int
    total: int


class VerifyReport(BaseModel):
    """What `edgevl verify --json` prints. A section that was not measured is null, and `notes` says why."""

    ok: bool
    bundle: str
    target: str
    precision: str
    runtime: str
    parity: Parity | None
    accuracy: Accuracy | None
    audit: Audit
    golden: GoldenReport | None
    notes: list[str]


def verify_bundle(
    path: str | Path,
    samples: int | None = None,
    data: str | None = None,
    progress: Progress | None = None,
    write: bool = True,
    checkpoint: str | Path | None = None,
) -> VerifyReport:
    """Verify a bundle and, if it passes, write the measured sections into its manifest and card.

    Args:
        path: the bundle.
        samples: how many samples to run, 1 or more; None is 1 000, or all where the data has fewer.
        data: a data specification such as "scenes:test"; None is what `edgevl.data.own.judged_on` says of the
            checkpoint, and Scenes where there is none.
        progress: called as progress(done, total, text).
        write: False leaves the bundle untouched.
        checkpoint: the model folder that the bundle was made from; needed for parity unless it is the embedded one or
            lies beside the bundle or in the current folder. Its weights must have the recorded digest.

    Returns:
        The report. `ok` is False if anything failed; `audit.problems` has a sentence for each failure.

    Raises:
        InputError: there is no bundle, no such data, or `checkpoint` holds other weights.
        VerificationFailed: the manifest is missing, truncated or invalid, so there is nothing to verify against.
        MissingDependency: the target's runtime is not installed.
    """
    if samples is not None and samples < 1:
        raise InputError(f"at least 1 sample is needed, got {samples}")
    if data is not None:
        open_dataset(data)  # a misspelled name fails before any work
    bundle = Bundle.open(path)
    reference = find_reference(bundle, checkpoint)
    # Of the checkpoint, never of the manifest: a bundle cannot make us read elsewhere.
    data = data or (judged_on(reference.path) if reference.found else USUAL)
    check = _Check(bundle.copied())
    check.files()
    check.audit()
    if not check.problems:
        check.run(samples, data, reference, progress)
    report = check.report()
    if report.ok and write:
        report = _write(bundle, report)
    return report


class _Check:
    """Collects the results of one verification."""

    def __init__(self, bundle: Bundle):
        """bundle: a private copy of the one to verify, so that what was compared is what is read and run."""
        self.bundle = bundle
        self.manifest: Manifest = bundle.manifest
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.inside = Audit(ok=False, weight_bytes={})
        self.golden: GoldenReport | None = None
        self.parity: Parity | None = None
        self.accuracy: Accuracy | None = None
        self.tensorrt: dict[str, Any] | None = None
        self.runtime = runtime_name(self.manifest.target)

    def files(self) -> None:
        self.problems += [str(problem) for problem in self.bundle.problems]

    def audit(self) -> None:
        try:
            contents = read_contents(self.bundle)
        except VerificationFailed as error:
            self.problems.append(str(error))
            return
        self.inside = audit_contents(self.manifest.target, contents)
        self.problems += claim_problems(self.manifest, contents)

    def run(self, samples: int | None, data: str, reference: Reference, progress: Progress | None) -> None:
        """Golden cases first: if they fail, a thousand samples would only say it again.

        Where this machine cannot run the target, what needs no runtime is still looked at: labels and tokenizers, and
        the pixels, token ids and results of the golden cases.
        """
        model = None
        with self._guarded():
            model = self._open()
            replayed = replay(self.bundle, model)
            self.problems += replayed.problems
            self.problems += source_problems(self.bundle, reference)
            if model.runner is None:
                return
            self.runtime = runtime_name(model.runtime)
            self.golden = GoldenReport(passed=replayed.passed, total=replayed.total)
            if (built := TARGETS[self.manifest.target].load("built")) and not self.problems:
                self.build(built, progress)
        if model is not None and model.runner and not self.problems:
            self.measure(model, samples, data, reference, progress)

    def build(self, built: Callable[[Bundle], Any], progress: Progress | None) -> None:
        """Ask the target's own builder whether it accepts the files: TensorRT's parser says so without a GPU."""
        if progress:
            progress(0, 1, f"building for {self.manifest.target}")
        section, problems, notes = built(self.bundle)
        self.tensorrt = section.model_dump(mode="json") if section else None
        self.problems += problems
        self.notes += notes

    def _open(self) -> Opened:
        """The model; without a runner, and with a note, where no installation would make it run here."""
        try:
            return self.bundle.opened()
        except CannotRunHere as error:
            self.notes.append(f"parity: null, because {error}")
            return self.bundle.opened(run=False)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Whatever the artifact does when it is loaded or run is a finding about it, not a crash of verify."""
        try:
            yield
        except MissingDependency:
            raise
        except EdgeVLError as error:
            self.problems.append(self.bundle.public(str(error)))
        except Exception as error:  # each runtime fails in its own ways
            reason = self.bundle.public(first_line(error))
            self.problems.append(f"{self.manifest.artifact} fails when it runs: {reason}")

    def measure(
        self, model: Opened, samples: int | None, data: str, reference: Reference, progress: Progress | None
    ) -> None:
        count = samples or SAMPLES
        if progress:
            progress(0, count, "drawing samples")
        drawn = draw(data, model.task_name, count, side_of(model), least=None if samples else 1)
        own = theirs = None
        with self._guarded():
            own = measure(model, drawn, progress)
        if own is None:
            return
        if reference.found:
            if progress:
                progress(0, 0, "running the PyTorch reference")
            sha256, images = str(self.manifest.provenance.checkpoint_sha256), self.manifest.image_processing
            scaled = tuple(name for name, spec in images.items() if spec.decode == "scaled")
            theirs = measured_reference(reference.path, sha256, data, len(drawn), scaled)
            with self._guarded():
                self.compare(model, own, theirs, drawn, data, progress)
        else:
            self.notes.append(f"parity: {reference.reason}; the golden values are the only reference")
        self.judge(own, theirs, data, unknown_targets(model, drawn))

    def compare(
        self,
        model: Opened,
        own: Measured,
        theirs: Measured,
        drawn: Sequence[Sample],
        data: str,
        progress: Progress | None,
    ) -> None:
        answers = own.answers
        if model.decoder.sequential:  # values are compared along the reference's own decisions
            answers = ask(model, drawn, theirs.answers, progress)
        parity = compare(model, answers, theirs.answers, data, self.runtime)
        self.parity = parity.model_copy(update={"tensorrt": self.tensorrt})
        precisions = {spec.name: program.precision for program in self.manifest.programs for spec in program.outputs}
        for name, found in parity.outputs.items():
            least = PRECISIONS[precisions[name]].thresholds.snr_db
            if found.snr_db is not None and found.snr_db < least:
                what = f"parity: the signal-to-noise ratio of {name} is"
                self._fail(what, f"{found.snr_db:.1f} dB", f"{least:g} dB", precisions[name])
                if found.psnr_db - found.snr_db > ALIKE_DB:
                    self.notes.append(
                        f"parity: the model gives nearly the same {name} to every sample, as one does that was not "
                        "trained: rounding then moves it by more than samples do"
                    )
        limits = PRECISIONS[self.manifest.precision].thresholds
        different = round((1 - parity.top1_agreement) * parity.samples)
        if different > limits.different(parity.samples):
            wanted = 1 - limits.different(parity.samples) / parity.samples
            self._fail("parity: the same answer for", f"{parity.top1_agreement:.2%}", f"{wanted:.2%}")

    def judge(self, own: Measured, theirs: Measured | None, data: str, unknown: int) -> None:
        first, count = own.metrics[0], own.metrics[0].samples
        if unknown == count:
            self.notes.append(f"accuracy: none of the answers in {data} is among the labels of this model")
            return
        expected = {metric.name: metric for metric in theirs.metrics} if theirs else {}
        reference = expected[first.name].value if theirs else None
        kinds = {
            kind: KindAccuracy(
                artifact=share, reference=per_kind(theirs.metrics)[kind][0] if theirs else None, samples=number
            )
            for kind, (share, number) in first.per_kind.items()
        }
        self.accuracy = Accuracy(
            metric=first.name,
            metrics=tuple(_metric_value(metric, expected) for metric in own.metrics),
            artifact=first.value,
            reference=reference,
            samples=count,
            data=data,
            ci95=first.ci95,
            per_kind=kinds,
            runtime=self.runtime,
        )
        limit = PRECISIONS[self.manifest.precision].thresholds.drift(count)
        if reference is not None and abs(first.value - reference) > limit + 1e-9:
            self.problems.append(
                f"{first.name}: {first.value:.2%} on {count} samples of {data}, PyTorch has {reference:.2%}; "
                f"they may differ by {limit:.2%}"
            )

    def _fail(self, what: str, value: str, wanted: str, precision: str = "") -> None:
        self.problems.append(f"{what} {value}, at least {wanted} is needed for {precision or self.manifest.precision}")

    def report(self) -> VerifyReport:
        manifest, problems = self.manifest, tuple(" ".join(problem.split())[:2000] for problem in self.problems)
        ok = not problems
        audit = self.inside.model_copy(update={"ok": ok, "problems": problems})
        return VerifyReport(
            ok=ok,
            bundle=str(self.bundle.source),
            target=manifest.target,
            precision=manifest.precision,
            runtime=self.runtime,
            parity=self.parity,
            accuracy=self.accuracy,
            audit=audit,
            golden=self.golden,
            notes=self.notes,
        )


def _metric_value(metric: Metric, expected: Mapping[str, Metric]) -> MetricValue:
    theirs = expected.get(metric.name)
    return MetricValue(
        name=metric.name,
        artifact=metric.value,
        reference=theirs.value if theirs else None,
        ci95=metric.ci95,
        samples=metric.samples,
    )


def runtime_name(runtime: str) -> str:
    """What ran the artifact, in words, for the report."""
    return f"{runtime}, {platform.system()}"


def _write(bundle: Bundle, report: VerifyReport) -> VerifyReport:
    """Put the measurements into the bundle; one that cannot be written to stays as it is, and the report says so.

    What an earlier verify measured of these files, on a machine that could or beside the checkpoint, is not replaced by
    less.
    """
    old, found = bundle.manifest, {"audit": report.audit, "parity": report.parity, "accuracy": report.accuracy}
    if report.parity is None and old.parity:
        found = {"audit": report.audit}
        note = f"the parity and accuracy of an earlier verify stay in the bundle ({old.parity.runtime})"
        report = report.model_copy(update={"notes": [*report.notes, note]})
    elif report.accuracy is None and old.accuracy:
        del found["accuracy"]
    try:
        bundle.record(**found)
    except (EdgeVLError, OSError) as error:
        note = f"the measurements could not be written into the bundle: {first_line(error)}"
        return report.model_copy(update={"notes": [*report.notes, note]})
    return report
