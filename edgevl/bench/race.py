"""Contestants measured side by side in one run: every scope, the machine around them, and the limit of our model."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edgevl.bench.energy import Rapl, energy_of
from edgevl.bench.harness import Stopwatch, Subject, Trace, interleave
from edgevl.bench.machine import Neighbors, describe_machine, load_average
from edgevl.bench.opponents import find_opponent
from edgevl.bench.peaks import Yardstick, measure_peak
from edgevl.bench.pipelines import CANDIDATE, Query, subjects_of
from edgevl.bench.presets import Preset
from edgevl.bench.probe import FreshProcesses, open_and_ask, take_turns
from edgevl.bench.roofline import bundle_roofline
from edgevl.bench.schema import BenchReport, BenchResult, Flag, Peak, TaskAccuracy
from edgevl.bench.sensors import Reading, both, read_sensors, throttle_flags
from edgevl.bench.summary import Entry, noise_flags, ratios_against, summarize
from edgevl.bundle.folder import Bundle, combined_sha256, sha256_file
from edgevl.pictures import Frame
from edgevl.progress import Progress


@dataclasses.dataclass(frozen=True)
class Contestant:
    kind: str  # `CANDIDATE` for a bundle of ours, else the name of an opponent
    folder: Path
    label: str = ""  # behind the name, where two bundles have the same


@dataclasses.dataclass(frozen=True)
class Track:
    """What is the same for everybody."""

    preset: Preset
    image: bytes  # of the picture's file
    question: str
    threads: int
    bound: list[int] | None  # the cores that this process is bound to now
    cores: int  # that it may use when it is not
    scratch: Path
    frame: Frame | None = None  # of the scope `frame`

    @property
    def query(self) -> Query:
        return Query(self.image, self.question)


class Steps:
    """Progress over a fixed number of preparations, then the rounds."""

    def __init__(self, progress: Progress | None, setup: int, rounds: int):
        self.progress, self.done, self.setup, self.rounds = progress, 0, setup, rounds

    def __call__(self, text: str) -> None:
        if self.progress:
            self.progress(min(self.done, self.setup), self.setup + self.rounds, text)
        self.done += 1

    def round(self, done: int, total: int, text: str) -> None:
        if self.progress:
            self.progress(self.setup + done, self.setup + total, text)


@dataclasses.dataclass
class _Observed:
    """The machine before, during and after."""

    load: list[float] | None
    peak: Peak
    before: Reading
    after: Reading
    others: float | None

    def flags(self, cores: int) -> list[Flag]:
        return [*noise_flags(self.load, self.others, cores), *throttle_flags(self.before, self.after)]


def race(contestants: Sequence[Contestant], track: Track, steps: Steps) -> BenchReport:
    """Measure all of them; the first is the candidate of every ratio."""
    load = load_average()
    entries = [_enter(contestant, track, steps) for contestant in contestants]
    subjects = [subject for entry in entries for subject in subjects_of(entry.pipeline, track.query, track.frame)]
    steps("measuring what the machine can do")
    yardstick, peak = Yardstick(track.threads), measure_peak(track.threads)
    before, neighbors = read_sensors(track.bound, yardstick.gmacs()), Neighbors(track.bound)
    traces = _fresh_processes(contestants, entries, track, steps)
    traces += interleave(subjects, track.preset, progress=steps.round)
    others, after = neighbors.share(), read_sensors(track.bound, yardstick.gmacs())
    seen = _Observed(load, peak, before, after, others)
    results = _results(traces, entries, track, seen.flags(track.cores))
    _add_energy(results, subjects)
    _add_roofline(results, contestants[0], entries[0], peak, track)
    machine = describe_machine(
        load, others, track.cores, affinity=track.bound, peak=peak,
        frequency_mhz=both(before.frequency_mhz, after.frequency_mhz),
        temperature_c=both(before.temperature_c, after.temperature_c),
    )  # fmt: skip
    ratios = ratios_against(traces, entries[0].pipeline.name)
    return BenchReport(preset=track.preset.name, machine=machine, results=results, ratios=ratios)


def _enter(contestant: Contestant, track: Track, steps: Steps) -> Entry:
    kind, folder = contestant.kind, contestant.folder
    steps(f"loading {contestant.label or ('our model' if kind == CANDIDATE else kind)}")
    pipeline, cold, _ = open_and_ask(kind, folder, track.threads, track.query)
    pipeline.name += f" ({contestant.label})" if contestant.label else ""
    if kind != CANDIDATE:
        files = {name: sha256_file(folder / name) for name in find_opponent(kind).artifacts}
        return Entry(pipeline, cold, combined_sha256(files))
    bundle = Bundle.open(folder)
    found = bundle.manifest.accuracy
    accuracy = None
    if found:
        accuracy = TaskAccuracy(share=found.artifact, samples=found.samples, data=found.data, metric=found.metric)
    return Entry(pipeline, cold, bundle.artifact_sha256, accuracy)


def _fresh_processes(
    contestants: Sequence[Contestant], entries: list[Entry], track: Track, steps: Steps
) -> list[Trace]:
    """The scope `end_to_end`; what the processes say of load, first query and memory replaces what this one saw."""
    picture = track.scratch / "picture"
    picture.write_bytes(track.image)
    plan = track.preset
    counts = [plan.processes if one.kind == CANDIDATE else plan.opponent_processes for one in contestants]
    chosen = [(one, entry) for one, entry, count in zip(contestants, entries, counts, strict=True) if count]
    fresh = [FreshProcesses.of(entry.pipeline.name, one.kind, one.folder) for one, entry in chosen]
    samples = [count for count in counts if count]
    take_turns(fresh, samples, track.threads, picture, track.question, lambda *_: steps("timing processes"))
    for asked, (_, entry) in zip(fresh, chosen, strict=True):
        entry.cold = asked.cold()
    return [asked.trace for asked in fresh]


def _results(traces: list[Trace], entries: list[Entry], track: Track, noise: list[Flag]) -> list[BenchResult]:
    by_name = {entry.pipeline.name: entry for entry in entries}
    results = [summarize(trace, by_name[trace.subject.name], track.preset, track.threads, noise) for trace in traces]
    order = list(by_name)
    scopes = ("model", "pipeline", "frame", "end_to_end")
    return sorted(results, key=lambda result: (order.index(result.name), scopes.index(result.scope)))


def _add_energy(results: list[BenchResult], subjects: list[Subject]) -> None:
    meter = Rapl.open()
    for subject in subjects:
        found = energy_of(lambda subject=subject: subject.run(Stopwatch()), meter)
        next(r for r in results if (r.name, r.scope) == (subject.name, subject.scope)).energy = found


def _add_roofline(results: list[BenchResult], ours: Contestant, entry: Entry, peak: Peak, track: Track) -> None:
    """Of a query that calls each program once: what is counted in a file is what one call takes."""
    result = next(r for r in results if (r.name, r.scope) == (entry.pipeline.name, "model"))
    inputs = entry.pipeline.prepare(track.query, Stopwatch())
    before = dict(inputs.runner.calls)
    entry.pipeline.infer(inputs, Stopwatch())
    if any(count != before[name] + 1 for name, count in inputs.runner.calls.items()):
        return
    bundle = Bundle.open(ours.folder)
    result.roofline = bundle_roofline(bundle, peak, inputs.arrays, track.threads, result.p50_ms, track.scratch)
