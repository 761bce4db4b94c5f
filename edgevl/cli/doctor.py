"""`edgevl doctor`."""

import typer

from edgevl.cli import console
from edgevl.cli.command import Json, command
from edgevl.errors import EdgeVLError, MissingDependency


def add_to(app: typer.Typer) -> None:
    command(app, "doctor", example="edgevl doctor --json")(doctor)


def doctor(json: Json = False) -> None:
    """Say what this machine can export, run and verify, and the exact command that fills each gap."""
    from edgevl.doctor import examine

    report = examine()
    if json:
        console.print_json(report.model_dump())
    else:
        _show(report)
    if not report.ok:
        error = EdgeVLError("; ".join(report.problems))
        error.exit_code = MissingDependency.exit_code if report.missing else EdgeVLError.exit_code
        raise error
    console.next_commands("edgevl demo")


def _show(report) -> None:
    machine = report.machine
    console.result(
        f"EdgeVL {report.edgevl}, Python {machine.python}, {machine.os}\n"
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb:.1f} GB of memory"
        f", accelerator: {machine.accelerator or 'none'}\n"
    )
    rows = [[t.name, _yes(t.export), _yes(t.run), _yes(t.verify), t.note] for t in report.targets]
    console.result(console.table("Targets", ["target", "export", "run", "verify", "how, or what is missing"], rows))
    console.result("")
    rows = [[p.name, p.version or "missing", p.fix] for p in report.packages]
    console.result(console.table("Packages", ["package", "version", "to install it"], rows))
    console.result("")
    for check in report.checks:
        console.result(f"{'ok ' if check.ok else 'BAD'} {check.name}: {check.detail}")


def _yes(value: bool) -> str:
    return "yes" if value else "no"
