"""From raw samples to lines of a report: percentiles, flags, ratios. No clock here, no runtime."""

import dataclasses
import itertools

from edgevl.bench.harness import Trace
from edgevl.bench.pipelines import Pipeline
from edgevl.bench.presets import DRIFT_SAMPLES, NOISE_CV, NOISE_DRIFT, NOISE_LOAD, NOISE_OTHERS, Preset, minimum_flags
from edgevl.bench.probe import ColdStart
from edgevl.bench.schema import BenchResult, Flag, Ratio, TaskAccuracy
from edgevl.bench.stats import pair_ratios, percentile, ratio_interval, variation


@dataclasses.dataclass
class Entry:
    """A pipeline that takes part, and what is known of it before it is timed."""

    pipeline: Pipeline
    cold: ColdStart
    sha256: str | None
    accuracy: TaskAccuracy | None = None


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


def summarize(trace: Trace, entry: Entry, preset: Preset, threads: int, noise: list[Flag]) -> BenchResult:
    """One line of the report from raw samples in seconds."""
    milliseconds = [round(1e3 * sample, 4) for sample in trace.samples]
    scope = trace.subject.scope
    minima = [] if scope == "end_to_end" else minimum_flags(preset, trace.samples)  # as many as the preset has
    flags = [*minima, *steadiness_flags(milliseconds), *drift_flags(milliseconds), *noise]
    first = entry.cold.first_ms.get(scope)
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
        first_ms=None if first is None else round(first, 3),
        peak_mb=None if entry.cold.peak_mb is None else round(entry.cold.peak_mb, 1),
        stages={name: round(1e3 * percentile(values, 50), 4) for name, values in trace.stages.items()},
        samples_ms=milliseconds,
        valid=not any(flag.invalidates for flag in flags),
        flags=flags,
        notes=entry.pipeline.notes,
        blocks=[len(block) for block in trace.blocks],
        throughput_per_s=round(1e3 * len(milliseconds) / sum(milliseconds), 3),
        accuracy=entry.accuracy,
        frame=trace.subject.frame,
    )


def steadiness_flags(samples: list[float]) -> list[Flag]:
    """Flag a run whose samples spread too far; the slowest and fastest percent are left to p99."""
    cut = len(samples) // 100
    spread = variation(sorted(samples)[cut : len(samples) - cut])
    if spread <= NOISE_CV:
        return []
    text = f"standard deviation is {spread:.0%} of the mean (at most {NOISE_CV:.0%})"
    return [Flag(code="unsteady", text=text)]


def drift_flags(samples: list[float]) -> list[Flag]:
    """Flag a run that does not agree with itself: whoever measures again would get another number.

    The halves are compared, and each eighth with the whole: a slow spell in the middle leaves the halves alike. One
    eighth may differ: somebody's single second does not move the median of all.
    """
    if len(samples) < DRIFT_SAMPLES:
        return []
    halves, whole = medians(samples, 2), percentile(samples, 50)
    if apart(*halves):
        text = f"p50 went from {halves[0]:.4g} to {halves[1]:.4g} ms between the halves of the run"
        return [Flag(code="drift", text=f"{text} (at most {NOISE_DRIFT:.0%})")]
    parts = medians(samples, min(8, len(samples) // (DRIFT_SAMPLES // 2)))
    odd = [part for part in parts if apart(part, whole)]
    if len(odd) < 2:
        return []
    text = f"p50 of {len(odd)} of {len(parts)} parts of the run is over {NOISE_DRIFT:.0%} from that of the whole"
    return [Flag(code="drift", text=f"{text}, {whole:.4g} ms: from {min(odd):.4g} to {max(odd):.4g}")]


def medians(samples: list[float], parts: int) -> list[float]:
    """Of equal parts, in the order taken."""
    ends = [len(samples) * part // parts for part in range(parts + 1)]
    return [percentile(samples[begin:end], 50) for begin, end in itertools.pairwise(ends)]


def apart(one: float, other: float) -> bool:
    return max(one, other) > min(one, other) * (1 + NOISE_DRIFT)


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
        ci95=ratio_interval(pairs),
        pairs=[round(pair, 4) for pair in pairs],
    )
