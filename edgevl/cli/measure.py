"""`edgevl report`."""

from pathlib import Path
from typing import Annotated

import typer

from edgevl.cli import console
from edgevl.cli.command import command
from edgevl.errors import InputError


def add_to(app: typer.Typer) -> None:
    command(app, "report", example="edgevl report nano-onnx-fp32.edgevl --bench bench.json --out report.html")(report)


def report(
    bundles: Annotated[list[Path] | None, typer.Argument(help="Bundles whose measurements are shown.")] = None,
    bench: Annotated[Path | None, typer.Option(help="JSON written by edgevl bench --out.")] = None,
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Title of the page.")] = "EdgeVL report",
) -> None:
    """Write one self-contained HTML page of what was measured on bundles and by a benchmark."""
    from edgevl.report import accuracy_from_bundle, artifact_from_bundle, write_report

    if not bundles and not bench:
        raise InputError("nothing to report: give at least one bundle, or --bench FILE")
    page = write_report(
        out,
        title=title,
        artifacts=[artifact_from_bundle(bundle) for bundle in bundles or []],
        accuracy=accuracy_from_bundle(bundles[0]) if bundles else None,
        bench=_read_bench(bench) if bench else None,
    )
    console.result(str(page))
    console.next_commands(f"open {page} in a browser")


def _read_bench(path: Path):
    from pydantic import ValidationError

    from edgevl.bench import BenchReport

    if not path.is_file():
        raise InputError(f'there is no file "{path}": write it with edgevl bench --out')
    try:
        return BenchReport.model_validate_json(path.read_bytes())
    except ValidationError:
        raise InputError(f'"{path}" is not a benchmark: write one with edgevl bench --out') from None
