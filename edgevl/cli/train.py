"""`edgevl pretrain`, `edgevl finetune` and `edgevl distill`: a recipe, overrides, one call."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from edgevl.cli import console
from edgevl.cli.command import command
from edgevl.cli.progress import progress_bar

Recipe = Annotated[str, typer.Argument(help="A recipe file, or the name of one that comes with EdgeVL.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes to the recipe, e.g. optimizer.lr=3e-4", metavar="KEY=VALUE")
]
Out = Annotated[Path | None, typer.Option(help="Folder of the run. Default: runs/NAME of the recipe.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of the same run.")]


def add_to(app: typer.Typer) -> None:
    command(app, "pretrain", example="edgevl pretrain pretrain_scenes_nano steps=200 --out runs/try")(pretrain)
    command(app, "finetune", example="edgevl finetune finetune_scenes_nano init=runs/try/model")(finetune)
    command(app, "distill", example="edgevl distill distill_scenes_nano teacher=runs/big/model")(distill)


def pretrain(recipe: Recipe, overrides: Overrides = None, out: Out = None, resume: Resume = False) -> None:
    """Pretrain with masked words, matching, contrast, and the three visual losses."""
    from edgevl.training.pretrain import run

    with progress_bar("pretrain") as progress, how_to_resume("pretrain", recipe, overrides, out):
        folder = run(recipe, overrides, out=out, resume=resume, progress=progress, note=console.note)
    show_run(folder)
    console.next_commands(["edgevl", "finetune", "finetune_scenes_nano", f"init={folder / 'model'}"])


def finetune(recipe: Recipe, overrides: Overrides = None, out: Out = None, resume: Resume = False) -> None:
    """Fine-tune a model to answer questions, to judge statements, or to find pictures."""
    from edgevl.training.finetune import run

    with progress_bar("finetune") as progress, how_to_resume("finetune", recipe, overrides, out):
        folder = run(recipe, overrides, out=out, resume=resume, progress=progress, note=console.note)
    show_run(folder)
    _what_next(folder)


def distill(recipe: Recipe, overrides: Overrides = None, out: Out = None, resume: Resume = False) -> None:
    """Fine-tune a student that also learns from a teacher: its logits, tokens, relations, attention."""
    from edgevl.training.distill import run

    with progress_bar("distill") as progress, how_to_resume("distill", recipe, overrides, out):
        folder = run(recipe, overrides, out=out, resume=resume, progress=progress, note=console.note)
    show_run(folder)
    _what_next(folder)


def show_run(folder: Path) -> None:
    """Print the folder of a run, and on stderr what it came to: the loss and the scores of its last step."""
    from edgevl.training.metric_log import METRICS, read_rows

    console.result(str(folder))
    rows = read_rows(folder / METRICS)
    last = {name: value for row in rows if row["step"] == rows[-1]["step"] for name, value in row.items()}
    shown = {name: value for name, value in last.items() if name == "loss" or name.startswith("val_")}
    console.note(f"{last['step']:,} steps: {', '.join(f'{name} {value:.4g}' for name, value in shown.items())}")


def _what_next(folder: Path) -> None:
    """Say what to do with a trained model."""
    model = folder / "model"
    first = ["edgevl", "export", model, "--target", "onnx"]
    if _finds_pictures(model / "config.json"):
        first = ["edgevl", "search", "photos", "a red car", "--model", model]
    console.next_commands(first, ["tensorboard", "--logdir", folder])


def _finds_pictures(config: Path) -> bool:
    from edgevl.config import DUAL_ENCODER
    from edgevl.reading import read_json

    return config.is_file() and read_json(config).get("kind") == DUAL_ENCODER


@contextlib.contextmanager
def how_to_resume(stage: str, recipe: str, overrides: list[str] | None, out: Path | None) -> Iterator[None]:
    """Say after Ctrl-C how the run goes on."""
    try:
        yield
    except KeyboardInterrupt:
        place = [] if out is None else ["--out", out]
        console.next_commands(["edgevl", *stage.split(), recipe, *(overrides or []), *place, "--resume"])
        raise
