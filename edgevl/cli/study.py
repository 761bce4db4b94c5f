"""`edgevl study`."""

from pathlib import Path
from typing import Annotated

import typer

from edgevl.cli import console
from edgevl.cli.command import command
from edgevl.cli.progress import progress_bar
from edgevl.errors import InputError

Option = typer.Option


def add_to(app: typer.Typer) -> None:
    command(app, "study", example="edgevl study --preset quick --out runs/study-quick")(study)


def study(
    preset: Annotated[str, Option(help="quick, full, sprint, or a YAML file.")] = "quick",
    out: Annotated[Path, Option(help="Folder of the study. What is finished in it is not run again.")] = Path(
        "runs/study"
    ),
    only: Annotated[str | None, Option(help="One row, ARM/STAGE/SEED, or the beginning of some: all/vqa.")] = None,
    again: Annotated[bool, Option("--again", help="Run the chosen rows anew.")] = False,
    taken: Annotated[
        Path | None, Option("--from", help="A results.json of this preset: its rows are not run again.")
    ] = None,
    show: Annotated[bool, Option("--show", help="List the rows (of --only) and their scores; run nothing.")] = False,
    publish: Annotated[Path | None, Option(help="Folder of documents that gets study.md, study.json, images.")] = None,
    results: Annotated[Path | None, Option(help="With --publish: a results.json; nothing is run.")] = None,
) -> None:
    """Test the three claims, or rank changes of the recipe (sprint): a resumable grid of runs, and a page of it."""
    from edgevl.training.study.grid import run_study
    from edgevl.training.study.page import publish as write_page
    from edgevl.training.study.results import load_results

    if show:
        _show(preset, out, only, taken)
        return
    if results is None:
        with progress_bar("study") as progress:
            results = run_study(preset, out, only, again, taken, console.note, progress)
        page = write_page(results, publish or out)
        console.result(str(results))
    elif publish is None:
        raise InputError("--results only makes the page: say where, for example --publish docs")
    else:
        page = write_page(results, publish)
        preset, out = load_results(results)["preset"]["name"], results.parent
    console.note(f"the page: {page}")
    console.next_commands(["edgevl", "study", "--preset", preset, "--out", out, "--show"])


def _show(preset: str, out: Path, only: str | None, taken: Path | None) -> None:
    from edgevl.training.study.grid import row_scores
    from edgevl.training.study.preset import load_preset

    rows = [
        [name, "-" if score is None else f"{score:.3f}", state]
        for name, score, state in row_scores(load_preset(preset), out, only, taken)
    ]
    console.table(f"study in {out}", ["row", "score", "state"], rows)
    source = [] if taken is None else ["--from", taken]
    console.next_commands(["edgevl", "study", "--preset", preset, "--out", out, *source])
