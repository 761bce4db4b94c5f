"""What the commands print: results on stdout, everything else (progress, notes, errors) on stderr."""

import contextlib
import io
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 160  # of tables that no terminal shows: a file has no edge at which to cut a name
ProgressCallback = Callable[[int, int, str], None]


class SafeConsole(Console):
    """Rich ends the process when a pipe closes (`| head`); here only the output ends, and the exit code stays."""

    def on_broken_pipe(self) -> None:
        silence(self.file)


def out() -> Console:
    """The console for results. Made on each call so that a redirected `sys.__stdout__` or a test's capture is used."""
    console = SafeConsole(file=result_stream(), soft_wrap=True, highlight=False)
    if not (console.is_terminal or "COLUMNS" in os.environ):
        console.width = PIPE_WIDTH
    return console


def err() -> Console:
    """The console for progress, notes and errors. While a bar is drawn it is the bar's, which prints above the bar."""
    return _live[-1] if _live else SafeConsole(file=sys.stderr, soft_wrap=True, highlight=False)


# While a command runs, `sys.stdout` is stderr (see `library_output_to_stderr`), so that what a library prints never
# lands inside a result. The real stdout waits here.
_real_stdout: list[IO[str]] = []
_live: list[Console] = []


def result_stream() -> IO[str]:
    stream: IO[str] | None = _real_stdout[-1] if _real_stdout else sys.stdout
    return io.StringIO() if stream is None else stream  # a service may start us without a standard output


@contextlib.contextmanager
def library_output_to_stderr() -> Iterator[None]:
    """Send whatever Python code prints to stderr; only `result` and `print_json` reach the real stdout."""
    _real_stdout.append(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _real_stdout.pop()


def result(renderable: Any) -> None:
    """Print a line or a rich renderable on stdout. A closed pipe (`| head`) ends the output, not the command."""
    out().print(renderable, markup=False)


def markup(text: str) -> None:
    """Print a line with rich markup on stdout; escape what is not ours."""
    out().print(text)


def print_json(data: Any) -> None:
    """Print one JSON object on stdout."""
    stream = result_stream()
    try:
        stream.write(to_json(data))
        stream.flush()
    except BrokenPipeError:
        silence(stream)


def to_json(data: Any) -> str:
    """JSON text of plain data. NaN and infinity, which JSON does not have, become null."""
    return json.dumps(finite(data), indent=2, ensure_ascii=False) + "\n"


def finite(value: Any) -> Any:
    """Copy plain data with every NaN or infinite float replaced by None."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def note(text: str) -> None:
    """Print one line on stderr."""
    err().print(text, markup=False)


def line(command: str, *arguments: object) -> str:
    """A command line that can be pasted: arguments with blanks in them are quoted."""
    return " ".join([command, *(shlex.quote(str(argument)) for argument in arguments)])


def next_commands(*commands: str) -> None:
    """Say what to run next: every command ends with this."""
    console = err()
    for command in commands:
        console.print(f"[dim]next:[/dim] [bold]{escape(command)}[/bold]")


def error_line(message: str) -> None:
    """Print `error: message` as exactly one line, whatever newlines the message holds."""
    text = " ".join(message.split())
    err().print(f"[bold red]error:[/bold red] {escape(text)}")


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """A plain table: columns of numbers to the right, the rest to the left."""
    grid = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(_is_number(row[index]) for row in rows)
        grid.add_column(column, justify="right" if numeric else "left", header_style="dim")
    for row in rows:
        grid.add_row(*[Text(cell) for cell in row])
    return grid


def _is_number(cell: str) -> bool:
    with contextlib.suppress(ValueError):
        float(cell.rstrip(" %x").replace(",", ""))
        return True
    return cell in ("", "-")


@contextlib.contextmanager
def progress_bar(text: str) -> Iterator[ProgressCallback]:
    """A bar on stderr as a callable (done, total, text). Without a terminal it prints nothing."""
    console = err()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(text, total=None)
        _live.append(console)

        def advance(done: int, total: int, what: str = "") -> None:
            bar.update(task, completed=done, total=total or None, description=what or text)

        try:
            yield advance
        finally:
            _live.remove(console)


def silence(stream: IO[str]) -> None:
    """Point a stream at nothing: neither later prints nor the interpreter's last flush fail on a closed pipe."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
