"""What the documents tell people to type: every command parses, and those that end quickly are run in order."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from edgevl.cli.app import app
from edgevl.cli.failures import UsageError

ROOT = Path(__file__).parents[2]
# Long, or they change the environment: run by hand, by CI itself, or by a test of their own.
NOT_RUN_HERE = ("edgevl demo", "edgevl bench", "edgevl pretrain", "edgevl finetune", "edgevl export runs/")


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(document: str) -> list[list[str]]:
    """Every `edgevl …` of the bash blocks, as words; `a && b` is two commands."""
    lines = [line for block in blocks(document, "bash") for line in block.splitlines()]
    parts = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [words for words in parts if words[:1] == ["edgevl"]]


README = commands("README.md")
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def parse(words: list[str]) -> None:
    """Parse a command line without running it. Raises what the parser raises."""
    command, context = typer.main.get_command(app), None
    while hasattr(command, "get_command"):
        context = command.make_context(words[0], [], parent=context, resilient_parsing=True)
        child = command.get_command(context, words[1])  # type: ignore[attr-defined]
        assert child is not None, f"no command {words[1]}"
        command, words = child, words[1:]
    command.make_context(words[0], words[1:], parent=context)


def test_the_readme_shows_the_main_commands():
    shown = {words[1] for words in README}
    assert shown >= {
        "demo",
        "doctor",
        "export",
        "verify",
        "inspect",
        "predict",
        "bench",
        "pretrain",
        "finetune",
        "data",
    }


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_a_document_parses(document):
    for words in commands(document):
        parse(words)


def test_a_wrong_command_does_not_parse():
    with pytest.raises(UsageError):
        parse(["edgevl", "verify", "x", "--sampels", "3"])


@pytest.mark.slow
def test_the_quick_commands_of_the_readme_run_in_order(tmp_path, photo, monkeypatch, edgevl):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(photo.read_bytes())
    for words in README:
        if not " ".join(words).startswith(NOT_RUN_HERE):
            assert edgevl(*words[1:]).code == 0, words


def test_the_python_of_the_readme_runs(tmp_path, photo, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(photo.read_bytes())
    (code,) = blocks("README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_between_documents_lead_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = {target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target}
    folder = (ROOT / document).parent
    assert not [target for target in targets if not (folder / target).exists()]
