"""`--help` on a narrow terminal: each option on a line of its own, whole, and what it does below it.

typer's table gives six columns to an option and breaks their names where they have no place.
"""

import textwrap
from collections.abc import Iterator
from typing import Any

from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from edgevl.cli import streams
from edgevl.cli.console import NARROW
from edgevl.cli.streams import SafeConsole

_INDENT = "    "
Entry = tuple[str, str]  # a name, and what it does


class Command(TyperCommand):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        if not _narrow(self, ctx):
            super().format_help(ctx, formatter)


class Group(TyperGroup):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        if not _narrow(self, ctx):
            super().format_help(ctx, formatter)


def _narrow(command: Any, ctx: Any) -> bool:
    """Print the help of a command if the terminal is narrow. Says whether it was."""
    console = SafeConsole(streams.result_stream())
    if console.width >= NARROW:
        return False
    for part in (command.get_usage(ctx), command.help or ""):
        console.print(textwrap.fill(" ".join(part.split()), console.width), "\n", sep="")
    for title, entries in _sections(command, ctx):
        _print_section(console, title, entries)
    console.print(textwrap.fill(command.epilog or "", console.width))
    return True


def _sections(command: Any, ctx: Any) -> Iterator[tuple[str, list[Entry]]]:
    params = [(param, param.get_help_record(ctx)) for param in command.get_params(ctx)]
    for kind, title in (("argument", "Arguments"), ("option", "Options")):
        yield title, [record for param, record in params if record and param.param_type_name == kind]
    named = [(name, command.get_command(ctx, name)) for name in getattr(command, "commands", ())]
    yield "Commands", [(name, (child.help or "").strip()) for name, child in named if not child.hidden]


def _print_section(console: SafeConsole, title: str, entries: list[Entry]) -> None:
    if not entries:
        return
    console.print(Text(title, "bold"))
    for name, text in entries:
        console.print(Text(f"  {name}", "bold cyan"))
        console.print(textwrap.indent(textwrap.fill(text, console.width - len(_INDENT)), _INDENT))
    console.print("")
