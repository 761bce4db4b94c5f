"""How a command is declared: its help carries one example, and what libraries print goes to stderr."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from edgevl.cli.failures import Interrupted
from edgevl.cli.narrow_help import Command, Group
from edgevl.cli.streams import library_output_to_stderr
from edgevl.embedded import EMBEDDED, model_folder

F = TypeVar("F", bound=Callable[..., Any])

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, everything else on stderr.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is already there.")]


def command_group(app: typer.Typer, name: str, help: str) -> typer.Typer:
    """Make `edgevl NAME …`, whose commands are registered on what is returned."""
    group = typer.Typer(cls=Group, help=help, no_args_is_help=True)
    app.add_typer(group, name=name)
    return group


def command(app: typer.Typer, name: str, example: str) -> Callable[[F], F]:
    """Register a function as `edgevl NAME`. `example` is one line that a user can paste."""

    def register(function: F) -> F:
        @functools.wraps(function)
        def run(*args: Any, **options: Any) -> Any:
            try:
                with library_output_to_stderr():
                    return function(*args, **options)
            except KeyboardInterrupt:
                raise Interrupted("interrupted") from None

        app.command(name, epilog=f"Example: {example}", cls=Command)(run)
        return function

    return register


def names(text: str) -> list[str]:
    """Return the names of a text with commas between them."""
    return [name.strip() for name in text.split(",")]


def model_argument(value: str | None) -> Path | None:
    """A model named on the command line: a folder, or an embedded one by its name; None, as `nano`, for the first."""
    folder = model_folder(value) if value is not None else EMBEDDED
    return None if folder == EMBEDDED else folder
