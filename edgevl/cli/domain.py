"""`edgevl domain …`: what a model was trained on, as numbers, and how well they tell when not to trust an answer."""

from pathlib import Path
from typing import Annotated

import typer

from edgevl.cli import console, show_domain
from edgevl.cli.command import Force, Json, command, command_group, model_argument
from edgevl.cli.progress import progress_bar


def add_to(app: typer.Typer) -> None:
    group = command_group(app, "domain", "Tell when an answer is not to be trusted, and measure how well.")
    command(group, "fit", example="edgevl domain fit runs/finetune_scenes_nano/model")(fit)
    command(group, "measure", example="edgevl domain measure nano")(measure)


def fit(
    model: Annotated[Path, typer.Argument(help="A model folder. Fine-tuning does this by itself at its end.")],
    train: Annotated[str | None, typer.Option(help="Training data. Default: as its training.json says.")] = None,
    val: Annotated[str | None, typer.Option(help="Held-out data. Default: as its training.json says.")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Of training, 200 to 5,000.")] = 500,
    questions: Annotated[int, typer.Option(min=1, help="Held out, at least 200.")] = 2000,
    force: Force = False,
) -> None:
    """Write domain.json into a model folder: `predict` then says when an answer is not to be trusted."""
    from edgevl.domain.judge import DOMAIN
    from edgevl.errors import InputError
    from edgevl.training.domain import fit_domain

    file = model / DOMAIN
    if file.exists() and not force:
        raise InputError(f"{file} exists: add --force to replace it")
    with progress_bar("domain") as progress:
        fit_domain(model, train, val, pictures, questions, progress)
    console.result(str(file))
    console.next_commands(["edgevl", "domain", "measure", model], ["edgevl", "export", model])


def measure(
    model: Annotated[str, typer.Argument(help="A bundle or a model folder; `nano` is the embedded model.")] = "nano",
    samples: Annotated[int, typer.Option(min=1, help="Questions of each split of Scenes.")] = 1000,
    json: Json = False,
) -> None:
    """Count how often photographs, noise, foreign words and Scenes are flagged, and how right a confidence is."""
    from edgevl.domain.rates import measure as rates

    with progress_bar("domain") as progress:
        report = rates(model_argument(model), samples, progress).model_dump(mode="json")
    console.print_json(report) if json else show_domain.rates(report)
    console.next_commands(["edgevl", "predict", model, "sample", "what color is the car?"])
