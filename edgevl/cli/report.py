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
    bench: Annotated[
        list[Path] | None, typer.Option(help="JSON of edgevl bench --out or of a board. May be given again.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Title of the page.")] = "EdgeVL report",
) -> None:
    """Write one self-contained HTML page of what was measured on bundles and by benchmarks of them."""
    from edgevl.report import sections_from, write_report

    if not bundles and not bench:
        raise InputError("nothing to report: give at least one bundle, or --bench FILE")
    if out.is_file() and not _is_page(out):
        raise InputError(f'"{out}" exists and is no report: choose another file with --out')
    page = write_report(out, title=title, **sections_from(bundles or [], bench or []))
    console.result(str(page))
    console.next_commands(console.open_in_browser(page))


def _is_page(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(64).lower().startswith(b"<!doctype html")
