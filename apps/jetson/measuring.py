"""Taking samples and judging them. Presets, percentiles and flags are those of `edgevl bench` (docs/bench.md)."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_SPREAD = 0.25  # standard deviation / mean, without the slowest and fastest percent
MAX_OTHERS = 0.10  # share of processor time taken by other processes
MAX_DRIFT = 0.05  # between the two halves of a run, at p50
MAX_LOAD = 0.5  # load average per core before the run that is worth a remark
DRIFT_SAMPLES = 20  # fewer have no halves worth comparing


class Preset(NamedTuple):
    """The minima of quick and normal are MLPerf Mobile's."""

    min_queries: int
    min_seconds: float  # of measured time, per scope
    warmup_queries: int  # at most
    warmup_seconds: float  # warm-up ends after this, but not before one query
    slow_query: float  # seconds: above it `slow_queries` suffice
    slow_queries: int
    idle_seconds: float  # of power readings before anything runs


PRESETS = {
    "rapid": Preset(32, 2.0, 16, 0.3, 0.2, 5, 2.0),
    "quick": Preset(128, 10.0, 64, 1.0, 0.5, 32, 5.0),
    "normal": Preset(1024, 60.0, 256, 3.0, 0.5, 128, 10.0),
}


def measure(take: Callable[[], float], preset: Preset) -> tuple[list[float], float, float]:
    """(seconds of each query after warm-up, when the first began, when the last ended), the two of time.perf_counter.

    `take` runs a query and returns its seconds; there are as many as the preset asks for.
    """
    total, queries = 0.0, 0
    while not queries or (queries < preset.warmup_queries and total < preset.warmup_seconds):
        total, queries = total + take(), queries + 1
    samples: list[float] = []
    total, began = 0.0, time.perf_counter()
    while not is_enough(len(samples), total, preset):
        samples.append(take())
        total += min(samples[-1], milliseconds(samples[-1]) / 1e3)  # the report's rounded samples are enough, too
    return samples, began, time.perf_counter()


def milliseconds(seconds: float) -> float:
    """A sample as the report holds it."""
    return round(1e3 * seconds, 4)


def is_enough(queries: int, seconds: float, preset: Preset) -> bool:
    if queries and seconds / queries > preset.slow_query:
        return queries >= preset.slow_queries
    return queries >= preset.min_queries and seconds >= preset.min_seconds


class Stages:
    """Seconds of the named stages of one query, on the host's clock."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Any:
        started = time.perf_counter()
        yield
        self.seconds.setdefault(name, []).append(time.perf_counter() - started)

    def medians_ms(self, queries: int) -> dict[str, float]:
        """p50 of each stage over the last `queries` queries."""
        return {name: round(1e3 * float(np.median(values[-queries:])), 4) for name, values in self.seconds.items()}


def flag(code: str, text: str, invalidates: bool = True) -> dict[str, Any]:
    return {"code": code, "text": text, "invalidates": invalidates}


def sample_flags(milliseconds: Sequence[float], preset: Preset) -> list[dict[str, Any]]:
    """What is wrong with the samples themselves."""
    values, flags = np.asarray(milliseconds, dtype=np.float64), []
    if values.mean() > 1e3 * preset.slow_query:
        text = (
            f"{len(values)} queries: a query takes more than {preset.slow_query:g} s, so {preset.slow_queries} suffice"
        )
        flags.append(flag("slow_query", text, invalidates=False))
    cut = len(values) // 100
    middle = np.sort(values)[cut : len(values) - cut]
    spread = float(middle.std(ddof=1) / middle.mean()) if len(middle) > 1 else 0.0
    if spread > MAX_SPREAD:
        flags.append(flag("unsteady", f"standard deviation is {spread:.0%} of the mean (at most {MAX_SPREAD:.0%})"))
    return flags + drift_flags(values)


def drift_flags(values: np.ndarray) -> list[dict[str, Any]]:
    """Halves of the run that do not agree at p50, or two eighths or more that do not agree with the whole."""
    if len(values) < DRIFT_SAMPLES:
        return []
    (first, second), whole = medians(values, 2), float(np.median(values))
    if apart(first, second):
        halves = f"p50 went from {first:.4g} to {second:.4g} ms between the halves of the run"
        return [flag("drift", f"{halves} (at most {MAX_DRIFT:.0%})")]
    parts = medians(values, min(8, len(values) // (DRIFT_SAMPLES // 2)))
    odd = [part for part in parts if apart(part, whole)]
    if len(odd) < 2:  # a single bad second does not move the median of all
        return []
    text = f"p50 of {len(odd)} of {len(parts)} parts of the run is over {MAX_DRIFT:.0%} from that of the whole"
    return [flag("drift", f"{text}, {whole:.4g} ms: from {min(odd):.4g} to {max(odd):.4g}")]


def medians(values: np.ndarray, parts: int) -> list[float]:
    """Of equal parts, in the order taken."""
    ends = [len(values) * part // parts for part in range(parts + 1)]
    return [float(np.median(values[begin:end])) for begin, end in zip(ends, ends[1:])]


def apart(one: float, other: float) -> bool:
    return max(one, other) > min(one, other) * (1 + MAX_DRIFT)


def machine_flags(load: float, cores: int, others: float | None) -> list[dict[str, Any]]:
    """What the machine did besides."""
    flags = []
    if others is not None and others > MAX_OTHERS:
        took = f"other processes took {others:.0%} of the processor time during the run"
        flags.append(flag("other_processes", f"{took} (at most {MAX_OTHERS:.0%})"))
    if load / cores > MAX_LOAD:
        text = f"load average {load:.1f} on {cores} cores before the run"
        flags.append(flag("load_before", text, invalidates=others is None))
    return flags


class Neighbors:
    """Share of the machine's processor time that other processes take (Linux: /proc/stat)."""

    def __init__(self) -> None:
        self._start = self._read()

    @staticmethod
    def _read() -> tuple[float, float] | None:
        with contextlib.suppress(OSError, IndexError, ValueError):
            first = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0]
            ticks = [int(value) for value in first.split()[1:9]]
            hertz = os.sysconf("SC_CLK_TCK")
            own = sum(os.times()[:4])  # of this process and of its children that ended
            idle = ticks[3] + ticks[4]
            return (sum(ticks) - idle) / hertz - own, sum(ticks) / hertz
        return None

    def share(self) -> float | None:
        """0..1; None where it cannot be told."""
        now = self._read()
        if now is None or self._start is None or now[1] - self._start[1] < 0.5:
            return None
        others = (now[0] - self._start[0]) / (now[1] - self._start[1])
        return round(min(1.0, max(0.0, others)), 4)


def bind(threads: int) -> list[int] | None:
    """Bind this thread, and those that it starts later, to the fastest cores, core 0 (interrupts) last."""
    if not hasattr(os, "sched_setaffinity"):
        return None

    def key(core: int) -> tuple[int, bool, int]:
        try:
            text = Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq").read_text(encoding="utf-8")
        except OSError:
            text = "0"
        return -int(text), core == 0, core

    chosen = sorted(sorted(os.sched_getaffinity(0), key=key)[:threads])
    os.sched_setaffinity(0, chosen)
    return chosen


def peak_memory_mb() -> float | None:
    """Highest resident memory of this process so far, MiB. Of the GPU's buffers it counts what the driver maps only."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return round(int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024, 1)
    return None
