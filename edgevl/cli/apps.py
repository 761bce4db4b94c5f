"""`edgevl app`: what apps on other platforms need."""

from pathlib import Path
from typing import Annotated

import typer

from edgevl.cli import console
from edgevl.cli.command import Force, Json, command, command_group
from edgevl.cli.progress import progress_bar


def add_to(app: typer.Typer) -> None:
    group = command_group(app, "app", "What apps on other platforms need.")
    command(group, "conformance", example="edgevl app conformance --out conformance --only small")(conformance)


def conformance(
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("conformance"),
    only: Annotated[str | None, typer.Option(help='"small": without the embedded model.')] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write bundles, pictures and texts with what must come out of them, for readers in any language."""
    from edgevl.app.conformance import write_conformance

    with progress_bar("conformance") as progress:
        folder, counts = write_conformance(out, only, force, progress)
    if json:
        console.print_json({"folder": str(folder), "cases": counts})
        return
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    console.result(f"wrote {folder}: {said}")
