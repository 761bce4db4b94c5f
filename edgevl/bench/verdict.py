"""Was it worth it? For each target: what w8a8 loses against its own float file, and what it saves."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from edgevl.bench.run import time_models, why_not_timed
from edgevl.bench.schema import Ratio
from edgevl.bench.summary import ratio_of
from edgevl.bundle.folder import Bundle
from edgevl.contracts import Sample
from edgevl.errors import EdgeVLError
from edgevl.verify.measure import draw, side_of
from edgevl.verify.run import VerifyReport, verify_bundle

USE, MIXED, NOT_WORTH = "use it", "use it with these modules in float", "not worth it here"
UNKNOWN = "not measured"
MAX_DROP = 0.5  # points of accuracy, unless the user says otherwise


class Verdict(BaseModel):
    """One target. What was not measured is null, and `reason` says why."""

    target: str
    verdict: str
    reason: str
    lost_points: float | None = None  # of accuracy, float file minus int8 file, on the same samples
    accuracy: float | None = None  # of the int8 file
    samples: int | None = None
    data: str | None = None  # that these are of
    bytes: int | None = None
    size_ratio: float | None = None  # int8 file / float file
    speed: Ratio | None = None  # above 1: int8 is faster
    kept_float: tuple[str, ...] = ()


def int8_targets() -> list[str]:
    """The targets that have w8a8."""
    from edgevl.export.registry import get_exporter, target_names

    return [name for name in target_names() if "w8a8" in get_exporter(name).precisions]


def judge_target(
    folder: Path,
    target: str,
    scratch: Path,
    data: str,
    samples: int = 1000,
    max_drop: float = MAX_DROP,
    preset: str = "rapid",
    threads: int = 2,
    kept_float: Sequence[str] = (),
) -> Verdict:
    """Export the model in `folder`, which has a plan, to float and to w8a8, verify and time both, and judge.

    Args:
        folder: what `edgevl quantize` wrote.
        scratch: where both bundles go; they are removed again.
        data: a data specification to judge on.
        samples: how many; of finite data that has fewer, all.
        max_drop: points of the task's first metric that may be lost.
        kept_float: modules that the plan keeps in float, for the text.
    """
    from edgevl.models.kinds import open_deployable

    pair = {precision: scratch / f"{target}-{precision}.edgevl" for precision in ("fp32", "w8a8")}
    try:
        model = open_deployable(folder)
        drawn = draw(data, model.task, samples, side_of(model), least=1)
        reports = {name: _made(folder, target, name, path, data, len(drawn)) for name, path in pair.items()}
        found = _compare(target, pair, reports, drawn[0], preset, threads)
    except EdgeVLError as error:
        return Verdict(target=target, verdict=UNKNOWN, reason=str(error))
    finally:
        for path in pair.values():
            shutil.rmtree(path, ignore_errors=True)
    found = found.model_copy(update={"kept_float": tuple(kept_float)})
    problems = reports["w8a8"].audit.problems
    verdict, reason = (NOT_WORTH, problems[0]) if problems else decide(found, max_drop)
    return found.model_copy(update={"verdict": verdict, "reason": reason})


def _made(folder: Path, target: str, precision: str, path: Path, data: str, samples: int) -> VerifyReport:
    from edgevl.bundle_export import export_bundle

    export_bundle(folder, target, precision, path, force=True, data=data)
    return verify_bundle(path, samples, data, checkpoint=folder, write=False)


def _compare(
    target: str,
    pair: dict[str, Path],
    reports: dict[str, VerifyReport],
    sample: Sample,
    preset: str,
    threads: int,
) -> Verdict:
    bundles = {name: Bundle.open(path) for name, path in pair.items()}
    sizes = {name: bundle.manifest.artifact_bytes for name, bundle in bundles.items()}
    exact, rounded = (reports[name].accuracy for name in ("fp32", "w8a8"))
    speed = None
    if not why_not_timed(target) and exact and rounded:
        models = {name: bundle.opened(threads, remember=0) for name, bundle in bundles.items()}
        traces = time_models(models, sample.query, preset, threads)
        speed = ratio_of(traces["fp32"], traces["w8a8"])
    return Verdict(
        target=target,
        verdict="",
        reason="",
        lost_points=100 * (exact.artifact - rounded.artifact) if exact and rounded else None,
        accuracy=rounded.artifact if rounded else None,
        samples=rounded.samples if rounded else None,
        data=rounded.data if rounded else None,
        bytes=sizes["w8a8"],
        size_ratio=sizes["w8a8"] / sizes["fp32"],
        speed=speed,
    )


def decide(found: Verdict, max_drop: float) -> tuple[str, str]:
    """The verdict and its reason in one sentence."""
    use = MIXED if found.kept_float else USE
    if found.lost_points is None:
        return UNKNOWN, f"{_smaller(found)}; neither accuracy nor speed could be measured on this machine"
    if found.lost_points > max_drop:
        return (
            NOT_WORTH,
            f"it loses {found.lost_points:.2f} points, more than {max_drop:g}: try --max-drop {max_drop:g}",
        )
    if found.speed is None:
        return use, f"{_smaller(found)}; its speed was not measured: {why_not_timed(found.target)}"
    low, high = found.speed.ci95
    if high < 1:
        return NOT_WORTH, f"it is slower here ({found.speed.ratio:.2f}x), if {_smaller(found)}: w8 is as small"
    if low <= 1:
        return use, f"no faster here ({found.speed.ratio:.2f}x), but {_smaller(found)}"
    return use, f"{found.speed.ratio:.2f} times as fast here, {_smaller(found)}"


def _smaller(found: Verdict) -> str:
    return f"{found.size_ratio:.2f} of the size" if found.size_ratio else "of unknown size"
