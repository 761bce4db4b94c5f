"""`edgevl data …`: data sets written out to be looked at."""

from pathlib import Path
from typing import Annotated

import typer

from edgevl.cli import console
from edgevl.cli.command import Force, command


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Write a data set out, to look at it or to train on it elsewhere.", no_args_is_help=True)
    app.add_typer(group, name="data")
    command(group, "scenes", example="edgevl data scenes --split test --count 100 --out scenes-test")(scenes)


def scenes(
    split: Annotated[str, typer.Option(help="train, val, test, test_style or test_pairs.")] = "test",
    count: Annotated[int, typer.Option(min=1, help="Scenes to write.")] = 100,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: scenes-SPLIT.")] = None,
    seed: Annotated[int, typer.Option(help="The same (split, seed, index) gives the same bytes everywhere.")] = 0,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side of the pictures in pixels.")] = 128,
    shards: Annotated[bool, typer.Option("--shards", help="Write WebDataset shards (.tar), not single files.")] = False,
    force: Force = False,
) -> None:
    """Write Scenes: images, annotations, and a contact sheet."""
    from edgevl.data.scenes import materialize

    target = out or Path(f"scenes-{split}")
    with console.progress_bar("scenes") as progress:
        folder = materialize(split, count, target, seed, size, force, progress, shards)
    console.result(str(folder))
    console.next_commands(f"open {folder / 'contact_sheet.png'}", "edgevl pretrain --help")
