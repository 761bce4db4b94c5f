"""Our model against its opponents: one run, one runtime, the same pixels and words to an answer."""

import dataclasses
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgevl.bench.harness import Progress, Subject, Trace, interleave
from edgevl.bench.machine import Neighbors, describe_machine, load_average, pinned_threads, usable_cores
from edgevl.bench.opponents import CANDIDATE, OPPONENTS
from edgevl.bench.picture import encode, make_photo
from edgevl.bench.pipelines import Arrays, Pipeline, Query, subjects_of
from edgevl.bench.presets import NOISE_CV, NOISE_LOAD, NOISE_OTHERS, PRESETS, Preset, minimum_flags
from edgevl.bench.probe import ColdStart, cold_start, open_and_ask
from edgevl.bench.schema import BenchReport, BenchResult, Flag, Ratio
from edgevl.bench.stats import bootstrap_interval, pair_ratios, percentile, variation
from edgevl.bundle import Bundle, combined_sha256, sha256_file
from edgevl.errors import InputError

if TYPE_CHECKING:
    from edgevl.runtime.session import Session

QUESTION = "what color is the car?"
_NOT_TIMED = {
    "coreml": "Core ML runs on a Mac; here only the reference executor runs it",
    "tensorrt": "TensorRT runs on its GPU; here a stand-in runs its file",
    "coreai": "Core AI is for Apple's hardware; here its runtime uses the CPU",
}


@dataclasses.dataclass
class _Entry:
    """A pipeline that takes part, and what is known of it before it is timed."""

    pipeline: Pipeline
    cold: ColdStart
    sha256: str | None


def compare_with_region(
    bundle_or_model: str | Path | None = None,
    against: Sequence[str] = ("region-r50",),
    preset: str = "rapid",
    threads: int | None = None,
    progress: Progress | None = None,
) -> BenchReport:
    """Time our model and detector pipelines, interleaved, from encoded picture and text to the answer.

    Args:
        bundle_or_model: a bundle, a model folder, or None for the embedded model; the last two are exported
            to ONNX first.
        against: names of opponents (`edgevl.bench.OPPONENTS`).
        preset: `rapid` (about a minute), `quick`, or `normal` (close to an hour against a detector).
        threads: for every runtime, at least 1 and at most the cores that this process may use. None is 2, or 1 where
            there is one core.
        progress: called with (done, total, text).
    Raises:
        InputError: an unknown name, an impossible number of threads, or a bundle whose times would mean nothing here.
        MissingDependency: a runtime or torchvision is not installed.
    """
    began = time.perf_counter()
    plan, opponents = PRESETS[preset], {name: OPPONENTS[name] for name in against}
    threads = _check_threads(threads)
    steps = _Steps(progress, setup=2 + 2 * len(opponents), rounds=plan.rounds)
    query = Query(encode(make_photo()), QUESTION)
    with tempfile.TemporaryDirectory(prefix="edgevl-bench-") as scratch, pinned_threads(threads):
        bundle = _as_bundle(bundle_or_model, Path(scratch), steps)
        folders = {CANDIDATE: bundle.path}
        for name in opponents:
            folders[name] = _build(name, bundle, Path(scratch), query, threads, steps)
        entries = [_enter(kind, folder, plan, query, threads, Path(scratch), steps) for kind, folder in folders.items()]
        report = _measure(entries, plan, query, threads, steps)
    report.seconds = round(time.perf_counter() - began, 1)
    return report


class _Steps:
    """Progress over a fixed number of preparations, then the rounds."""

    def __init__(self, progress: Progress | None, setup: int, rounds: int):
        self.progress, self.done, self.setup, self.rounds = progress, 0, setup, rounds

    def __call__(self, text: str) -> None:
        if self.progress:
            self.progress(self.done, self.setup + self.rounds, text)
        self.done += 1

    def round(self, done: int, total: int, text: str) -> None:
        if self.progress:
            self.progress(self.setup + done, self.setup + total, text)


def _check_threads(threads: int | None) -> int:
    cores = usable_cores()
    threads = min(2, cores) if threads is None else threads
    if not 1 <= threads <= cores:
        raise InputError(f"threads is {threads}; this process may use 1 to {cores}: pass --threads {cores} or fewer")
    return threads


def _as_bundle(source: str | Path | None, scratch: Path, steps: _Steps) -> Bundle:
    """The bundle to measure; a model folder is exported to ONNX in `scratch`."""
    if source is not None and (Path(source) / "manifest.json").exists():
        bundle = Bundle.open(source)
        _check_target(bundle)
        steps("opening the bundle")
        return bundle
    from edgevl.export.bundle_export import export_bundle

    steps("exporting the model to ONNX")
    return Bundle.open(export_bundle(source, "onnx", out=scratch / "model.edgevl"))


def why_not_timed(target: str) -> str:
    """Why the times of a target would mean nothing on this machine; "" if they mean something."""
    return "" if target == "coreml" and sys.platform == "darwin" else _NOT_TIMED.get(target, "")


def _check_target(bundle: Bundle) -> None:
    manifest = bundle.manifest
    if reason := why_not_timed(manifest.target):
        raise InputError(
            f'"{bundle.path}": {reason}, so its times would mean nothing. '
            "Give an ONNX bundle (edgevl export --target onnx)"
        )
    if manifest.batch > 1:
        raise InputError(f'"{bundle.path}" takes {manifest.batch} samples at once; the benchmark asks one: --batch 1')


def _build(name: str, bundle: Bundle, scratch: Path, query: Query, threads: int, steps: _Steps) -> Path:
    import numpy as np

    from edgevl.preprocess import load_image

    steps(f"building {name}")
    folder = scratch / name
    folder.mkdir()
    OPPONENTS[name].build(folder, bundle, np.asarray(load_image(query.image)), threads)
    return folder


def _enter(kind: str, folder: Path, preset: Preset, query: Query, threads: int, scratch: Path, steps: _Steps) -> _Entry:
    steps(f"loading {'our model' if kind == CANDIDATE else kind}")
    fresh = cold_start(kind, folder, threads, query, scratch) if preset.fresh_process else None
    pipeline, cold = open_and_ask(kind, folder, threads, query)
    return _Entry(pipeline, fresh or cold, _digest(kind, folder))


def _digest(kind: str, folder: Path) -> str:
    """The sha256 of the artifact; of several files, as `combined_sha256` says."""
    if kind == CANDIDATE:
        return Bundle.open(folder).artifact_sha256
    return combined_sha256({name: sha256_file(folder / name) for name in OPPONENTS[kind].artifacts})


def _measure(entries: list[_Entry], preset: Preset, query: Query, threads: int, steps: _Steps) -> BenchReport:
    load, neighbors = load_average(), Neighbors()
    subjects = [subject for entry in entries for subject in subjects_of(entry.pipeline, query)]
    traces = interleave(subjects, preset, progress=steps.round)
    others = neighbors.share()
    by_name = {entry.pipeline.name: entry for entry in entries}
    noise = noise_flags(load, others, usable_cores())
    results = [summarize(trace, by_name[trace.subject.name], preset, threads, noise) for trace in traces]
    candidate = entries[0].pipeline.name
    return BenchReport(
        preset=preset.name,
        machine=describe_machine(load, others),
        results=results,
        ratios=ratios_against(traces, candidate),
    )


def noise_flags(load: list[float] | None, others: float | None, cores: int) -> list[Flag]:
    """What the machine was busy with besides the measurement. Only other processes during the run invalidate it."""
    flags = []
    if others is not None and others > NOISE_OTHERS:
        text = f"other processes took {others:.0%} of the processor time during the run (at most {NOISE_OTHERS:.0%})"
        flags.append(Flag(code="other_processes", text=text))
    if load and load[0] / cores > NOISE_LOAD:
        text = f"load average {load[0]:.1f} on {cores} cores before the run; the preparations count in it"
        flags.append(Flag(code="load_before", text=text, invalidates=others is None))
    return flags


def summarize(trace: Trace, entry: _Entry, preset: Preset, threads: int, noise: list[Flag]) -> BenchResult:
    """One line of the report from raw samples in seconds."""
    milliseconds = [round(1e3 * sample, 4) for sample in trace.samples]
    flags = [*minimum_flags(preset, trace.samples), *steadiness_flags(milliseconds), *noise]
    scope = trace.subject.scope
    return BenchResult(
        name=trace.subject.name,
        artifact_sha256=entry.sha256,
        runtime=entry.pipeline.runtime,
        scope=scope,
        threads=threads,
        n=len(milliseconds),
        p50_ms=percentile(milliseconds, 50),
        p90_ms=percentile(milliseconds, 90),
        p99_ms=percentile(milliseconds, 99),
        load_ms=round(entry.cold.load_ms, 3),
        first_ms=round(entry.cold.first_ms[scope], 3),
        peak_mb=None if entry.cold.peak_mb is None else round(entry.cold.peak_mb, 1),
        stages={name: round(1e3 * percentile(values, 50), 4) for name, values in trace.stages.items()},
        samples_ms=milliseconds,
        valid=not any(flag.invalidates for flag in flags),
        flags=flags,
        notes=entry.pipeline.notes,
        blocks=[len(block) for block in trace.blocks],
    )


def steadiness_flags(samples: list[float]) -> list[Flag]:
    """Flag a run whose samples spread too far; the slowest and fastest percent are left to p99."""
    cut = len(samples) // 100
    spread = variation(sorted(samples)[cut : len(samples) - cut])
    if spread <= NOISE_CV:
        return []
    text = f"standard deviation is {spread:.0%} of the mean (at most {NOISE_CV:.0%})"
    return [Flag(code="unsteady", text=text)]


def ratios_against(traces: list[Trace], candidate: str) -> list[Ratio]:
    """A ratio per opponent and scope, from pairs of blocks measured side by side."""
    ours = {trace.subject.scope: trace for trace in traces if trace.subject.name == candidate}
    return [ratio_of(trace, ours[trace.subject.scope]) for trace in traces if trace.subject.name != candidate]


def ratio_of(baseline: Trace, candidate: Trace) -> Ratio:
    """How many times faster `candidate` is than `baseline`, both from one interleaved run."""
    pairs = pair_ratios(baseline.blocks, candidate.blocks)
    return Ratio(
        baseline=baseline.subject.name,
        candidate=candidate.subject.name,
        scope=candidate.subject.scope,
        ratio=percentile(pairs, 50),
        ci95=bootstrap_interval(pairs),
        pairs=[round(pair, 4) for pair in pairs],
    )


def time_sessions(
    sessions: Mapping[str, "Session"], feeds: Arrays, preset: str, threads: int, progress: Progress | None = None
) -> dict[str, Trace]:
    """Time sessions against each other, interleaved, on one input: the scope `model`. Returns a trace for each name."""
    subjects = [
        Subject(name, "model", lambda watch, session=session: session.run(feeds)) for name, session in sessions.items()
    ]
    with pinned_threads(threads):
        return {trace.subject.name: trace for trace in interleave(subjects, PRESETS[preset], progress=progress)}
