"""`edgevl pretrain`, `edgevl finetune` and `edgevl distill`: a recipe, overrides, one call."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from edgevl.cli import console
from edgevl.cli.command import command

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

    with console.progress_bar("pretrain") as progress, how_to_resume("pretrain", recipe):
        folder = run(recipe, overrides, out=out, resume=resume, progress=progress)
    console.result(str(folder))
    console.next_commands(f"edgevl finetune finetune_scenes_nano init={folder / 'model'}")


def finetune(recipe: Recipe, overrides: Overrides = None, out: Out = None, resume: Resume = False) -> None:
    """Fine-tune a pretrained model to answer questions."""
    from edgevl.training.finetune import run

    with console.progress_bar("finetune") as progress, how_to_resume("finetune", recipe):
        folder = run(recipe, overrides, out=out, resume=resume, progress=progress)
    console.result(str(folder))
    console.next_commands(f"edgevl export {folder / 'model'} --target onnx", f"tensorboard --logdir {folder}")


def distill(recipe: Recipe, overrides: Overrides = None, out: Out = None, resume: Resume = False) -> None:
    """Fine-tune a student that also learns from a teacher: its logits, tokens, relations, attention."""
    from edgevl.training.distill import run

    with console.progress_bar("distill") as progress, how_to_resume("distill", recipe):
        folder = run(recipe, overrides, out=out, resume=resume, progress=progress)
    console.result(str(folder))
    console.next_commands(f"edgevl export {folder / 'model'} --target onnx", f"tensorboard --logdir {folder}")


@contextlib.contextmanager
def how_to_resume(stage: str, recipe: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        console.next_commands(f"edgevl {stage} {recipe} --resume, with the same changes and --out")
        raise
