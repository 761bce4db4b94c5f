"""`edgevl bench`."""

from pathlib import Path
from typing import Annotated

import typer

from edgevl.cli import console, show
from edgevl.cli.command import Json, command, model_argument
from edgevl.errors import BudgetFailed, InputError


def add_to(app: typer.Typer) -> None:
    command(app, "bench", example="edgevl bench nano-onnx-fp32.edgevl --preset quick --out bench.json")(bench)


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
    from edgevl.bench import run_bench

    _check_out(out)
    options = {} if against is None else {"against": [name.strip() for name in against.split(",") if name.strip()]}
    with console.progress_bar("bench") as progress:
        result = run_bench(model_argument(bundle), preset=preset, threads=threads, progress=progress, **options)
    data = result.to_json()
    if out:
        out.write_text(console.to_json(data), encoding="utf-8")
    console.print_json(data) if json else show.bench(data)
    if min_ratio is not None:
        _check_ratios(data["ratios"], min_ratio)
    console.next_commands(f"edgevl report {bundle or ''} --bench {out or 'bench.json'}")


def _check_out(out: Path | None) -> None:
    """Before the work, not after minutes of it."""
    if out and (out.is_dir() or not out.parent.is_dir()):
        raise InputError(f'"{out}" cannot be written: give a file in a folder that exists with --out')


def _check_ratios(ratios: list[dict], wanted: float) -> None:
    whole = [ratio for ratio in ratios if ratio["scope"] == "pipeline"]
    low = [show.faster(ratio) for ratio in whole if ratio["ratio"] < wanted]
    if low:
        raise BudgetFailed(f"{'; '.join(low)}; wanted {wanted:g}x")
