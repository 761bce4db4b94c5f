"""The typer application and `main`, which turns every outcome into an exit code and at most one error line."""

import contextlib
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from edgevl import __version__
from edgevl.cli import (
    apps,
    bench,
    console,
    data,
    demo,
    doctor,
    domain,
    model,
    quantize,
    report,
    search,
    streams,
    study,
    train,
)
from edgevl.cli.failures import explain
from edgevl.cli.limited import own_process
from edgevl.cli.narrow_help import Command, Group
from edgevl.quiet import open_missing_streams, quiet_python

app = typer.Typer(
    name="edgevl",
    help="Small vision-language models without a detector, from raw pixels to a phone, proved on the artifact itself.",
    epilog="Start with: edgevl demo",
    no_args_is_help=True,
    cls=Group,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (demo, doctor, data, train, study, quantize, domain, model, search, bench, apps, report):
    group.add_to(app)


@app.command("version", cls=Command, epilog="Example: edgevl version")
def version() -> None:
    """Print the version."""
    console.result(f"edgevl {__version__}")


@app.command("help", cls=Command, epilog="Example: edgevl help export")
def show_help(
    words: Annotated[
        list[str] | None, typer.Argument(help="A command. Default: all of them.", metavar="COMMAND")
    ] = None,
) -> None:
    """Show what a command does and takes, as its --help does."""
    app(args=[*(words or []), "--help"], prog_name="edgevl", standalone_mode=False)


def _version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks, warnings and logs. May stand anywhere on the line.")
    ] = False,
) -> None: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code (see `edgevl.errors`). Never raises, but for `--debug`.

    argv: the arguments without the program's name; None means `sys.argv[1:]`.
    """
    open_missing_streams()
    own_process.set(argv is None)
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    streams.print_any_character()
    try:
        # A user reads our lines only, not other libraries' warnings and info logs.
        with contextlib.nullcontext() if debug else quiet_python():
            code = app(args=arguments, prog_name="edgevl", standalone_mode=False)
    except BaseException as error:
        if debug and isinstance(error, Exception):
            sys.excepthook = streams.print_traceback  # here, as typer has just set its own
            raise
        code, message = explain(error)
        if message:
            console.error_line(message)
    _flush()
    return int(code or 0)


def _flush() -> None:
    if sys.stdout is None:  # closed by whoever started us
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        streams.silence(sys.stdout)
