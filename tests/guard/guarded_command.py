"""A command that works in a child process, and does what a test says. It needs no library, so it starts at once.

python guarded_command.py work SECONDS FUNCTION ARGUMENTS...   # of guarded_work.py; arguments are Python
"""

import ast
import sys

import guarded_work as work  # pyright: ignore[reportMissingImports]
import typer

from edgevl.cli import app as application
from edgevl.cli.command import command
from edgevl.cli.limited import in_child
from edgevl.guard import children

app = typer.Typer(callback=lambda: None)


def work_command(seconds: float, name: str, arguments: list[str] | None = typer.Argument(None)) -> None:
    in_child(seconds, 0.5)
    print("a library prints this")
    application.console.result(str(getattr(work, name)(*map(ast.literal_eval, arguments or []))))


if __name__ == "__main__":
    command(app, "work", example="edgevl work")(work_command)
    application.app = app
    children._LEAVES_S = 1.0
    sys.exit(application.main())
