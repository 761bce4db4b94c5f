"""The harness under a clock that the test owns: interleaving, minima, flags, and a slowdown that must be seen."""

import numpy as np
import pytest
import torch

from edgevl.bench.harness import Stopwatch, Subject, interleave, warm_up
from edgevl.bench.presets import PRESETS, Preset, minimum_flags
from edgevl.bench.sensors import Reading, throttle_flags
from edgevl.bench.stats import percentile
from edgevl.bench.summary import drift_flags, noise_flags, ratios_against, steadiness_flags
from edgevl.errors import InputError

SHORT = Preset("short", min_queries=20, min_seconds=0.1, rounds=10, warmup_queries=3, warmup_seconds=1.0)


class Time:
    """A clock that only moves when a query spends time, with the jitter of a real machine."""

    def __init__(self, seed: int = 0):
        self.now = 0.0
        self.rng = np.random.default_rng(seed)
        self.log: list[str] = []

    def clock(self) -> float:
        return self.now

    def query(self, name: str, seconds: float, jitter: float = 0.02) -> Subject:
        def run(watch: Stopwatch) -> None:
            self.log.append(name)
            for stage, share in (("eyes", 0.75), ("words", 0.25)):
                with watch(stage):
                    self.now += share * seconds * float(1 + jitter * abs(self.rng.standard_normal()))

        return Subject(name, "pipeline", run)


def test_presets_are_the_published_ones():
    assert (PRESETS["quick"].min_queries, PRESETS["quick"].min_seconds) == (128, 10)
    assert (PRESETS["normal"].min_queries, PRESETS["normal"].min_seconds) == (1024, 60)
    assert (PRESETS["rapid"].min_queries, PRESETS["rapid"].min_seconds, PRESETS["rapid"].slow_queries) == (32, 2, 5)


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(InputError, match='"quik"; did you mean "quick"'):
        PRESETS["quik"]


@pytest.mark.parametrize("name", ["rapid", "quick", "normal"])
@pytest.mark.parametrize("seconds", [0.0004, 0.003, 0.05])
def test_every_preset_meets_its_own_minima(name, seconds):
    time = Time()
    (trace,) = interleave([time.query("a", seconds)], PRESETS[name], time.clock)
    assert PRESETS[name].meets(len(trace.samples), sum(trace.samples))
    assert not minimum_flags(PRESETS[name], trace.samples)


def test_rapid_asks_a_slow_opponent_five_times_and_says_so():
    time = Time()
    traces = interleave([time.query("ours", 0.003), time.query("slow", 1.5)], PRESETS["rapid"], time.clock)
    assert len(traces[1].samples) == 5
    (flag,) = minimum_flags(PRESETS["rapid"], traces[1].samples)
    assert flag.code == "slow_opponent" and not flag.invalidates
    assert len(traces[0].samples) >= 32 and sum(traces[0].samples) >= 2


def test_missed_minima_invalidate():
    flags = minimum_flags(PRESETS["quick"], [0.01] * 100)
    assert [flag.code for flag in flags] == ["few_queries", "short_run"]
    assert all(flag.invalidates for flag in flags)


def test_blocks_alternate_and_are_equally_many():
    time = Time()
    traces = interleave([time.query("a", 0.01), time.query("b", 0.01)], SHORT, time.clock)
    assert [len(trace.blocks) for trace in traces] == [10, 10]
    changes = [name for i, name in enumerate(time.log) if i == 0 or name != time.log[i - 1]]
    assert changes[:6] == ["a", "b", "a", "b", "a", "b"]  # warm-up a, b; then A B, B A, A B ... with blocks touching


def test_an_underestimated_run_is_extended():
    time = Time()
    speed = iter([0.1] * 3 + [0.001] * 10_000)  # slow while warming up, then a hundred times faster

    def run(watch: Stopwatch) -> None:
        time.now += next(speed)

    (trace,) = interleave([Subject("a", "model", run)], SHORT, time.clock)
    assert len(trace.blocks) > SHORT.rounds
    assert not minimum_flags(SHORT, trace.samples)


def test_a_run_that_stays_short_is_flagged():
    time = Time()
    speed = iter([0.1] * 3 + [0.001] * 30 + [0.00001] * 10_000)  # faster again, once the blocks have been sized anew

    def run(watch: Stopwatch) -> None:
        time.now += next(speed)

    (trace,) = interleave([Subject("a", "model", run)], SHORT, time.clock)
    assert {flag.code for flag in minimum_flags(SHORT, trace.samples)} == {"short_run"}


def test_warm_up_stops_at_its_limits_but_runs_once():
    time = Time()
    assert warm_up(time.query("slow", 5.0, jitter=0), SHORT, time.clock) == pytest.approx(5.0)
    assert time.log == ["slow"]


def test_stages_sum_to_the_sample():
    time = Time()
    (trace,) = interleave([time.query("a", 0.01)], SHORT, time.clock)
    for i, total in enumerate(trace.samples):
        assert sum(values[i] for values in trace.stages.values()) == pytest.approx(total)


def test_a_slowdown_of_20_percent_is_seen():
    time = Time(seed=5)
    traces = interleave([time.query("new", 0.012, 0.1), time.query("old", 0.010, 0.1)], SHORT, time.clock)
    (ratio,) = ratios_against(traces, "new")
    assert ratio.ratio == pytest.approx(1 / 1.2, rel=0.05)
    assert ratio.ci95[0] < ratio.ratio < ratio.ci95[1] < 1


def test_two_equal_subjects_are_not_called_different():
    time = Time(seed=6)
    traces = interleave([time.query("new", 0.010, 0.1), time.query("old", 0.010, 0.1)], SHORT, time.clock)
    (ratio,) = ratios_against(traces, "new")
    assert ratio.ci95[0] < 1 < ratio.ci95[1]


def test_noise_is_flagged():
    assert [flag.code for flag in noise_flags([3.0, 1, 1], 0.4, cores=2)] == ["other_processes", "load_before"]
    assert not noise_flags([0.2, 0.2, 0.2], 0.01, cores=2)
    (only_load,) = noise_flags([3.0, 1, 1], 0.01, cores=2)
    assert not only_load.invalidates  # it may be our own preparations; the processor time of others was measured
    assert steadiness_flags([1.0, 1.0, 5.0, 1.0])[0].code == "unsteady"
    assert not steadiness_flags([1.0, 1.05, 0.97] * 100 + [50.0])  # one outlier in 300 belongs to p99


def test_two_measurements_agree_within_5_percent_or_one_is_flagged():
    """A machine that ramps, steps or throttles during a run: whatever it does, no two clean runs disagree."""
    base = 0.01

    def run(seed, shape):
        time = Time(seed)

        def query(watch: Stopwatch) -> None:
            time.now += base * shape(time.now) * float(1 + 0.02 * abs(time.rng.standard_normal()))

        (trace,) = interleave([Subject("a", "model", query)], PRESETS["quick"], time.clock)
        before, after = Reading(gmacs=100 / shape(0)), Reading(gmacs=100 / shape(time.now))
        flags = drift_flags(trace.samples) + throttle_flags(before, after)
        return percentile(trace.samples, 50), any(flag.invalidates for flag in flags)

    shapes = {
        "steady": lambda now: 1.0,
        **{f"ramp {slope}": lambda now, slope=slope: 1 + slope * now / 10 for slope in (0.02, 0.08, 0.2, 1)},
        **{f"step at {when} s": lambda now, when=when: 1 if now < when else 1.2 for when in (1, 3, 5, 8, 10)},
        "slow in the middle": lambda now: 1.2 if 1 < now < 9 else 1,
        "slow for a second": lambda now: 1.5 if 4 < now < 5 else 1,
        **{f"throttled from {when} s": lambda now, when=when: 1 if now < when else 2.5 for when in (2, 5, 9)},
    }
    measured = {name: run(seed, shape) for seed, (name, shape) in enumerate(shapes.items())}
    assert not measured["steady"][1] and not measured["slow for a second"][1]
    assert measured["step at 5 s"][1] and measured["ramp 0.2"][1]
    clean = {name: p50 for name, (p50, flagged) in measured.items() if not flagged}
    assert max(clean.values()) <= 1.05 * min(clean.values()), clean


def test_a_real_module_is_measured():
    """No clock of ours, no fake: a larger matrix product takes longer, and the interval says so."""
    small, large = torch.nn.Linear(64, 64), torch.nn.Linear(1024, 1024)
    inputs = {small: torch.zeros(32, 64), large: torch.zeros(32, 1024)}

    def subject(name: str, module: torch.nn.Module) -> Subject:
        return Subject(name, "model", lambda watch: module(inputs[module]))  # pyright: ignore[reportArgumentType]

    with torch.inference_mode():
        traces = interleave([subject("small", small), subject("large", large)], SHORT)
    (ratio,) = ratios_against(traces, "small")
    assert ratio.ci95[0] > 1
    assert not minimum_flags(SHORT, traces[0].samples)
