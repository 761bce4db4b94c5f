"""Every text file is UTF-8 by name: the locale's encoding is another one on Windows, and wrong labels in a bundle."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("edgevl", "training", "quantize", "export", "apps", "tools", "tests")
# Calls by the last part of their name -> the place at which an encoding may stand without its name.
TEXT = {"read_text": 0, "write_text": 1, "open": 3, "fdopen": 3, "NamedTemporaryFile": 3, "TemporaryFile": 3}
PROCESSES = {"run", "Popen", "check_output", "check_call", "call"}


def python_files() -> list[Path]:
    """Every Python file of ours, each once: links are not followed."""
    found = []
    for folder in FOLDERS:
        for directory, _, names in os.walk(ROOT / folder, followlinks=False):
            found += [Path(directory, name) for name in names if name.endswith(".py")]
    return sorted(found)


def without_encoding(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, call) of everything that reads or writes text in the encoding of the locale."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        words = {word.arg for word in node.keywords}
        process = name in PROCESSES and words & {"text", "universal_newlines"}
        if process or (name in TEXT and len(node.args) <= TEXT[name] and is_of_text(node, name)):
            yield node.lineno, name


def is_of_text(call: ast.Call, name: str) -> bool:
    if name in ("read_text", "write_text"):
        return isinstance(call.func, ast.Attribute)  # others are functions of ours that say UTF-8 inside
    if name == "fdopen" and call.args and ast.unparse(call.args[0]) == "os.dup(1)":
        return False  # what is printed, not a file
    mode = mode_of(call, name)
    if name.endswith("TemporaryFile"):
        return mode is not None and "b" not in mode  # its default is binary
    if isinstance(call.func, ast.Attribute) and name == "open":
        return is_path(call.func.value) and (mode is None or "b" not in mode)
    return mode is None or "b" not in mode


def mode_of(call: ast.Call, name: str) -> str | None:
    """The mode in which a file is opened; "b" for what is no text constant and so no mode at all."""
    method = isinstance(call.func, ast.Attribute) and name == "open"
    place = 0 if method or name.endswith("TemporaryFile") else 1
    given = [word.value for word in call.keywords if word.arg == "mode"] or call.args[place : place + 1]
    if not given:
        return None
    return given[0].value if isinstance(given[0], ast.Constant) and isinstance(given[0].value, str) else "b"


def is_path(value: ast.expr) -> bool:
    """Can `value.open(…)` be that of a path? Classes and modules have an `open` of their own."""
    return not isinstance(value, ast.Name) or (
        value.id.islower() and value.id not in ("os", "tarfile", "zipfile", "io")
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_text_is_read_and_written_as_utf_8_by_name(folder):
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {call} without encoding"
        for path in python_files()
        if path.relative_to(ROOT).parts[0] == folder
        for line, call in without_encoding(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line",
    [
        "path.read_text()", "path.write_text(x)", "(a / b).write_text(x, newline='')", "open(path)", "open(path, 'w')",
        "path.open('a')", "path.open()", "(a / b).open()", "os.fdopen(1, 'w')", "tempfile.NamedTemporaryFile('w')",
        "subprocess.run(x, text=True)", "Popen(x, universal_newlines=True)", "open(path, mode='r')",
    ],
)  # fmt: skip
def test_a_call_without_an_encoding_is_found(line):
    assert list(without_encoding(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        "path.read_text('utf-8')", "path.write_text(x, encoding='utf-8')", "open(path, 'rb')", "path.open('wb')",
        "Image.open(x)", "Bundle.open(path)", "tarfile.open(x, 'w')", "os.open(x, flags)",
        "os.fdopen(x, 'rb', buffering=0)",
        "subprocess.run(x, capture_output=True)", "read_text(path)", "tempfile.TemporaryFile()", "zipfile.open(x)",
        "subprocess.run(x, text=True, encoding='utf-8')",
    ],
)  # fmt: skip
def test_a_call_that_needs_none_is_not(line):
    assert not list(without_encoding(ast.parse(line)))


CHILD = """
import sys, warnings
warnings.filterwarnings("error", category=EncodingWarning, module=r"edgevl($|[.])")
from pathlib import Path
from edgevl.models.checkpoint import load_model, save_model
from edgevl.cli import main
from edgevl.errors import VerificationFailed
model, work = Path(sys.argv[1]), Path(sys.argv[2])
loaded = load_model(model)
save_model(work / "saved", loaded.model, loaded.tokenizer, loaded.labels)
runs = [
    ["export", str(work / "saved"), "--out", str(work / "x.edgevl"), "--license", "für alle"],
    ["verify", str(work / "x.edgevl"), "--samples", "4", "--checkpoint", str(work / "saved"), "--json"],
    ["report", str(work / "x.edgevl"), "--out", str(work / "page.html"), "--title", "größe"],
    ["finetune", str(work / "recipe.yaml"), "--out", str(work / "run")],
]
for run in runs:
    try:
        assert main([*run, "--debug"]) == 0, run  # else no warning is heard
    except VerificationFailed:  # the labels that the test changed are no answers of Scenes
        assert run[0] == "verify"
"""


def test_nothing_that_is_written_depends_on_the_locale(tiny_model, tmp_path):
    """In a locale of ASCII, and Python says who opens a file without naming its encoding."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    labels = json.loads((model / "labels.json").read_text(encoding="utf-8"))
    labels[0], labels[1] = "rouge foncé", "赤"
    (model / "labels.json").write_text(json.dumps(labels, ensure_ascii=False), encoding="utf-8")
    recipe = (
        "# größe\nstage: finetune\nname: x\ninit: nano\nsteps: 1\nbatch_size: 2\neval_samples: 0\ndata: {workers: 0}\n"
    )
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "utf-8"}
    (tmp_path / "child.py").write_text(CHILD, encoding="utf-8")
    child = [str(tmp_path / "child.py"), str(model), str(tmp_path)]
    command = [sys.executable, "-X", "warn_default_encoding", *child]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=os.environ | locale)
    assert done.returncode == 0, done.stderr
    for name in ("saved/labels.json", "x.edgevl/labels.json"):
        assert json.loads((tmp_path / name).read_text(encoding="utf-8")) == labels
    assert "für alle" in (tmp_path / "x.edgevl" / "README.md").read_text(encoding="utf-8")
    assert "größe" in (tmp_path / "page.html").read_text(encoding="utf-8")
