"""The command line as a whole: help, exit codes, what goes to stdout and what to stderr."""

import errno
import json
import math
import os
import shutil
import subprocess
import sys
import time

import pytest
import typer

from edgevl.cli import console, main
from edgevl.cli.app import app
from edgevl.cli.failures import explain
from edgevl.errors import BudgetFailed, EdgeVLError, InputError, MissingDependency, VerificationFailed

COMMANDS = [
    "demo", "doctor", "data scenes", "pretrain", "finetune", "distill", "quantize", "export", "verify", "inspect",
    "predict", "bench", "compare", "report", "study", "data detector", "data annotate", "version", "help", "domain fit",
    "domain measure",
]  # fmt: skip


def edgevl(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "edgevl", *arguments], capture_output=True, text=True, **options, encoding="utf-8"
    )


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command.split()[0] in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_one_example(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.count("Example: edgevl " + command.split()[0]) == 1


def test_help_is_quick():
    edgevl("--help")  # warms the disk cache
    started = time.process_time(), time.monotonic(), os.times().children_user
    edgevl("--help")
    # Processor time of the child, not the clock: other tests share the machine.
    assert os.times().children_user - started[2] < 1.0


@pytest.mark.parametrize("word", ["--version", "-V", "version"])
def test_version(word, capsys):
    assert main([word]) == 0
    assert capsys.readouterr().out == "edgevl 0.1.0\n"


def test_help_is_a_command_too(capsys):
    for words in ([], ["export"], ["data", "scenes"]):
        assert main([*words, "--help"]) == 0
        wanted = capsys.readouterr().out
        assert main(["help", *words]) == 0
        assert capsys.readouterr().out == wanted and "Usage: edgevl" in wanted
    assert main(["help", "exprot"]) == 2
    assert "Did you mean 'export'?" in capsys.readouterr().err


def every_command(command, path=()):
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from every_command(child, (*path, name))


@pytest.mark.parametrize("columns", [40, 60, 71, 72, 80, 160])
def test_no_name_breaks_at_any_width(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    for path, command in every_command(typer.main.get_command(app)):
        assert main([*path, "--help"]) == 0
        text = capsys.readouterr().out
        names = [name for param in command.params for name in param.opts if name.startswith("--")]
        names += getattr(command, "commands", {})
        assert [name for name in names if name not in text] == [], path
        assert all(len(line) <= columns for line in text.splitlines()), path
        assert "…" not in text, "nothing is cut off either"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("edgevl ver", {"verify", "version"}), ("edgevl export --pre", {"--precision"}), ("edgevl data s", {"scenes"})],
)
def test_a_shell_completes_commands_and_options(typed, offered):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" ")), "_EDGEVL_COMPLETE": "complete_bash"}
    answer = edgevl(env={**os.environ, **words})
    assert set(answer.stdout.split()) == offered and answer.stderr == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_completion_of_a_shell_is_shown():
    line = f"{sys.executable} -m edgevl --show-completion; exit $?"  # of the shell that asks
    answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, encoding="utf-8")
    assert answer.returncode == 0 and "_EDGEVL_COMPLETE=complete_bash" in answer.stdout


def test_no_command_shows_the_help(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert "Commands" in out + err and "error" not in err


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["verfy"], "Did you mean 'verify'"),
        (["verify", "x", "--sample", "3"], "--samples"),
        (["verify"], "Missing argument"),
        (["verify", "x", "--samples", "many"], "valid integer"),
        (["verify", "x", "--samples", "0"], "--samples"),
        (["verify", "x", "y"], "extra argument"),
    ],
)
def test_usage_errors_are_one_line(arguments, fragment, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("error: ") and fragment in err and "--help" in err


@pytest.mark.parametrize(
    ("error", "code", "fragment"),
    [
        (EdgeVLError("broken"), 1, "broken"),
        (InputError("bad"), 2, "bad"),
        (MissingDependency("torchao", "quantize", "quantize"), 3, 'pip install "edgevl[quantize]"'),
        (VerificationFailed("no"), 4, "no"),
        (BudgetFailed("slow"), 5, "slow"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ModuleNotFoundError("x", name="executorch.runtime"), 3, 'pip install "edgevl[executorch]"'),
        (ModuleNotFoundError("x", name="coremltools"), 3, "pip install"),
        (FileNotFoundError(errno.ENOENT, "x", "a.png"), 2, "a.png: no such file"),
        (OSError(errno.ENOSPC, "x", "out"), 2, "no space left on device; free some space"),
        (OSError(errno.EROFS, "x", "out"), 2, "--out"),
        (OSError(errno.EIO, "x", "out"), 1, "--debug"),
        (ZeroDivisionError("division by zero"), 1, "--debug"),
        (typer.Exit(7), 7, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_exception_has_an_exit_code_and_a_line(error, code, fragment):
    assert explain(error)[0] == code
    assert fragment in explain(error)[1]


def _failing(error: BaseException):
    def fail() -> None:
        raise error

    return fail


def test_an_unexpected_error_is_one_line_and_debug_shows_the_traceback(monkeypatch, capsys):
    monkeypatch.setattr("edgevl.doctor.examine", _failing(RuntimeError("first\nsecond")))
    assert main(["doctor"]) == 1
    err = capsys.readouterr().err
    assert err == "error: RuntimeError: first second (unexpected; run with --debug for the traceback)\n"
    with pytest.raises(RuntimeError):
        main(["doctor", "--debug"])


def test_doctor_json_is_one_object_and_nothing_else_on_stdout(capsys):
    assert main(["doctor", "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["ok"] and {target["name"] for target in report["targets"]} >= {"onnx", "coreml"}
    assert "next: edgevl demo" in err


def test_doctor_names_the_command_for_each_gap(monkeypatch, capsys):
    hidden = {"coremltools", "executorch"}
    monkeypatch.setattr("edgevl.doctor.is_installed", lambda module: module not in hidden)
    assert main(["doctor"]) == 3
    out, err = capsys.readouterr()
    assert 'pip install "edgevl[executorch]"' in out
    assert err.splitlines()[-1].startswith("error: coremltools is missing: pip install")


def test_doctor_finds_weights_that_are_not_those_of_the_model_card(monkeypatch, capsys, tmp_path):
    (tmp_path / "README.md").write_text(f"weights: sha256 `{'ab' * 32}`\n", encoding="utf-8")
    monkeypatch.setattr("edgevl.doctor.EMBEDDED", tmp_path)
    assert main(["doctor"]) == 1
    assert "is not abababababab" in capsys.readouterr().err


def test_what_a_library_prints_never_lands_in_the_result(monkeypatch, capsys):
    from edgevl.doctor import examine

    def noisy():
        print("noise")
        return examine()

    monkeypatch.setattr("edgevl.doctor.examine", noisy)
    assert main(["doctor", "--json"]) == 0
    out, err = capsys.readouterr()
    json.loads(out)
    assert "noise" in err


def test_json_has_no_nan(capsys):
    console.print_json({"a": math.nan, "b": [math.inf, 1.5], "c": {"d": -math.inf}})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": {"d": None}}


def test_a_closed_pipe_is_quiet_and_keeps_the_exit_code():
    # `false` reads nothing and closes the pipe at once.
    command = f"{sys.executable} -m edgevl --version | false; echo ${{PIPESTATUS[0]}}"
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, encoding="utf-8")
    assert answer.stdout.strip() == "0"
    assert "Broken" not in answer.stderr and "Traceback" not in answer.stderr and "error" not in answer.stderr


def test_a_closed_standard_output_is_no_error():
    answer = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m edgevl --version >&-"], capture_output=True, text=True, encoding="utf-8"
    )
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize(("words", "code"), [("--version", 0), ("verify nowhere.edgevl", 2)])
def test_without_a_standard_error_nothing_but_results_is_on_stdout(words, code, tmp_path):
    """And no file that the command opens gets the number 2, on which libraries in C++ write what they have to say."""
    shell = f"{sys.executable} -m edgevl {words} 2>&-"
    answer = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, cwd=tmp_path, encoding="utf-8")
    assert (answer.returncode, answer.stdout) == (code, "" if code else "edgevl 0.1.0\n")


OPENED = """
import os, sys
from edgevl.quiet import open_missing_streams
open_missing_streams()
sys.stderr.write("x")
nowhere = os.stat(os.devnull).st_rdev
assert [os.fstat(number).st_rdev for number in (0, 1, 2)] == [nowhere] * 3 and os.open(os.devnull, os.O_RDONLY) == 3
"""


def test_closed_streams_are_opened_for_good():
    assert subprocess.run(["bash", "-c", f"{sys.executable} -c '{OPENED}' <&- >&- 2>&-"]).returncode == 0


def test_what_to_run_next_can_be_pasted(capsys):
    console.next_commands(["edgevl", "verify", "my model.edgevl"], ["edgevl", "demo"])
    assert capsys.readouterr().err == "next: edgevl verify 'my model.edgevl'\nnext: edgevl demo\n"


def test_brackets_in_a_message_are_printed_as_they_are(capsys):
    console.error_line('needs: pip install "edgevl[tensorrt]"')
    assert capsys.readouterr().err == 'error: needs: pip install "edgevl[tensorrt]"\n'
