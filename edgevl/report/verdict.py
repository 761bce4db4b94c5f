"""What the measured sections support, in a sentence and a few points, and nothing more."""

from collections.abc import Sequence

from edgevl.bench.schema import BenchReport, BenchResult, Ratio
from edgevl.bench.titles import title_of
from edgevl.bundle.manifest import metric_title
from edgevl.report.formats import format_factor, format_ms
from edgevl.report.runs import SCOPES, is_untrained, sides_of
from edgevl.report.sections import Accuracy, Artifact, Point, Verdict

MANY = 3  # more opponents than that are a range in the headline


def derive_verdict(
    artifacts: Sequence[Artifact], accuracy: Sequence[Accuracy], benches: Sequence[BenchReport]
) -> Verdict:
    """The verdict of these sections: first what is proved, then, if the timing is valid, how fast.

    The headline is of the first benchmark; the points are of all.
    """
    points = [*_artifact_points(artifacts), *_accuracy_points(accuracy)]
    for bench in benches:
        points += _bench_points(bench, len(benches) > 1, not artifacts)
    sentence = "; ".join([*_verification(artifacts), *_speed(benches[:1])]) or "Nothing was measured"
    return Verdict(sentence[0].upper() + sentence[1:] + ".", points)


def _verification(artifacts: Sequence[Artifact]) -> list[str]:
    failed = [artifact.name for artifact in artifacts if artifact.ok is False]
    if failed:
        return [f"verification failed for {', '.join(failed)}"]
    if not artifacts or not all(artifact.ok for artifact in artifacts):
        return []
    what = "the exported artifact is" if len(artifacts) == 1 else f"{len(artifacts)} exported artifacts are"
    known = [artifact.accuracy for artifact in artifacts if artifact.accuracy is not None]
    metrics = {artifact.metric for artifact in artifacts}
    if len(known) < len(artifacts) or len(metrics) > 1:
        return [f"{what} verified"]
    least, most = (f"{100 * share:.1f}" for share in (min(known), max(known)))
    right = "right" if metrics == {"accuracy"} else metric_title(*metrics).lower()
    return [f"{what} verified, {least if least == most else f'{least} to {most}'} % {right}"]


def _speed(benches: Sequence[BenchReport]) -> list[str]:
    """A time that is not valid is no headline: its point says why."""
    if not benches or not benches[0].results:
        return []
    bench = benches[0]
    if not bench.valid:
        return ["the timing is not valid"]
    if not bench.ratios:
        first = next((one for one in bench.results if one.scope == "pipeline"), bench.results[0])
        return [f"{format_ms(first.p50_ms)}, {in_words(first)}"]
    scope = "pipeline" if any(ratio.scope == "pipeline" for ratio in bench.ratios) else bench.ratios[0].scope
    ratios = sorted((ratio for ratio in bench.ratios if ratio.scope == scope), key=lambda ratio: ratio.ratio)
    return [f"{_factors(ratios)}, {in_words(bench.result(ratios[0].candidate, scope))}"]


def _factors(ratios: Sequence[Ratio]) -> str:
    """Against few opponents each, against many the range: never only the one that looks best."""
    least, most = ratios[0], ratios[-1]
    if len(ratios) > MANY and least.ci95[0] > 1:
        ends = f"{format_factor(least.ratio)} to {format_factor(most.ratio)}"
        return f"{ends} faster than {len(ratios)} other pipelines"
    return ", ".join(_factor(ratio) for ratio in reversed(ratios))


def _factor(ratio: Ratio) -> str:
    if ratio.verdict:
        return f"{format_factor(ratio.factor)} {ratio.verdict} than {title_of(ratio.baseline)}"
    return f"neither faster nor slower than {title_of(ratio.baseline)} for sure"


def _artifact_points(artifacts: Sequence[Artifact]) -> list[Point]:
    points = []
    for artifact in artifacts:
        if artifact.accuracy is None:
            points.append(Point(f"{artifact.name}: accuracy not measured", artifact.ok))
            continue
        what = "" if artifact.metric == "accuracy" else f" {metric_title(artifact.metric).lower()}"
        text = f"{artifact.name}: {artifact.accuracy:.1%}{what} on {artifact.samples:,} samples of {artifact.data}"
        if artifact.reference is not None:
            text += f", PyTorch {artifact.reference:.1%} on the same"
        points.append(Point(text, artifact.ok))
    return points


def _accuracy_points(accuracies: Sequence[Accuracy]) -> list[Point]:
    return [
        Point(
            f"{one.overall:.1%} against {one.blind:.1%} for a model that sees no picture ({one.data})",
            one.overall > one.blind,
        )
        for one in accuracies
        if one.overall is not None and one.blind is not None
    ]


def _bench_points(bench: BenchReport, several: bool, alone: bool) -> list[Point]:
    """`several`: benchmarks, so that each says where it was. `alone`: no bundle says how accurate the artifact is."""
    machine = bench.machine
    where = f" on {machine.board.model if machine.board else machine.cpu}" if several else ""
    points = [_ratio_point(bench, ratio, where) for ratio in bench.ratios if ratio.scope == "pipeline"]
    if not bench.ratios:
        results = sorted(bench.results, key=lambda result: SCOPES.index(result.scope))
        points += [_time_point(result, where) for result in results]
    counted = next((result for result in bench.results if result.accuracy), None)
    if counted and counted.accuracy and (alone or machine.board):
        what = "" if counted.accuracy.metric == "accuracy" else f" {counted.accuracy.title.lower()}"
        share, samples = f"{counted.accuracy.share:.1%}{what}", f"{counted.accuracy.samples:,}"
        points.append(Point(f"{counted.name}{where}: {share} on {samples} samples of {counted.accuracy.data}"))
    if not bench.valid:
        points.append(
            Point(f"the timing{where} is not valid under its preset: see the reasons below its numbers", False)
        )
    return points


def _ratio_point(bench: BenchReport, ratio: Ratio, where: str) -> Point:
    """Met if it is faster for sure. What is not valid proves nothing, neither that it is nor that it is not."""
    ours, theirs = sides_of(bench, ratio)
    low, high = (format_factor(value) for value in ratio.ci95)
    valid = ours.valid and theirs.valid
    remarks = [f"95%: {low} to {high}", *["not valid"] * (not valid), *["untrained weights"] * is_untrained(theirs)]
    times = f"{format_ms(ours.p50_ms)} against {format_ms(theirs.p50_ms)}"
    text = f"{_factor(ratio)}{where}: {times} ({', '.join(remarks)})"
    return Point(text, ratio.ci95[0] > 1 if valid else None, doubtful=not valid)


def in_words(result: BenchResult) -> str:
    """Return what a scope is, in the words of a model that reads a picture, words or both: its stages say which."""
    if result.scope in ("model", "end_to_end"):
        return "the model alone" if result.scope == "model" else "from a fresh process to its answer"
    picture = "picture" if result.scope == "pipeline" else "camera frame"
    read = [name for stage, name in (("resize", picture), ("tokenize", "words")) if stage in result.stages]
    return f"{' and '.join(read or (picture, 'words'))} to answer"


def _time_point(result: BenchResult, where: str) -> Point:
    text = f"{result.name}{where}: {format_ms(result.p50_ms)}, {in_words(result)}"
    return Point(text + ("" if result.valid else " (not valid)"), doubtful=not result.valid)
