"""`edgevl data …`: data sets written out to be looked at, and the detector that annotates pictures without boxes.

The detector's training is here and not a command of its own: a detector is no model of this toolkit, only a source of
regions and boxes for the training of one.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgevl.cli import console
from edgevl.cli.command import Force, Json, command, command_group
from edgevl.cli.progress import progress_bar
from edgevl.cli.train import Out, Overrides, Recipe, Resume, how_to_resume, show_run

PROBLEMS = {
    "missing": "missing pictures, left out",
    "outside": "names that lead elsewhere, left out",
    "broken": "pictures that cannot be read, left out",
    "duplicate": "pictures that are there twice, their texts joined",
    "leak": "pictures in two splits, left out of the one nearer to training",
    "alike": "pictures that look like one of another split (see if they show the same)",
}


def add_to(app: typer.Typer) -> None:
    group = command_group(app, "data", "Import photos of your own, write a data set out, or annotate one.")
    command(group, "import", example="edgevl data import photos.csv --out data")(import_)
    command(group, "scenes", example="edgevl data scenes --split test --count 100 --out scenes-test")(scenes)
    command(group, "detector", example="edgevl data detector detect_scenes steps=200 --out runs/detector")(detector)
    example = "edgevl data annotate scenes:train --detector runs/detect_scenes/model --out boxes.jsonl"
    command(group, "annotate", example=example)(annotate)


def import_(
    table: Annotated[Path, typer.Argument(help="CSV, TSV, JSON or JSON Lines: image and question, answer or caption.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the pictures. Default: that of the table.")] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Check a table beside photos, and write a folder that `data=FOLDER` of a recipe trains on."""
    from edgevl.data.photos import import_table

    with progress_bar("import") as progress:
        report = import_table(table, out, images, force, progress)
    if json:
        console.print_json(report | {"folder": str(out)})
    else:
        _show_import(report)
        console.result(str(out))
    console.next_commands(["edgevl", "finetune", "finetune_photos_nano", f"data={out}"])


def _show_import(report: dict[str, Any]) -> None:
    """Print what was read, and each kind of problem with its first cases."""
    console.note(f"{report['source']}: {report['encoding']}, {report['delimiter']}")
    columns = ["pictures", "questions", "captions"]
    rows = [[split, *(f"{counts[name]:,}" for name in columns)] for split, counts in report["splits"].items()]
    console.table("Imported", ["split", *columns], rows)
    if report["labels"]:
        once, outside = report["answers_that_occur_once"], report["splits"]["test"]["outside_labels"]
        console.note(
            f"{report['labels']:,} answers in train are the labels; {outside:,} questions of test have another"
        )
        if once["count"]:
            names = ", ".join(once["first"][:5])
            console.note(f"{once['count']:,} answers occur once, too seldom to be learned: {names} …")
    if (blind := report["blind_accuracy"]) is not None:
        console.note(f"the text alone answers {100 * blind:.1f} % of the questions: a model must do better")
    for kind, count in report["problems"].items():
        console.note((f"{PROBLEMS[kind]}: {count:,}", "bold"))
        for problem in report["first_problems"][kind][:3]:
            console.note(f"  line {problem['line']}: {problem['problem']}")


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
    from edgevl.errors import InputError
    from edgevl.regions.detector import load_detector

    if out.exists() and not force:
        raise InputError(f"{out} exists: add --force to replace it, or choose another file with --out")
    with progress_bar("annotate") as progress:
        write(load_detector(detector), data, count, out, seed, threshold, progress)
    console.result(str(out))
    console.next_commands(["edgevl", "pretrain", "pretrain_scenes_nano", f"data.annotations={out}"])
