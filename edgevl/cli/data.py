"""`edgevl data …`: data sets written out to be looked at, and the detector that annotates pictures without boxes.

The detector's training is here and not a command of its own: a detector is no model of this toolkit, only a source of
regions and boxes for the training of one.
"""

from pathlib import Path
from typing import Annotated

import typer

from edgevl.cli import console
from edgevl.cli.command import Force, command, command_group
from edgevl.cli.progress import progress_bar
from edgevl.cli.train import Out, Overrides, Recipe, Resume, how_to_resume, show_run


def add_to(app: typer.Typer) -> None:
    group = command_group(app, "data", "Write a data set out, or annotate one with a detector.")
    command(group, "scenes", example="edgevl data scenes --split test --count 100 --out scenes-test")(scenes)
    command(group, "detector", example="edgevl data detector detect_scenes steps=200 --out runs/detector")(detector)
    example = "edgevl data annotate scenes:train --detector runs/detect_scenes/model --out boxes.jsonl"
    command(group, "annotate", example=example)(annotate)


def scenes(
    split: Annotated[str, typer.Option(help="train, val, test, test_style or test_pairs.")] = "test",
    count: Annotated[int, typer.Option(min=1, help="Scenes to write.")] = 100,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: scenes-SPLIT.")] = None,
    seed: Annotated[int, typer.Option(help="The same (split, seed, index) gives the same bytes everywhere.")] = 0,
    size: Annotated[int, typer.Option(min=32, max=1024, help="Side of the pictures in pixels.")] = 128,
    shards: Annotated[bool, typer.Option("--shards", help="Write WebDataset shards (.tar), not single files.")] = False,
    force: Force = False,
) -> None:
    """Write Scenes: images, annotations, and a contact sheet."""
    from edgevl.data.scenes import materialize

    target = out or Path(f"scenes-{split}")
    with progress_bar("scenes") as progress:
        folder = materialize(split, count, target, seed, size, force, progress, shards)
    console.result(str(folder))
    console.next_commands(console.open_in_browser(folder / "contact_sheet.png"), ["edgevl", "pretrain", "--help"])


def detector(recipe: Recipe, overrides: Overrides = None, out: Out = None, resume: Resume = False) -> None:
    """Train a detector: for `data annotate`, for region features, for region distillation."""
    from edgevl.training.detect import run

    with progress_bar("detector") as progress, how_to_resume("data detector", recipe, overrides, out):
        folder = run(recipe, overrides, out=out, resume=resume, progress=progress, note=console.note)
    show_run(folder)
    model = folder / "model"
    console.next_commands(
        ["edgevl", "data", "annotate", "scenes:train", "--detector", model, "--out", "boxes.jsonl"],
        ["edgevl", "pretrain", "pretrain_scenes_region", f"detector={model}"],
    )


def annotate(
    data: Annotated[str, typer.Argument(help="NAME:SPLIT, for example scenes:train. Only its pictures are read.")],
    detector: Annotated[Path, typer.Option(help="Folder of a detector.")],
    out: Annotated[Path, typer.Option(help="File to write (JSON Lines).")],
    count: Annotated[int, typer.Option(min=1, help="Pictures to annotate, from the first on.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the data set.")] = 0,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Lowest score of a box that is kept.")] = 0.5,
    force: Force = False,
) -> None:
    """Write the boxes, classes and scores that a detector finds: pseudo-labels for pretraining."""
    from edgevl.data.annotations import annotate as write
    from edgevl.detector import load_detector
    from edgevl.errors import InputError

    if out.exists() and not force:
        raise InputError(f"{out} exists: add --force to replace it, or choose another file with --out")
    with progress_bar("annotate") as progress:
        write(load_detector(detector), data, count, out, seed, threshold, progress)
    console.result(str(out))
    console.next_commands(["edgevl", "pretrain", "pretrain_scenes_nano", f"data.annotations={out}"])
