"""A benchmark as the page shows it: what is drawn, what is marked, and whose it is. No HTML here."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import get_args

from edgevl.bench.schema import BenchReport, BenchResult, Flag, Ratio, Scope, TaskAccuracy
from edgevl.errors import InputError
from edgevl.report.figures import LogAxis, Roof, roof, strip_path

SCOPES: tuple[Scope, ...] = ("pipeline", "frame", "model", "end_to_end")  # what a user waits for comes first
assert set(SCOPES) == set(get_args(Scope))
# Stages that are alike in every pipeline have one color everywhere; whatever else there is takes a gray.
STAGES = {
    "backbone": "backbone", "region features": "features", "fusion": "fusion", "model": "model", "proposals": "nms",
    "decode": "prepare", "convert": "prepare", "resize": "prepare", "tokenize": "prepare", "start, imports": "prepare",
    "load": "features", "query": "model",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Strip:
    """Every sample of one result on the axis of its scope."""

    result: BenchResult
    ours: bool
    path: str
    p50: float  # 0..1 on the axis
    p90: float
    text: str  # the figure in words


@dataclasses.dataclass(frozen=True)
class Distribution:
    scope: Scope
    axis: LogAxis
    strips: list[Strip]


@dataclasses.dataclass(frozen=True)
class RooflineChart:
    """Multiply-adds a byte to the right, GMAC/s upward, both logarithmic; positions are shares of width and height."""

    result: BenchResult
    roofs: list[Roof]
    x: LogAxis
    y: LogAxis
    reached: tuple[float, float]  # x, y of what was measured
    slopes: dict[str, float]  # memory, and a cache where it was measured -> GB/s
    allowed: float  # y of what `roofline.share` compares it with
    gmacs: float  # that were reached, 1e9 a second

    @property
    def labels(self) -> list[tuple[str, float]]:
        """(name of a peak, y), each once: a slope of memory and one of a cache end in the same level."""
        return list({one.label: (one.label, one.y) for one in self.roofs}.values())


@dataclasses.dataclass(frozen=True)
class Run:
    """One benchmark: one machine, one moment. Two of them never share a figure."""

    bench: BenchReport

    @property
    def ours(self) -> str:
        return self.bench.candidate

    @property
    def where(self) -> str:
        machine = self.bench.machine
        threads = self.bench.results[0].threads
        name = machine.board.model if machine.board else machine.cpu
        return f"{name}, {threads} thread{'' if threads == 1 else 's'}, preset {self.bench.preset}"

    @property
    def frame(self) -> str | None:
        """What the scope `frame` begins with."""
        return next((result.frame for result in self.bench.results if result.frame), None)

    @cached_property
    def distributions(self) -> list[Distribution]:
        by_scope = [[result for result in self.bench.results if result.scope == scope] for scope in SCOPES]
        return [_distribution(results, self.ours) for results in by_scope if _timed(results)]

    def staged(self, scope: Scope) -> list[BenchResult]:
        return [result for result in self.bench.results if result.scope == scope and len(result.stages) > 1]

    @property
    def is_staged(self) -> bool:
        return any(len(result.stages) > 1 for result in self.bench.results)

    @property
    def sha256(self) -> str | None:
        """Of the artifact that the benchmark is about."""
        return next((result.artifact_sha256 for result in self.bench.results if result.name == self.ours), None)

    @property
    def accuracy(self) -> TaskAccuracy | None:
        """Of that artifact, where somebody counted."""
        return next((one.accuracy for one in self.bench.results if one.name == self.ours and one.accuracy), None)

    @property
    def baselines(self) -> list[str]:
        return list(dict.fromkeys(ratio.baseline for ratio in self.bench.ratios))

    def notes_of(self, name: str) -> list[str]:
        """What its results say of themselves, each once."""
        return list(dict.fromkeys(note for one in self.bench.results if one.name == name for note in one.notes))

    def ratio(self, baseline: str, scope: Scope) -> Ratio | None:
        found = (one for one in self.bench.ratios if (one.baseline, one.scope) == (baseline, scope))
        return next(found, None)

    def doubts(self, ratio: Ratio) -> str:
        """Why a ratio is not valid: what invalidates either side."""
        return doubts(*sides_of(self.bench, ratio))

    @property
    def rooflines(self) -> list[RooflineChart]:
        return [chart for result in self.bench.results if (chart := _roofline_chart(self.bench, result))]

    @property
    def remarks(self) -> list[tuple[Flag, str]]:
        """Each remark once, those that invalidate first, with the results that it is about."""
        about: dict[tuple[str, str], tuple[Flag, list[BenchResult]]] = {}
        for result in self.bench.results:
            for flag in result.flags:
                about.setdefault((flag.code, flag.text), (flag, []))[1].append(result)
        ordered = sorted(about.values(), key=lambda remark: not remark[0].invalidates)
        everyone = len(self.bench.results)
        return [(flag, "all" if len(who) == everyone else _name_all(who)) for flag, who in ordered]


def sides_of(bench: BenchReport, ratio: Ratio) -> tuple[BenchResult, BenchResult]:
    """The candidate and the baseline of a ratio. Raises `InputError` where a hand-made file has a ratio of nothing."""
    try:
        return bench.result(ratio.candidate, ratio.scope), bench.result(ratio.baseline, ratio.scope)
    except KeyError as error:
        raise InputError(f"a benchmark has a ratio, but {error.args[0]}: write it with edgevl bench --out") from None


def _name_all(results: Sequence[BenchResult]) -> str:
    """ "ours (model, pipeline), vilt (model)" """
    scopes: dict[str, list[str]] = {}
    for result in results:
        scopes.setdefault(result.name, []).append(result.scope.replace("_", " "))
    return ", ".join(f"{name} ({', '.join(some)})" for name, some in scopes.items())


def doubts(*results: BenchResult) -> str:
    """What makes these results invalid, in a few words; empty where they are valid."""
    codes = [flag.code for result in results for flag in result.flags if flag.invalidates]
    if all(result.valid for result in results):
        return ""
    return ", ".join(dict.fromkeys(code.replace("_", " ") for code in codes)) or "flagged"


def is_untrained(result: BenchResult) -> bool:
    """Whether only its time may be claimed, as its notes say: the page repeats it wherever the number stands."""
    return any("untrained" in note for note in result.notes)


def stage_parts(result: BenchResult) -> list[tuple[str, float, float, str]]:
    """(stage, its median in ms, share of the sum of these medians, color), in the order in which they run."""
    total = sum(result.stages.values()) or 1.0
    return [(name, ms, ms / total, _color(name)) for name, ms in result.stages.items()]


def _color(stage: str) -> str:
    return "nms" if "NMS" in stage else STAGES.get(stage, "rest")


def _timed(results: Sequence[BenchResult]) -> bool:
    return any(sample > 0 for result in results for sample in result.samples_ms)


def _distribution(results: list[BenchResult], ours: str) -> Distribution:
    samples = [[sample for sample in result.samples_ms if sample > 0] for result in results]
    axis = LogAxis.over(sample for some in samples for sample in some)
    strips = [_strip(result, some, axis, result.name == ours) for result, some in zip(results, samples) if some]
    return Distribution(results[0].scope, axis, strips)


def _strip(result: BenchResult, samples: list[float], axis: LogAxis, ours: bool) -> Strip:
    text = (
        f"{result.name}, {result.scope}: {len(samples)} queries from {min(samples):.3g} to {max(samples):.3g} ms, half "
        f"of them below {result.p50_ms:.3g} ms, nine of ten below {result.p90_ms:.3g} ms"
    )
    p50, p90 = (_within(axis.place(value)) if value > 0 else 0.0 for value in (result.p50_ms, result.p90_ms))
    return Strip(result, ours, strip_path(samples, axis), p50, p90, text)


def _within(share: float) -> float:
    return min(1.0, max(0.0, share))


def _roofline_chart(bench: BenchReport, result: BenchResult) -> RooflineChart | None:
    """None where the machine's peaks or the artifact's counts are not known."""
    limit, peak = result.roofline, bench.machine.peak
    if limit is None or peak is None or not peak.gmacs or min(limit.macs, limit.bytes, result.p50_ms) <= 0:
        return None
    slopes = {"memory": peak.bandwidth_gbs}
    if limit.bandwidth_gbs and limit.bandwidth_gbs > 1.05 * peak.bandwidth_gbs:
        slopes["cache"] = limit.bandwidth_gbs
    intensity, reached = limit.macs / limit.bytes, limit.macs / result.p50_ms / 1e6
    allowed = reached / limit.share if limit.share > 0 else reached
    best = max(peak.gmacs.values())
    x = LogAxis.over((intensity / 4, intensity * 4, best / min(slopes.values()) / 4))
    y = LogAxis.over((reached / 3, *peak.gmacs.values(), best * 1.2, allowed))
    roofs = [
        roof(f"{dtype} {gmacs:g} GMAC/s", gmacs, slope, x, y)
        for slope in slopes.values()
        for dtype, gmacs in peak.gmacs.items()
    ]
    place = x.place(intensity)
    point = (place, 1 - y.place(reached))
    return RooflineChart(result, roofs, x, y, point, slopes, 1 - y.place(allowed), reached)
