"""Our model against its opponents: one run, one runtime, the same pixels and words to an answer."""

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
from edgevl.bench.pipelines import Arrays, Query, subjects_of
from edgevl.bench.presets import PRESETS, Preset
from edgevl.bench.probe import cold_start, open_and_ask
from edgevl.bench.schema import BenchReport
from edgevl.bench.summary import Entry, noise_flags, ratios_against, summarize
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


def run_bench(
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


def _enter(kind: str, folder: Path, preset: Preset, query: Query, threads: int, scratch: Path, steps: _Steps) -> Entry:
    steps(f"loading {'our model' if kind == CANDIDATE else kind}")
    fresh = cold_start(kind, folder, threads, query, scratch) if preset.fresh_process else None
    pipeline, cold = open_and_ask(kind, folder, threads, query)
    return Entry(pipeline, fresh or cold, _digest(kind, folder))


def _digest(kind: str, folder: Path) -> str:
    """The sha256 of the artifact; of several files, as `combined_sha256` says."""
    if kind == CANDIDATE:
        return Bundle.open(folder).artifact_sha256
    return combined_sha256({name: sha256_file(folder / name) for name in OPPONENTS[kind].artifacts})


def _measure(entries: list[Entry], preset: Preset, query: Query, threads: int, steps: _Steps) -> BenchReport:
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


def time_sessions(
    sessions: Mapping[str, "Session"], feeds: Arrays, preset: str, threads: int, progress: Progress | None = None
) -> dict[str, Trace]:
    """Time sessions against each other, interleaved, on one input: the scope `model`. Returns a trace for each name."""
    subjects = [
        Subject(name, "model", lambda watch, session=session: session.run(feeds)) for name, session in sessions.items()
    ]
    with pinned_threads(threads):
        return {trace.subject.name: trace for trace in interleave(subjects, PRESETS[preset], progress=progress)}
