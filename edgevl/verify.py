"""`edgevl verify`: run the artifact itself and prove what its bundle claims. The thresholds are in docs/verify.md.

Digests, audit, golden cases, then parity and accuracy on real samples, from cheap to dear. A bundle whose files are
not those of its manifest is not run.
"""

import contextlib
import dataclasses
import math
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from edgevl.audit import audit_contents, claim_problems, read_contents
from edgevl.bundle import Bundle
from edgevl.data import open_dataset
from edgevl.errors import EdgeVLError, InputError, MissingDependency, VerificationFailed, first_line
from edgevl.evaluate import Evaluation, draw_samples, evaluate_session, reference_evaluation
from edgevl.golden import replay
from edgevl.interface import manifest_problems
from edgevl.manifest import MANIFEST, Accuracy, Audit, KindAccuracy, Manifest, Parity
from edgevl.parity import Reference, find_reference, measure_parity, source_problems
from edgevl.runtime.session import CannotRunHere

Progress = Callable[[int, int, str], None]


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """What an artifact of one precision must reach against the float PyTorch program.

    Counts of answers are judged as what they are, draws: see `different` and `drift`.
    """

    psnr_db: float
    top1_agreement: float  # expected share of equal best answers
    accuracy: float  # largest difference, as a share

    def different(self, samples: int) -> float:
        """How many best answers may differ: the expected number and two standard deviations, at least one."""
        expected = (1 - self.top1_agreement) * samples
        return max(1.0, expected + 2 * math.sqrt(expected))

    def drift(self, samples: int) -> float:
        """By how much the accuracy may differ: with fewer than `FULL` samples, by as many answers as with that many."""
        return max(self.accuracy, self.accuracy * FULL / samples, 1 / samples)


FULL = 1000  # samples that the thresholds of accuracy are meant for
THRESHOLDS = {
    "fp32": Thresholds(psnr_db=60, top1_agreement=0.9995, accuracy=0.001),
    "fp16": Thresholds(psnr_db=40, top1_agreement=0.995, accuracy=0.002),
    "w8": Thresholds(psnr_db=30, top1_agreement=0.98, accuracy=0.003),
    "w8a8": Thresholds(psnr_db=30, top1_agreement=0.97, accuracy=0.005),
    "w4": Thresholds(psnr_db=23, top1_agreement=0.93, accuracy=0.01),
}


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
    samples: int = 1000,
    data: str = "scenes:test",
    progress: Progress | None = None,
    write: bool = True,
    checkpoint: str | Path | None = None,
) -> VerifyReport:
    """Verify a bundle and, if it passes, write the measured sections into its manifest and card.

    Args:
        path: the bundle.
        samples: how many samples to run, 1 or more.
        data: a data specification such as "scenes:test".
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
    if samples < 1:
        raise InputError(f"at least 1 sample is needed, got {samples}")
    open_dataset(data)  # a misspelled name fails before any work
    bundle = Bundle.open(path)
    reference = find_reference(bundle, checkpoint)
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
        self.problems += _shape_problems(self.manifest)

    def run(self, samples: int, data: str, reference: Reference, progress: Progress | None) -> None:
        """Golden cases first: if they fail, a thousand samples would only say it again.

        Where this machine cannot run the target, what needs no runtime is still looked at: the manifest's own
        conventions, labels and tokenizer, and the pixels, token ids and answers of the golden cases.
        """
        session = None
        with self._guarded():
            self.problems += manifest_problems(self.manifest)
            if self.problems:
                return
            self.bundle.domain()
            session = self._open()
            replayed = replay(self.bundle, session)
            self.problems += replayed.problems
            self.problems += source_problems(self.bundle, reference)
            if session is None:
                return
            self.runtime = runtime_name(self.manifest.target, session)
            self.golden = GoldenReport(passed=replayed.passed, total=replayed.total)
            if self.manifest.target == "tensorrt" and not self.problems:
                self.build(progress)
        if session is not None and not self.problems:
            self.measure(session, samples, data, reference, progress)

    def build(self, progress: Progress | None) -> None:
        """Is it a file that TensorRT accepts? Its parser and builder say so without a GPU."""
        from edgevl.runtime.tensorrt_build import build_section

        if progress:
            progress(0, 1, "parsing and building with TensorRT")
        section, problems, notes = build_section(self.bundle)
        self.tensorrt = section.model_dump(mode="json") if section else None
        self.problems += problems
        self.notes += notes

    def _open(self) -> Any:
        """The session, or None with a note where no installation would make this machine run the target."""
        try:
            return self.bundle.session()
        except CannotRunHere as error:
            self.notes.append(f"parity: null, because {error}")
            return None

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

    def measure(self, session: Any, samples: int, data: str, reference: Reference, progress: Progress | None) -> None:
        labels, tokenizer, manifest = self.bundle.labels(), self.bundle.tokenizer(), self.manifest
        if progress:
            progress(0, samples, "drawing samples")
        drawn = draw_samples(data, samples, manifest.preprocessing.size)
        with self._guarded():
            own = evaluate_session(session, drawn, tokenizer, manifest.tokenizer.length, labels, progress)
            if not np.isfinite(own.logits_NA).all():
                self.problems.append(f"{manifest.artifact} gives logits that are not finite (overflow?)")
        if self.problems:
            return
        theirs = None
        if reference.found:
            if progress:
                progress(0, 0, "running the PyTorch reference")
            theirs = reference_evaluation(reference.path, str(manifest.provenance.checkpoint_sha256), data, samples)
            self.compare(own, theirs, data)
        else:
            self.notes.append(f"parity: {reference.reason}; the golden logits are the only reference")
        self.judge(own, theirs, data)

    def compare(self, own: Evaluation, theirs: Evaluation, data: str) -> None:
        if own.logits_NA.shape != theirs.logits_NA.shape:
            self.problems.append(
                f"{self.manifest.artifact} gives {own.logits_NA.shape[1]} logits, the checkpoint others"
            )
            return
        parity = measure_parity(own.logits_NA, theirs.logits_NA, data, self.runtime)
        self.parity, limits = parity.model_copy(update={"tensorrt": self.tensorrt}), THRESHOLDS[self.manifest.precision]
        if parity.psnr_db < limits.psnr_db:
            self._fail("parity: the PSNR of the logits is", f"{parity.psnr_db:.1f} dB", f"{limits.psnr_db:g} dB")
        different = round((1 - parity.top1_agreement) * parity.samples)
        if different > limits.different(parity.samples):
            wanted = 1 - limits.different(parity.samples) / parity.samples
            self._fail("parity: the same answer for", f"{parity.top1_agreement:.2%}", f"{wanted:.2%}")

    def judge(self, own: Evaluation, theirs: Evaluation | None, data: str) -> None:
        count = len(own.correct_N)
        if own.unknown == count:
            self.notes.append(f"accuracy: none of the answers in {data} is among the labels of this model")
            return
        kinds = {
            kind: KindAccuracy(artifact=share, reference=theirs.per_kind[kind][0] if theirs else None, samples=number)
            for kind, (share, number) in own.per_kind.items()
        }
        self.accuracy = Accuracy(
            artifact=own.accuracy,
            reference=theirs.accuracy if theirs else None,
            samples=count,
            data=data,
            ci95=own.ci95,
            per_kind=kinds,
            runtime=self.runtime,
        )
        limit = THRESHOLDS[self.manifest.precision].drift(count)
        if theirs and abs(own.accuracy - theirs.accuracy) > limit + 1e-9:
            self.problems.append(
                f"accuracy: {own.accuracy:.2%} on {count} samples of {data}, PyTorch has {theirs.accuracy:.2%}; "
                f"they may differ by {limit:.2%}"
            )

    def _fail(self, what: str, value: str, wanted: str) -> None:
        self.problems.append(f"{what} {value}, at least {wanted} is needed for {self.manifest.precision}")

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


def _shape_problems(manifest: Manifest) -> list[str]:
    """The numbers of the manifest must agree with each other."""
    model = manifest.model
    pairs = [
        ("preprocessing.size", manifest.preprocessing.size, "model.image_size", model.image_size),
        ("tokenizer.length", manifest.tokenizer.length, "model.text_length", model.text_length),
        ("labels.count", manifest.labels.count, "model.num_answers", model.num_answers),
    ]
    problems = [f"{MANIFEST}: {a} is {x}, but {b} is {y}" for a, x, b, y in pairs if x != y]
    if manifest.tokenizer.vocab_size > model.vocab_size:
        problems.append(f"{MANIFEST}: tokenizer.vocab_size is more than model.vocab_size, the rows of its table")
    return problems


def runtime_name(target: str, session: Any = None) -> str:
    """What ran the artifact, in words, for the report."""
    return f"{session.runtime if session is not None else target}, {platform.system()}"


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
