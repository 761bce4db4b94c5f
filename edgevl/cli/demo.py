"""`edgevl demo`."""

from pathlib import Path
from typing import Annotated

import typer

from edgevl.cli import console
from edgevl.cli.command import command
from edgevl.cli.progress import progress_bar
from edgevl.errors import VerificationFailed


def add_to(app: typer.Typer) -> None:
    command(app, "demo", example="edgevl demo --out edgevl-demo")(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the bundles, the measurements and the report.")] = Path(
        "edgevl-demo"
    ),
    samples: Annotated[int, typer.Option(min=1, help="Scenes that each artifact is verified on.")] = 1000,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer samples and timed runs: a look, not a result.")] = False,
) -> None:
    """Do the main job on the embedded model: answer, export, verify, benchmark, and write one report."""
    from edgevl.demo import next_commands, run_demo

    with progress_bar("demo") as progress:
        result = run_demo(out, samples, quick, progress, console.note)
    console.result(str(result.report))
    if not result.ok:
        failed = "; ".join(problem for report in result.verified for problem in report.audit.problems)
        raise VerificationFailed(f"an artifact is not what it claims: {failed}; see {result.report}")
    console.note(f"done in {result.seconds:.0f} s; open {result.report} in a browser")
    console.next_commands(*next_commands(result.bundles))
