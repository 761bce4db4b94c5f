"""One self-contained HTML page of what was measured: verdict first, every figure beside the artifact it belongs to.

Fill the sections (`edgevl.report.sections`), or let `sections_from` read bundles and benchmarks, and call
`write_report`. The page makes no request, runs no script, and reads in light, in dark and on a phone.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgevl.bench.machine import describe_machine
from edgevl.bench.schema import BenchReport, BenchResult, Machine
from edgevl.bench.titles import published, title_of
from edgevl.bundle.folder import write_atomically
from edgevl.bundle.manifest import Hazard, metric_title
from edgevl.errors import InputError
from edgevl.plain import plain
from edgevl.report import formats
from edgevl.report.figures import thumbnail_uri
from edgevl.report.fill import accuracy_from_bundle, artifact_from_bundle, sections_from
from edgevl.report.runs import SCOPES, Run, doubts, is_untrained, stage_parts
from edgevl.report.sections import Accuracy, Artifact, Example, KindAccuracy, Point, Verdict
from edgevl.report.verdict import derive_verdict

__all__ = [
    "Accuracy",
    "Artifact",
    "Example",
    "KindAccuracy",
    "Point",
    "Verdict",
    "accuracy_from_bundle",
    "artifact_from_bundle",
    "derive_verdict",
    "render_report",
    "sections_from",
    "write_report",
]

TEMPLATE = "template.html"


def write_report(path: str | Path, **sections: Any) -> Path:
    """Write the page of `render_report(**sections)` to `path`, atomically. Returns the path.

    Raises:
        InputError: the path is a folder, its folder cannot be written, the disk is full, or a picture cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f'"{path}" is a folder: name the HTML file to write, for example "{path / "report.html"}"')
    html = render_report(**sections)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'"{path.parent}" cannot be made ({error.strerror}): choose another path') from error
    write_atomically(path, html)
    return path


def render_report(
    *,
    title: str = "EdgeVL report",
    verdict: Verdict | None = None,
    examples: Sequence[Example] = (),
    artifacts: Sequence[Artifact] = (),
    accuracy: Accuracy | Sequence[Accuracy] | None = None,
    bench: BenchReport | Sequence[BenchReport] | None = None,
    machine: Machine | None = None,
    notes: Sequence[str] = (),
    commands: Sequence[str] = (),
) -> str:
    """The page as text.

    Args:
        title: of the page.
        verdict: None derives one from the sections that follow.
        examples: questions answered on pictures.
        artifacts: exported artifacts and what `verify` measured on them.
        accuracy: by kind of question, of one artifact or of several.
        bench: what `edgevl.bench.run_bench` or a board's own script wrote; several stay apart.
        machine: of a page without a benchmark; None describes this machine. A benchmark brings its own.
        notes: sentences for the end, for example where the model came from.
        commands: what to run next.
    Raises:
        InputError: a picture cannot be read.
    """
    accuracies, benches = _several(accuracy), _several(bench)
    runs = [Run(one) for one in benches if one.results]
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            title=title,
            verdict=verdict or derive_verdict(artifacts, accuracies, [run.bench for run in runs]),
            examples=[(example, thumbnail_uri(example.image)) for example in examples],
            answered_by=dict.fromkeys((example.source, example.sha256) for example in examples if example.source),
            artifacts=artifacts,
            accuracy=accuracies,
            runs=runs,
            scopes=[scope for scope in SCOPES if scope != "frame" or any(run.frame for run in runs)],
            machines=[one.machine for one in benches] or [machine or describe_machine()],
            digests=_digests(artifacts, [*accuracies, *examples], runs),
            on_scenes=_is_on_scenes(artifacts, accuracies, benches),
            notes=notes,
            commands=commands,
        )
    )


@functools.cache  # compiling the templates takes longer than filling them
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=lambda value: plain(value) if type(value) is str else value,
    )  # fmt: skip
    environment.filters.update(
        ms=formats.format_ms, tick=formats.format_tick, factor=formats.format_factor, percent=formats.format_share,
        size=formats.format_size, bytes=formats.format_bytes, count=formats.format_count, watts=formats.format_power,
        shares=_shares, reasons=_reasons, doubts=doubts, untrained=is_untrained, stages=stage_parts, timings=_timings,
        title_of=title_of, metric=metric_title,
    )  # fmt: skip
    environment.globals["published"] = published()
    return environment


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) else [value]


def _timings(artifact: Artifact, runs: Sequence[Run]) -> list[tuple[Run, BenchResult]]:
    """What was timed of this very artifact, from picture and words to the answer."""
    return [
        (run, result)
        for run in runs
        for result in run.bench.results
        if result.scope == "pipeline" and result.artifact_sha256 == artifact.sha256 is not None
    ]


def _digests(artifacts: Sequence[Artifact], sections: Sequence[Any], runs: Sequence[Run]) -> dict[str, list[str]]:
    """sha256 -> the names under which the page shows it."""
    named = [(artifact.sha256, artifact.name) for artifact in artifacts]
    named += [(section.sha256, section.source) for section in sections]
    named += [(result.artifact_sha256, result.name) for run in runs for result in run.bench.results]
    found: dict[str, dict[str, None]] = {}
    for sha, name in named:
        if sha:
            found.setdefault(sha, {})[name or "not named"] = None
    return {sha: list(names) for sha, names in found.items()}


def _shares(counts: dict[str, int]) -> list[tuple[str, int, float]]:
    """(name, count, share of all), the largest first."""
    total = max(1, sum(counts.values()))
    return [(name, count, count / total) for name, count in sorted(counts.items(), key=lambda item: -item[1])]


def _reasons(hazards: Sequence[Hazard]) -> list[tuple[str, str]]:
    """(why, "Gather 2, Not"): one line for each reason."""
    operators: dict[str, list[str]] = {}
    for hazard in hazards:
        count = f" {hazard.count:,}" if hazard.count > 1 else ""
        operators.setdefault(hazard.why, []).append(hazard.op + count)
    return [(why, ", ".join(names)) for why, names in operators.items()]


def _is_on_scenes(artifacts: Sequence[Artifact], accuracy: Sequence[Accuracy], benches: Sequence[BenchReport]) -> bool:
    specs = [section.data for section in (*artifacts, *accuracy)]
    specs += [result.accuracy.data for bench in benches for result in bench.results if result.accuracy]
    return any(spec is not None and spec.startswith("scenes") for spec in specs)
