"""Did it get worse? Two bundles, measured side by side, or two benchmarks that were written before.

Nothing passes unproved: a slowdown whose interval includes the limit is inconclusive, and so is a run that is flagged
invalid. Both count as failed, as measuring longer or on a quieter machine settles them.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from edgevl.bench.presets import NOISE_DRIFT
from edgevl.bench.run import race_bundles
from edgevl.bench.schema import BenchReport, BenchResult, Flag, Scope, read_report
from edgevl.bench.stats import block_medians, unpaired_interval
from edgevl.bench.summary import apart
from edgevl.bundle.folder import Bundle, is_bundle
from edgevl.bundle.manifest import metric_title
from edgevl.errors import InputError, no_such_path
from edgevl.progress import Progress

SCHEMA = "edgevl.compare/1.0"
MAX_SLOWDOWN, MAX_DROP = 0.05, 0.5  # share of the old time; points of accuracy
JUDGED: tuple[Scope, ...] = ("model", "pipeline", "frame")  # a handful of processes is shown, but judges nothing
Judgment = Literal["ok", "regression", "inconclusive", "not judged"]
Interval = tuple[float, float]


class Side(BaseModel):
    source: str  # the path that was given
    name: str
    artifact_sha256: str | None
    runtime: str


class Speed(BaseModel):
    """Times at p50, and what may be said of them."""

    scope: Scope
    old_ms: float  # p50
    new_ms: float
    slowdown: float  # new / old - 1: 0.2 is 20 % slower, below 0 is faster
    ci95: Interval
    limit: float
    verdict: Judgment

    @property
    def is_gain(self) -> bool:
        """Is the new one faster for sure?"""
        return self.verdict == "ok" and self.ci95[1] < 0


class Drop(BaseModel):
    """Accuracy on the same samples: what is lost on them is lost, so the difference itself is judged."""

    old: float  # share of right answers
    new: float
    points: float  # 100 (old - new)
    limit: float
    samples: int
    data: str
    verdict: Judgment
    metric: str = "accuracy"

    @property
    def title(self) -> str:
        return metric_title(self.metric).lower()


class Comparison(BaseModel):
    schema_: str = Field(default=SCHEMA, alias="schema")
    ok: bool
    how: Literal["interleaved in one run", "two runs"]
    old: Side
    new: Side
    speed: list[Speed]
    accuracy: Drop | None  # null: not known of both on the same samples; a note says why
    flags: list[Flag]
    notes: list[str]

    model_config = {"populate_by_name": True, "serialize_by_alias": True}

    @property
    def headline(self) -> Literal["faster", "no regression", "regression", "not proved"]:
        """The whole in a word or two. "faster" if every time that is judged is a gain, and no accuracy is lost."""
        if self.failures:
            judged = [part.verdict for part in (*self.speed, self.accuracy) if part]
            return "regression" if "regression" in judged else "not proved"
        gains = [part.is_gain for part in self.speed if part.verdict != "not judged"]
        return "faster" if all(gains) else "no regression"

    @property
    def failures(self) -> list[str]:
        """One text for each thing that is not proved fine."""
        slow = [
            f"{part.scope}: {describe_speed(part)}: {part.verdict}{_advice(part)}"
            for part in self.speed
            if part.verdict in ("regression", "inconclusive")
        ]
        part = self.accuracy
        lost = [f"{part.title}: {describe_drop(part)}: {part.verdict}"] if part and part.verdict == "regression" else []
        return slow + lost


def compare(
    old: str | Path,
    new: str | Path,
    max_slowdown: float = MAX_SLOWDOWN,
    max_drop: float | None = None,
    preset: str = "quick",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Judge `new` against `old`: two bundles, or two JSON files of `edgevl bench --out`.

    Args:
        max_slowdown: share of the old time at p50 that may be lost.
        max_drop: points of accuracy that may be lost. None is 0.5 where both accuracies are known; a number that is
            given must be checked, so it is an error if one is not known.
        preset, threads: of the measurement of two bundles.
    Raises:
        InputError: not a pair, different machines or threads, or an accuracy that was asked for and is not there.
    """
    for path in (old, new):
        if not Path(path).exists():
            raise no_such_path("bundle or benchmark", path, "give a bundle, or a file of edgevl bench --out")
    bundles = [is_bundle(path) for path in (old, new)]
    if bundles[0] != bundles[1]:
        raise InputError(f'"{old}" and "{new}" are not a pair: give two bundles, or two files of edgevl bench --out')
    if all(bundles):
        pair = _interleaved(race_bundles(Bundle.open(old), Bundle.open(new), preset, threads, progress))
    else:
        pair = _two_runs(read_report(old), read_report(new))
    speed = [pair.speed(scope, max_slowdown) for scope in pair.old if scope in pair.new]
    if not any(part.scope in JUDGED for part in speed):
        raise InputError(f'"{old}" and "{new}" have no scope in common: measure both with edgevl bench --out')
    accuracy, notes = _accuracy(*pair.any(), MAX_DROP if max_drop is None else max_drop)
    if max_drop is not None and accuracy is None:
        raise InputError(f"--max-drop {max_drop:g} cannot be checked: {notes[0]}")
    found = Comparison(
        ok=False, how=pair.how, old=_side(old, pair.any()[0]), new=_side(new, pair.any()[1]), speed=speed,
        accuracy=accuracy, flags=pair.flags, notes=[*pair.notes(), *notes],
    )  # fmt: skip
    return found.model_copy(update={"ok": not found.failures})


Scopes = dict[Scope, BenchResult]


@dataclasses.dataclass(frozen=True)
class _Pair:
    """The same scopes of two artifacts, and how to say how sure their ratio is."""

    how: Literal["interleaved in one run", "two runs"]
    old: Scopes
    new: Scopes
    slowdown: Callable[[Scope], tuple[float, Interval]]  # new / old - 1, and its interval
    flags: list[Flag]

    def any(self) -> tuple[BenchResult, BenchResult]:
        """A result of each that says most of its artifact: one with an accuracy, where there is one."""
        old, new = (sorted(side.values(), key=lambda result: result.accuracy is None) for side in (self.old, self.new))
        return old[0], new[0]

    def speed(self, scope: Scope, limit: float) -> Speed:
        old, new = self.old[scope], self.new[scope]
        slowdown, ci95 = self.slowdown(scope)
        valid = old.valid and new.valid and not any(flag.invalidates for flag in self.flags)
        paired = self.how == "interleaved in one run"
        verdict = judge_interval(ci95, limit, valid, paired) if scope in JUDGED else "not judged"
        return Speed(
            scope=scope, old_ms=old.p50_ms, new_ms=new.p50_ms, slowdown=slowdown, ci95=ci95, limit=limit,
            verdict=verdict,
        )  # fmt: skip

    def notes(self) -> list[str]:
        """What a reader must know of both sides."""
        old, new = self.any()
        notes = [f"runtimes differ: {old.runtime}, then {new.runtime}"] if old.runtime != new.runtime else []
        if old.artifact_sha256 and old.artifact_sha256 == new.artifact_sha256:
            notes.append("both are the same artifact: what differs is the measurement")
        for when, results in (("old", self.old), ("new", self.new)):
            texts = [f"{when}: {flag.text}" for result in results.values() for flag in result.flags if flag.invalidates]
            notes += dict.fromkeys(texts)
        return notes


def judge_interval(ci95: Interval, limit: float, valid: bool = True, paired: bool = True) -> Judgment:
    """A regression is one for sure, and so is what is fine; the rest is inconclusive.

    A run that is not valid proves nothing fine. If both sides were measured in turns (`paired`), it still proves a
    regression, and a gain: what disturbed the one disturbed the other.
    """
    if ci95[0] > limit and (valid or paired):
        return "regression"
    return "ok" if ci95[1] <= limit and (valid or (paired and ci95[1] < 0)) else "inconclusive"


def _interleaved(report: BenchReport) -> _Pair:
    def slowdown(scope: Scope) -> tuple[float, Interval]:
        ratio = report.ratio(baseline, scope)
        return 1 / ratio.ratio - 1, (1 / ratio.ci95[1] - 1, 1 / ratio.ci95[0] - 1)

    baseline, candidate = report.ratios[0].baseline, report.ratios[0].candidate
    old, new = _scopes(report, baseline), _scopes(report, candidate)
    return _Pair("interleaved in one run", old, new, slowdown, [])


def _two_runs(old_report: BenchReport, new_report: BenchReport) -> _Pair:
    def slowdown(scope: Scope) -> tuple[float, Interval]:
        before, after = (block_medians(side[scope].samples_ms, side[scope].blocks) for side in (old, new))
        low, high = unpaired_interval(before, after)
        return new[scope].p50_ms / old[scope].p50_ms - 1, (low - 1, high - 1)

    old, new = (_scopes(report, report.candidate) for report in (old_report, new_report))
    _check_machines(old_report, new_report, old, new)
    return _Pair("two runs", old, new, slowdown, _flags(old_report, new_report, old, new))


def _scopes(report: BenchReport, name: str) -> Scopes:
    return {result.scope: result for result in report.results if result.name == name}


def _check_machines(old: BenchReport, new: BenchReport, *sides: Scopes) -> None:
    """Times of two machines say nothing about two artifacts."""
    threads = [next(iter(side.values())).threads for side in sides]
    for what, one, other in (
        ("processors", old.machine.cpu, new.machine.cpu),
        ("numbers of cores", old.machine.cores, new.machine.cores),
        ("boards", _board(old), _board(new)),
        ("numbers of threads", *threads),
        ("frames", *(side["frame"].frame if all("frame" in one for one in sides) else None for side in sides)),
    ):
        if one != other:
            raise InputError(
                f"the two runs had different {what}: {one}, then {other}; measure both on one machine, or give "
                "edgevl compare the two bundles"
            )


def _board(report: BenchReport) -> tuple[str, str | None] | None:
    board = report.machine.board
    return (board.model, board.power_mode) if board else None


def _flags(old: BenchReport, new: BenchReport, *sides: Scopes) -> list[Flag]:
    """Whether it is the machine that changed: its yardstick, or the same artifact with another time."""
    flags = []
    peaks = [report.machine.peak.gmacs.get("fp32") for report in (old, new) if report.machine.peak]
    if len(peaks) == 2 and peaks[0] and peaks[1] and apart(peaks[0], peaks[1]):
        text = f"the machine's own matrix product went from {peaks[0]:g} to {peaks[1]:g} GMAC/s between the runs"
        flags.append(Flag(code="machine_speed", text=text))
    for scope in JUDGED:
        results = [side[scope] for side in sides if scope in side]
        same = len(results) == 2 and results[0].artifact_sha256 == results[1].artifact_sha256 is not None
        if same and apart(results[0].p50_ms, results[1].p50_ms):
            text = f"{scope}: the same artifact took {results[0].p50_ms:.4g} ms, then {results[1].p50_ms:.4g} ms"
            flags.append(Flag(code="not_repeatable", text=f"{text} at p50 (at most {NOISE_DRIFT:.0%} apart)"))
    return flags


def _accuracy(old: BenchResult, new: BenchResult, limit: float) -> tuple[Drop | None, list[str]]:
    """What is lost, or why that is not known."""
    for when, result in (("old", old), ("new", new)):
        if result.accuracy is None:
            return None, [f"accuracy is not known of the {when} artifact: edgevl verify it, then measure again"]
    assert old.accuracy and new.accuracy
    about = [(part.samples, part.data, part.metric) for part in (old.accuracy, new.accuracy)]
    if about[0] != about[1]:
        same = about[0][2] == about[1][2]
        names = ["" if same else f" ({metric_title(metric).lower()})" for _, _, metric in about]
        texts = [f"{samples} samples of {data}{name}" for (samples, data, _), name in zip(about, names)]
        return None, [f"accuracy is of {texts[0]} and of {texts[1]}: edgevl verify both on the same"]
    points = 100 * (old.accuracy.share - new.accuracy.share)
    verdict = "regression" if points > limit + 1e-9 else "ok"
    shares = {"old": old.accuracy.share, "new": new.accuracy.share}
    samples, data, metric = about[0]
    found = Drop(**shares, points=points, limit=limit, samples=samples, data=data, verdict=verdict, metric=metric)
    return found, []


def _advice(part: Speed) -> str:
    if part.verdict != "inconclusive":
        return ""
    if part.ci95[1] <= part.limit:
        return ", since a run is not valid (a note says why): measure again on a quieter machine"
    return ", measure longer or on a quieter machine"


def _side(source: str | Path, result: BenchResult) -> Side:
    return Side(source=str(source), name=result.name, artifact_sha256=result.artifact_sha256, runtime=result.runtime)


def describe_speed(part: Speed) -> str:
    low, high = (100 * end for end in part.ci95)
    how = f"{100 * abs(part.slowdown):.1f} % {'slower' if part.slowdown > 0 else 'faster'}"
    change = f"{part.old_ms:.2f} to {part.new_ms:.2f} ms, {how} (95 %: {low:+.1f} to {high:+.1f} %)"
    return change if part.verdict == "not judged" else f"{change}, at most {100 * part.limit:g} % slower is allowed"


def describe_drop(part: Drop) -> str:
    change = f"{100 * part.old:.2f} % to {100 * part.new:.2f} %, {part.points:+.2f} points lost"
    return f"{change} on {part.samples} samples of {part.data}, at most {part.limit:g} allowed"
