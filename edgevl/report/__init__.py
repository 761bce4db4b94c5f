"""One self-contained HTML page of what was measured: verdict first, every figure beside the artifact it belongs to.

Fill the sections (`edgevl.report.sections`), or let `artifact_from_bundle` and `accuracy_from_bundle` do it, and call
`write_report`. The page makes no request, runs no script, and reads in light, in dark and on a phone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgevl.bench.machine import describe_machine
from edgevl.bench.schema import BenchReport, Flag, Machine
from edgevl.bundle import write_atomically
from edgevl.errors import InputError
from edgevl.manifest import Hazard
from edgevl.report.figures import format_ms, latency_plot, thumbnail_uri
from edgevl.report.fill import accuracy_from_bundle, artifact_from_bundle, derive_verdict, format_factor
from edgevl.report.sections import Accuracy, Artifact, Example, KindAccuracy, Point, Verdict

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
    accuracy: Accuracy | None = None,
    bench: BenchReport | None = None,
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
        accuracy: by kind of question.
        bench: what `edgevl.bench.run_bench` returned.
        machine: None takes that of `bench`, else describes this machine.
        notes: sentences for the end, for example where the model came from.
        commands: what to run next.
    Raises:
        InputError: a picture cannot be read.
    """
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            title=title,
            verdict=verdict or derive_verdict(artifacts, accuracy, bench),
            examples=[(example, thumbnail_uri(example.image)) for example in examples],
            artifacts=artifacts,
            accuracy=accuracy,
            bench=bench,
            plot=_plot(bench),
            remarks=_remarks(bench),
            machine=machine or (bench.machine if bench else describe_machine()),
            on_scenes=_is_on_scenes(artifacts, accuracy),
            notes=notes,
            commands=commands,
        )
    )


def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(ms=format_ms, factor=format_factor, percent=_percent, size=_size)
    environment.filters.update(bytes=_bytes, magnitude=_magnitude, shares=_shares, reasons=_reasons)
    return environment


def _plot(bench: BenchReport | None) -> Any:
    from markupsafe import Markup

    if bench is None or not bench.results:
        return None
    # matplotlib escapes the names that it writes into the SVG; the label is ours.
    candidate = bench.ratios[0].candidate if bench.ratios else bench.results[0].name
    return Markup(latency_plot(bench.results, candidate))


def _remarks(bench: BenchReport | None) -> list[tuple[Flag, str]]:
    """Each remark once, those that invalidate first, with the results that it is about."""
    about: dict[tuple[str, str], tuple[Flag, list[str]]] = {}
    results = bench.results if bench else []
    for result in results:
        for flag in result.flags:
            about.setdefault((flag.code, flag.text), (flag, []))[1].append(f"{result.name} ({result.scope})")
    ordered = sorted(about.values(), key=lambda remark: not remark[0].invalidates)
    return [(flag, "all" if len(names) == len(results) else ", ".join(names)) for flag, names in ordered]


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{100 * share:.1f}%"


def _size(count: int | None) -> str:
    return "not measured" if count is None else f"{count / 1e6:.2f} MB"


def _bytes(count: int) -> str:
    """In the unit that leaves one to three digits before the point."""
    return _scaled(count, ((10**6, "MB"), (10**3, "kB")), "B")


def _magnitude(count: int) -> str:
    return _scaled(count, ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")), "")


def _scaled(count: int, units: Sequence[tuple[int, str]], smallest: str) -> str:
    for factor, unit in units:
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} {smallest}".strip()


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


def _is_on_scenes(artifacts: Sequence[Artifact], accuracy: Accuracy | None) -> bool:
    specs = [artifact.data for artifact in artifacts] + [accuracy.data if accuracy else None]
    return any(spec is not None and spec.startswith("scenes") for spec in specs)
