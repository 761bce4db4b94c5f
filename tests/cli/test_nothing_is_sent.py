"""No process of ours reports to anybody: commands and scripts, traced without a network, in a fresh home folder."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

ROOT = Path(__file__).parents[2]
# Files that may appear in the home folder: our engines, and matplotlib's list of fonts.
OURS = (".cache/edgevl/", ".cache/matplotlib/")
TRACE = ["unshare", "-n", "strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o"]
RUN = "import json, sys; from edgevl.cli import main; print([main(line) for line in json.loads(sys.argv[1])])"
TRAIN = ["data.workers=0", "data.texts=2", "precision=no", "batch_size=2", "eval_samples=0", "optimizer.warmup=1"]
TRAIN += ["steps=1", "stop_after=1"]
QUICK = [
    ["version"],
    ["help"],
    ["doctor", "--json"],
    ["data", "scenes", "--count", "4", "--out", "scenes"],
    ["data", "import", "photos.csv", "--out", "own"],
    ["export", "tiny-test", "--target", "onnx", "--out", "o.edgevl"],
    ["verify", "o.edgevl", "--samples", "2"],
    ["inspect", "o.edgevl"],
    ["predict", "o.edgevl", "sample", "what is it?"],
    ["predict", "tiny-test", "sample", "what is it?"],
    ["report", "o.edgevl"],
    ["study", "--show"],
]
EXPORT = QUICK[5]
SLOW = [
    [EXPORT, ["bench", "o.edgevl", "--preset", "rapid", "--out", "b.json"], ["compare", "b.json", "b.json"]],
    [["data", "scenes", "--count", "4", "--out", "scenes"], ["search", "scenes", "a red car"]],
    [["finetune", "finetune_scenes_nano", "init=tiny-test", *TRAIN, "--out", "tuned"]],
    [
        ["pretrain", "pretrain_scenes_nano", "losses.region_distillation.weight=0", *TRAIN, "--out", "p"],
        ["distill", "distill_scenes_nano", "init=p/model", *TRAIN, "--out", "d"],
    ],
    [["quantize", "tiny-test", "--samples", "64", "--out", "q"]],
    [
        ["domain", "fit", "tiny-test", "--pictures", "200", "--questions", "200"],
        ["domain", "measure", "tiny-test", "--samples", "20"],
    ],
    [
        ["data", "detector", "detect_scenes", *[each for each in TRAIN if "texts" not in each], "--out", "boxes"],
        ["data", "annotate", "scenes:train", "--detector", "boxes/model", "--count", "2", "--out", "b.jsonl"],
    ],
    [["demo", "--quick", "--samples", "8", "--out", "demo"]],
    [["app", "conformance", "--only", "small", "--out", "conformance"]],
    [EXPORT, ["app", "web", "--bundle", "o.edgevl", "--out", "site"]],
    [EXPORT, ["app", "android", "--bundle", "o.edgevl", "--out", "project"]],
    [["app", "ios", "--out", "project"]],
]
MAY_END_WITH = {"compare": (0, 5), "app web": (0, 2)}  # nothing was measured long enough; the app was not built
LOOK_UP = "import socket, contextlib\nwith contextlib.suppress(OSError): socket.getaddrinfo('example.invalid', 80)"


def traced(folder: Path, *command: object, ends: tuple[tuple[int, ...], ...] = ()) -> tuple[list[str], list[str]]:
    """(calls that name an internet address, files in the home folder that are not ours) of a command that ends well.

    ends: for each of the command lines that `RUN` has run, the exit codes that it may end with.
    """
    home, log = folder / "home", folder / "trace"
    home.mkdir(exist_ok=True)
    if not all(map(shutil.which, ("unshare", "strace"))):
        pytest.skip("needs unshare and strace")
    if subprocess.run([*TRACE, log, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no network namespace, or no trace in it")
    kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
    environment = {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}
    done = subprocess.run(
        [*TRACE, log, *map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    codes = json.loads(done.stdout.splitlines()[-1]) if ends else []
    assert all(code in allowed for code, allowed in zip(codes, ends, strict=True)), (codes, done.stderr[-2000:])
    calls = [
        line
        for line in log.read_text(errors="replace", encoding="utf-8").splitlines()
        if re.search(r"AF_INET|sin6?_addr", line)
    ]
    files = [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]
    return calls, [name for name in files if not name.startswith(OURS)]


def test_the_trace_sees_a_look_up(tmp_path):
    (tmp_path / "a").mkdir()
    calls, _ = traced(tmp_path / "a", sys.executable, "-c", LOOK_UP)
    if not calls:
        pytest.skip("a look-up asks no server here")


def furnished(tiny_model: Path, folder: Path) -> Path:
    shutil.copytree(tiny_model, folder / "tiny-test")
    rows = "".join(f"scenes/images/{number:06d}.png,what is it?,a cat\n" for number in range(4))
    (folder / "photos.csv").write_text("image,question,answer\n" + rows, encoding="utf-8")
    return folder


def run_traced(folder: Path, lines: list[list[str]]) -> tuple[list[str], list[str]]:
    ends = tuple(MAY_END_WITH.get(command_of(line), (0,)) for line in lines)
    return traced(folder, sys.executable, "-c", RUN, json.dumps(lines), ends=ends)


def test_commands_and_scripts(tiny_model, tmp_path):
    place = furnished(tiny_model, tmp_path)
    assert run_traced(place, QUICK) == ([], [])
    script = ROOT / "apps" / "jetson" / "benchmark.py"
    assert traced(place, sys.executable, script, "o.edgevl", "--preset", "rapid", "--out", "b.json") == ([], [])


@pytest.mark.slow
@pytest.mark.parametrize("lines", SLOW, ids=lambda lines: command_of(lines[-1]))
def test_the_other_commands(lines, tiny_model, tmp_path):
    assert run_traced(furnished(tiny_model, tmp_path), lines) == ([], [])


def commands(parser, words: tuple[str, ...] = ()) -> set[str]:
    """Every command of the program, such as `verify` and `data scenes`."""
    if not hasattr(parser, "commands"):
        return {" ".join(words)}
    return set().union(*(commands(child, (*words, name)) for name, child in parser.commands.items()))


def command_of(line: list[str]) -> str:
    return " ".join(line[:2] if line[0] in ("data", "domain", "app") else line[:1])


def test_every_command_is_watched():
    from edgevl.cli.app import app

    watched = [*QUICK, *(line for lines in SLOW for line in lines)]
    assert {command_of(line) for line in watched} == commands(typer.main.get_command(app))


def test_whoever_loads_onnxruntime_has_forbidden_it_to_report():
    """Inside edgevl its __init__ has; everywhere else edgevl is imported before, or the variable is set in the file."""
    wrong = []
    for folder in ("apps", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            names = {
                name.split(".")[0]
                for node in ast.walk(ast.parse(text))
                for name in (
                    [alias.name for alias in node.names] if isinstance(node, ast.Import)
                    else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                )
            }  # fmt: skip
            if "onnxruntime" in names and "edgevl" not in names and "ORT_DISABLE_TELEMETRY" not in text:
                wrong.append(str(path.relative_to(ROOT)))
    assert not wrong


def test_only_a_recipe_that_says_so_loads_from_a_hub():
    """docs/index.md names the one place: `backbone_weights=timm`."""
    asked = []
    for folder in ("edgevl", "training", "quantize", "export"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    given = {each.arg: getattr(each.value, "value", None) for each in node.keywords}
                    local = given.get("local_files_only") is True
                    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                    if given.get("pretrained") is True or (
                        name in ("from_pretrained", "hf_hub_download") and not local
                    ):
                        asked.append(path.relative_to(ROOT).as_posix())
    assert asked == ["training/backbones.py"]
