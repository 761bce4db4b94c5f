"""`edgevl bench` and `edgevl report`."""

from pathlib import Path
from typing import Annotated

import typer

from edgevl.cli import console, show
from edgevl.cli.command import Json, command, model_argument
from edgevl.errors import BudgetFailed, InputError


def add_to(app: typer.Typer) -> None:
    command(app, "bench", example="edgevl bench nano-onnx-fp32.edgevl --preset quick --out bench.json")(bench)
    command(app, "report", example="edgevl report nano-onnx-fp32.edgevl --bench bench.json --out report.html")(report)


def bench(
    bundle: Annotated[
        str | None, typer.Argument(help="A bundle or a model folder. Default: the embedded nano.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Opponents, comma-separated. Default: the heavy detector pipeline.")
    ] = None,
    preset: Annotated[str, typer.Option(help="rapid, quick or normal: how many runs.")] = "rapid",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads for every opponent alike. Default: 2, or 1 on a single core.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON here.")] = None,
    min_ratio: Annotated[
        float | None, typer.Option(help="Fail (exit code 5) if any opponent is fewer times slower than this.")
    ] = None,
    json: Json = False,
) -> None:
    """Time the model against detector pipelines, pixels and words to answer, in one run on one machine."""
    from edgevl.bench import compare_with_region

    _check_out(out)
    options = {} if against is None else {"against": [name.strip() for name in against.split(",") if name.strip()]}
    with console.progress_bar("bench") as progress:
        result = compare_with_region(
            model_argument(bundle), preset=preset, threads=threads, progress=progress, **options
        )
    data = result.to_json()
    if out:
        out.write_text(console.to_json(data), encoding="utf-8")
    console.print_json(data) if json else show.bench(data)
    if min_ratio is not None:
        _check_ratios(data["ratios"], min_ratio)
    console.next_commands(f"edgevl report {bundle or ''} --bench {out or 'bench.json'}")


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


def _check_out(out: Path | None) -> None:
    """Before the work, not after minutes of it."""
    if out and (out.is_dir() or not out.parent.is_dir()):
        raise InputError(f'"{out}" cannot be written: give a file in a folder that exists with --out')


def _check_ratios(ratios: list[dict], wanted: float) -> None:
    whole = [ratio for ratio in ratios if ratio["scope"] == "pipeline"]
    low = [show.faster(ratio) for ratio in whole if ratio["ratio"] < wanted]
    if low:
        raise BudgetFailed(f"{'; '.join(low)}; wanted {wanted:g}x")
