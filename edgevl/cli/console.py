"""What the commands print: results on stdout, everything else (progress, notes, errors) on stderr.

Every line is made of parts: a text, or a text with a style of ours. No text is ever read as markup, and whatever a
terminal would obey is written out (`edgevl.plain`), so that no caller has to think of what is foreign.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from edgevl.cli import streams
from edgevl.cli.streams import SafeConsole
from edgevl.plain import command_line, plain, plain_json

NARROW = 72  # columns: a terminal of fewer has no place for typer's help, for a bar, for wide gaps in tables
SHORT = 11  # of words that are not broken in a table
PIPE_WIDTH = 160  # of tables that no terminal shows: a file has no edge at which to cut a name
Part = str | tuple[str, str]  # a text, or (text, style)


def out() -> SafeConsole:
    """The console for results. Made on each call so that a redirected `sys.__stdout__` or a test's capture is used."""
    console = SafeConsole(streams.result_stream())
    if not (console.is_terminal or "COLUMNS" in os.environ):
        console.width = PIPE_WIDTH
    return console


def err() -> SafeConsole:
    """The console for progress, notes and errors. While a bar is drawn it is the bar's, which prints above the bar."""
    return streams.live[-1] if streams.live else SafeConsole(streams.error_stream())


def result(*parts: Part) -> None:
    """Print one line on stdout. A closed pipe (`| head`) ends the output, not the command."""
    out().print(text(*parts))


def note(*parts: Part) -> None:
    """Print one line on stderr."""
    err().print(text(*parts))


def text(*parts: Part) -> Text:
    """Join parts to one line: no newline of a part begins another."""
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*[(plain(words), style) for words, style in pairs])


def print_json(data: Any) -> None:
    """Print one JSON object on stdout."""
    stream = streams.result_stream()
    try:
        stream.write(to_json(data, ascii_only=not streams.is_unicode(stream)))
        stream.flush()
    except BrokenPipeError:
        streams.silence(stream)


def to_json(data: Any, ascii_only: bool = False) -> str:
    """JSON text of plain data. NaN and infinity, which JSON does not have, become null."""
    return plain_json(json.dumps(finite(data), indent=2, ensure_ascii=ascii_only)) + "\n"


def finite(value: Any) -> Any:
    """Copy plain data with every NaN or infinite float replaced by None."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def next_commands(*commands: list[Any]) -> None:
    """Say what to run next: every command ends with this. A command is a list of words, which are quoted here."""
    for words in commands:
        note(("next:", "dim"), " ", (command_line(words), "bold"))


def open_in_browser(path: Path) -> list[Any]:
    """Return the command that shows a page or a picture, the same one on every system."""
    return ["python", "-m", "webbrowser", path.resolve().as_uri()]


def error_line(message: str) -> None:
    """Print `error: message` as exactly one line, whatever newlines the message holds."""
    note(("error:", "bold red"), " ", " ".join(message.split()))


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a plain table on stdout: columns of numbers to the right, the rest to the left.

    Where the terminal is too narrow, long words go on below themselves: a name or a command is never cut off.
    """
    console = out()
    apart = 1 if console.width < NARROW else 3
    grid = Table(title=plain(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    grid.padding = (0, apart, 0, 0)
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(_is_number(row[index]) for row in rows)
        short = numeric or max(len(row[index]) for row in [columns, *rows]) <= SHORT
        justify = "right" if numeric else "left"
        grid.add_column(plain(column), justify=justify, header_style="dim", overflow="fold", no_wrap=short)
    for row in rows:
        grid.add_row(*[text(cell) for cell in row])
    console.print(grid)


def _is_number(cell: str) -> bool:
    with contextlib.suppress(ValueError):
        float(cell.rstrip(" %x").replace(",", ""))
        return True
    return cell in ("", "-")
