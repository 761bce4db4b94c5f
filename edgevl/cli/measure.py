"""`edgevl bench` and `edgevl report`."""

from pathlib import Path
from typing import Annotated

import typer

from edgevl.cli import console
from edgevl.cli.command import Json, command, model_argument
from edgevl.errors import BudgetFailed


def add_to(app: typer.Typer) -> None:
    command(app, "bench", example="edgevl bench nano-onnx-fp32.edgevl --against region-heavy --preset quick")(bench)
    command(app, "report", example="edgevl report nano-onnx-fp32.edgevl --bench bench.json --out report.html")(report)


def bench(
    bundle: Annotated[
        str | None, typer.Argument(help="A bundle or a model folder. Default: the embedded nano.")
    ] = None,
    against: Annotated[
        str, typer.Option(help="Opponents, comma-separated: region-heavy, region-light, vilt.")
    ] = "region-heavy",
    preset: Annotated[str, typer.Option(help="rapid, quick or normal: how many runs.")] = "rapid",
    threads: Annotated[int, typer.Option(min=1, help="Threads for every opponent alike.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON here.")] = None,
    min_ratio: Annotated[
        float | None, typer.Option(help="Fail (exit code 5) if any opponent is fewer times slower than this.")
    ] = None,
    json: Json = False,
) -> None:
    """Time the model against detector pipelines, pixels and words to answer, in one run on one machine."""
    from edgevl.bench import compare_with_region

    names = [name.strip() for name in against.split(",") if name.strip()]
    with console.progress_bar("bench") as progress:
        result = compare_with_region(
            model_argument(bundle), against=names, preset=preset, threads=threads, progress=progress
        )
    data = result.to_json()
    if out:
        out.write_text(console.to_json(data), encoding="utf-8")
    if json:
        console.print_json(data)
    else:
        _show_bench(data)
    if min_ratio is not None:
        _check_ratios(data["ratios"], min_ratio)
    console.next_commands(f"edgevl report {bundle or ''} --bench {out or 'bench.json'}")


def report(
    bundles: Annotated[list[Path] | None, typer.Argument(help="Bundles whose measurements are shown.")] = None,
    bench: Annotated[Path | None, typer.Option(help="JSON written by edgevl bench --out.")] = None,
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("report.html"),
) -> None:
    """Write one self-contained HTML page from bundles and measurements."""
    raise NotImplementedError


def _show_bench(data: dict) -> None:
    rows = [
        [r["name"], r["scope"], str(r["n"]), f"{r['p50_ms']:.2f}", f"{r['p90_ms']:.2f}", f"{r['p99_ms']:.2f}"]
        for r in data["results"]
    ]
    console.result(console.table("Milliseconds", ["name", "scope", "n", "p50", "p90", "p99"], rows))
    for ratio in data["ratios"]:
        low, high = ratio["ci95"]
        console.result(f"{_faster(ratio)} (95 %: {low:.1f} to {high:.1f})")


def _check_ratios(ratios: list[dict], wanted: float) -> None:
    low = [_faster(ratio) for ratio in ratios if ratio["ratio"] < wanted]
    if low:
        raise BudgetFailed(f"{'; '.join(low)}; wanted {wanted:g}x")


def _faster(ratio: dict) -> str:
    return f"{ratio['candidate']} is {ratio['ratio']:.1f}x faster than {ratio['baseline']}"
