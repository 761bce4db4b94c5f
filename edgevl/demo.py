"""The main job on the embedded model, from pictures to a report: what `edgevl demo` runs. Steps are library calls."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevl.errors import InputError
from edgevl.plain import command_line
from edgevl.progress import Progress

if TYPE_CHECKING:
    from edgevl.bench.schema import BenchReport
    from edgevl.contracts import Sample
    from edgevl.opened import Opened
    from edgevl.report import Example
    from edgevl.verify.run import VerifyReport

Say = Callable[[str], None]

DATA = "scenes:test"
TARGETS = ("onnx", "coreml")
QUICK_SAMPLES = 100
PICTURES = 12
BLIND_SCENES = 5000  # training scenes that the blind baseline learns from


@dataclasses.dataclass(frozen=True)
class DemoResult:
    report: Path
    bundles: list[Path]
    verified: list["VerifyReport"]
    bench: "BenchReport"
    examples: list["Example"]
    seconds: float

    @property
    def ok(self) -> bool:
        return all(report.ok for report in self.verified)


def run_demo(
    out: str | Path = "edgevl-demo",
    samples: int = 1000,
    quick: bool = False,
    progress: Progress | None = None,
    say: Say | None = None,
) -> DemoResult:
    """Answer questions, export, verify each artifact, time it against a detector pipeline, and write one report.

    Args:
        out: folder for the bundles, the measurements and `report.html`; bundles of an earlier demo are replaced.
        samples: scenes that each artifact is verified on, 1 or more.
        quick: verify on 100 at most: a look, not a result.
        progress: called as progress(done, total, text) within a step.
        say: called with one line after each step.

    Raises:
        InputError: the folder cannot be written. A failed verification does not raise: see `DemoResult.ok`.
    """
    from edgevl.bench import run_bench
    from edgevl.bundle_export import export_bundle
    from edgevl.verify.run import verify_bundle

    folder, samples = _folder(Path(out)), min(samples, QUICK_SAMPLES) if quick else samples
    steps = Steps(2 * len(TARGETS) + 4, progress, say)
    with steps("answering questions") as step:
        examples = answer_pictures(samples)
        step.line = f"answered {len(examples)} questions on pictures, {sum(bool(e.right) for e in examples)} right"
    bundles, verified = [], []
    for target in TARGETS:
        with steps(f"exporting to {target}") as step:
            bundle = folder / f"nano-{target}.edgevl"
            bundles.append(export_bundle(None, target, out=bundle, force=True, progress=step.progress))
            step.line = f"exported {bundle}"
    for bundle in bundles:
        with steps(f"verifying {bundle.name}") as step:
            verified.append(verify_bundle(bundle, samples, DATA, step.progress))
            step.line = _verdict(verified[-1])
    with steps("answering without the pictures") as step:
        blind = blind_answers(samples)
        step.line = f"blind, from the words alone: {100 * blind['overall']:.1f} % right"
    with steps("timing against a detector pipeline") as step:
        bench = run_bench(bundles[0], preset="rapid", progress=step.progress, frame=None)
        step.line = _race(bench)
    with steps("writing the report") as step:
        page = _write(folder, examples, bundles, verified, blind, bench)
        step.line = f"wrote {page}"
    return DemoResult(page, bundles, verified, bench, examples, steps.seconds)


def answer_pictures(samples: int, pictures: int = PICTURES) -> list["Example"]:
    """Ask the embedded model about test pictures: a question of each kind first, then whatever comes."""
    from edgevl.apps.jetson.bundle_files import sha256_file
    from edgevl.models.checkpoint import EMBEDDED
    from edgevl.predict import Answerer
    from edgevl.report import Example

    answerer, sha256 = Answerer.load(None), sha256_file(EMBEDDED / "model.safetensors")
    drawn = _drawn(answerer.model, samples)
    first = {sample.kind: index for index, sample in reversed(list(enumerate(drawn)))}
    chosen = dict.fromkeys([*sorted(first.values()), *range(len(drawn))])
    examples = []
    for index in list(chosen)[:pictures]:
        sample = drawn[index]
        (image,), (question,) = sample.query.pictures, sample.query.texts
        scores = answerer.answer(image, question).scores
        examples.append(Example(image, question, scores, sample.target[0], "the embedded model in PyTorch", sha256))
    return examples


def _drawn(model: "Opened", samples: int) -> tuple["Sample", ...]:
    """The samples that the artifacts are verified on, too: drawn once."""
    from edgevl.verify.measure import draw, side_of

    return draw(DATA, model.task_name, samples, side_of(model))


def blind_answers(samples: int) -> dict[str, float]:
    """Share of right answers from the words alone, on the samples that the artifacts are verified on.

    Returns: kind of question -> share, and "overall".
    """
    from edgevl.data.scenes.blind import BlindBaseline, blind_accuracy, questions_of
    from edgevl.data.scenes.questions import Question
    from edgevl.models.kinds import open_deployable
    from edgevl.opened import eager

    drawn = _drawn(eager(open_deployable(None)), samples)
    asked = [Question(sample.kind, sample.query.texts[0], sample.target[0]) for sample in drawn]
    shares = blind_accuracy(BlindBaseline(questions_of("train", BLIND_SCENES)), asked)
    return {"overall" if kind == "all" else kind: share for kind, share in shares.items()}


class Steps:
    """Counts the steps, times them, and says one line after each."""

    def __init__(self, total: int, progress: Progress | None, say: Say | None):
        self._total, self._done = total, 0
        self._progress, self._say = progress, say
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def __call__(self, text: str) -> "Step":
        self._done += 1
        return Step(f"[{self._done}/{self._total}]", text, self._progress, self._say)


class Step:
    """One step: `progress` is passed on to the library, `line` is said when it ends without an error."""

    def __init__(self, number: str, text: str, progress: Progress | None, say: Say | None):
        self._number, self._text = number, text
        self._progress, self._say = progress, say
        self.line = ""

    def __enter__(self) -> "Step":
        self._started = time.monotonic()
        self.progress(0, 0, "")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._say:
            self._say(f"{self._number} {self.line} ({time.monotonic() - self._started:.1f} s)")

    def progress(self, done: int, total: int, text: str) -> None:
        if self._progress:
            self._progress(done, total, f"{self._number} {self._text}{': ' if text else ''}{text}")


def _folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'"{folder}" cannot be used ({error.strerror}): choose another folder with --out') from None
    return folder


def _save(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _verdict(report: "VerifyReport") -> str:
    if not report.ok:
        return f"{report.target}: NOT verified: {'; '.join(report.audit.problems)}"
    line = f"{report.target}: verified"
    if report.accuracy:
        line += f" on {report.accuracy.samples} samples, {100 * report.accuracy.artifact:.1f} % right"
        if report.accuracy.reference is not None:
            line += f" (PyTorch {100 * report.accuracy.reference:.1f} %)"
    return line + (f", same answer {100 * report.parity.top1_agreement:.1f} %" if report.parity else "")


def _race(bench: "BenchReport") -> str:
    """A number that is not valid is not said here: the report has it, with its reasons."""
    from edgevl.bench.titles import title_of

    if not bench.valid:
        reasons = dict.fromkeys(flag.text for result in bench.results for flag in result.flags if flag.invalidates)
        return f"timed, but not valid on this machine now: {'; '.join(reasons) or 'see the report'}"
    ratios = [ratio for ratio in bench.ratios if ratio.scope == "pipeline"]
    return ", ".join(f"{ratio.ratio:.0f}x faster than {title_of(ratio.baseline)} (untrained)" for ratio in ratios)


def _write(
    folder: Path,
    examples: list["Example"],
    bundles: list[Path],
    verified: list["VerifyReport"],
    blind: dict[str, float],
    bench: "BenchReport",
) -> Path:
    from edgevl.report import accuracy_from_bundle, artifact_from_bundle, write_report

    for report in verified:
        _save(folder / f"verify-{report.target}.json", report.model_dump(mode="json"))
    _save(folder / "bench.json", bench.to_json())
    return write_report(
        folder / "report.html",
        title="EdgeVL demo: the embedded model, exported, verified, timed",
        examples=examples,
        artifacts=[artifact_from_bundle(bundle, report) for bundle, report in zip(bundles, verified)],
        accuracy=accuracy_from_bundle(bundles[0], verified[0], blind),
        bench=bench,
        notes=[f"Blind: the most frequent answer to the same words in {BLIND_SCENES:,} training scenes."],
        commands=[command_line(words) for words in next_commands(bundles)],
    )


def next_commands(bundles: list[Path]) -> list[list[Any]]:
    """What to run after the demo, as words."""
    return [
        ["edgevl", "predict", bundles[0], "sample", "what color is the car?"],
        ["edgevl", "verify", bundles[0], "--data", "scenes:test_style"],
        ["edgevl", "bench", bundles[0], "--preset", "quick"],
        ["edgevl", "pretrain", "--help"],
    ]
