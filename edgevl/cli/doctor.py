"""`edgevl doctor`."""

import typer

from edgevl.cli import console, show
from edgevl.cli.command import Json, command
from edgevl.errors import EdgeVLError, MissingDependency


def add_to(app: typer.Typer) -> None:
    command(app, "doctor", example="edgevl doctor --json")(doctor)


def doctor(json: Json = False) -> None:
    """Say what this machine can export, run and verify, and the exact command that fills each gap."""
    from edgevl.doctor import examine

    report = examine()
    data = report.model_dump(mode="json")
    console.print_json(data) if json else show.doctor(data)
    if not report.ok:
        error = EdgeVLError("; ".join(report.problems))
        error.exit_code = MissingDependency.exit_code if report.missing else EdgeVLError.exit_code
        raise error
    console.next_commands(["edgevl", "demo"])
