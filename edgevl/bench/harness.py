"""Taking the samples: warm-up, then interleaved blocks, with every stage of every query on record.

The clock is a parameter, so that the tests can state a time instead of hoping for one.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from edgevl.bench.presets import Preset
from edgevl.bench.schema import Scope
from edgevl.progress import Progress

Clock = Callable[[], float]  # seconds, monotonic


class Stopwatch:
    """Times the named stages of one query: `with watch("decode"): ...`. A stage entered twice adds up."""

    def __init__(self, clock: Clock = time.perf_counter):
        self.clock = clock
        self.stages: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = self.clock()
        try:
            yield
        finally:
            self.stages[stage] = self.stages.get(stage, 0.0) + self.clock() - start


@dataclasses.dataclass(frozen=True)
class Subject:
    """Something to measure: `run(watch)` answers one query in full."""

    name: str
    scope: Scope
    run: Callable[[Stopwatch], object]
    frame: str | None = None  # what the scope `frame` begins with: "1920 x 1080 NV12"


@dataclasses.dataclass
class Trace:
    """All samples of a subject, in seconds, by interleaved block."""

    subject: Subject
    blocks: list[list[float]] = dataclasses.field(default_factory=list)
    stages: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    @property
    def samples(self) -> list[float]:
        return [sample for block in self.blocks for sample in block]

    def take(self, clock: Clock) -> float:
        """Run one query; returns its seconds and records its stages."""
        watch = Stopwatch(clock)
        start = clock()
        self.subject.run(watch)
        seconds = clock() - start
        for stage, value in watch.stages.items():
            self.stages.setdefault(stage, []).append(value)
        return seconds


def warm_up(subject: Subject, preset: Preset, clock: Clock = time.perf_counter) -> float:
    """Run unrecorded queries until the preset is content. Returns the seconds of the fastest."""
    trace, times = Trace(subject), list[float]()
    while not times or (len(times) < preset.warmup_queries and sum(times) < preset.warmup_seconds):
        times.append(trace.take(clock))
    return min(times)


def interleave(
    subjects: Sequence[Subject],
    preset: Preset,
    clock: Clock = time.perf_counter,
    progress: Progress | None = None,
) -> list[Trace]:
    """Measure `subjects` in turn, block by block, until each has met the preset's minima.

    Odd rounds run in reverse order (A B, B A, ...), so that a drift of the machine favors neither. A block begins
    with one unrecorded query: the subject before it has just filled the caches with its own weights. Where queries
    turn out quicker than the warm-up, at most as many rounds again are added, with blocks sized by what was measured;
    a subject still short is flagged by `minimum_flags`.
    """
    sizes = [preset.block_queries(warm_up(subject, preset, clock)) for subject in subjects]
    traces = [Trace(subject) for subject in subjects]
    for done in range(2 * preset.rounds):
        if done >= preset.rounds and all(_is_met(trace, preset) for trace in traces):
            break
        if done == preset.rounds:
            sizes = [preset.block_queries(sum(trace.samples) / len(trace.samples)) for trace in traces]
        order = list(zip(traces, sizes, strict=True))
        for trace, size in order if done % 2 == 0 else reversed(order):
            if size > 1:
                Trace(trace.subject).take(clock)
            trace.blocks.append([trace.take(clock) for _ in range(size)])
        if progress:
            progress(done + 1, max(preset.rounds, done + 1), "timing, interleaved")
    return traces


def _is_met(trace: Trace, preset: Preset) -> bool:
    return preset.meets(len(trace.samples), sum(trace.samples))
