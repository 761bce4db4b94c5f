"""`edgevl pretrain` and `edgevl finetune`: a recipe, overrides, one call."""

from pathlib import Path
from typing import Annotated

import typer

from edgevl.cli import console
from edgevl.cli.command import command

Recipe = Annotated[str, typer.Argument(help="A recipe file, or the name of one that comes with EdgeVL.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, e.g. optimizer.lr=0.001", metavar="KEY=VALUE")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of the same run.")]


def add_to(app: typer.Typer) -> None:
    command(app, "pretrain", example="edgevl pretrain pretrain_scenes_nano steps=200 out=runs/try")(pretrain)
    command(app, "finetune", example="edgevl finetune finetune_scenes_vqa_nano out=runs/vqa")(finetune)


def pretrain(recipe: Recipe, overrides: Overrides = None, resume: Resume = False) -> None:
    """Pretrain with masked words, matching, contrast, and the three visual losses."""
    from edgevl.training import pretrain as stage

    folder = stage.run(Path(recipe), overrides or [], resume=resume)
    console.result(str(folder))
    console.next_commands(f"edgevl finetune finetune_scenes_vqa_nano init={folder}")


def finetune(recipe: Recipe, overrides: Overrides = None, resume: Resume = False) -> None:
    """Fine-tune a pretrained model for a task."""
    from edgevl.training import finetune as stage

    folder = stage.run(Path(recipe), overrides or [], resume=resume)
    console.result(str(folder))
    console.next_commands(f"edgevl export {folder} --target onnx")
