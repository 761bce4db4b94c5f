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

ROOT = Path(__file__).parents[2]
# Files that may appear in the home folder: our engines, and matplotlib's list of fonts.
OURS = (".cache/edgevl/", ".cache/matplotlib/")
TRACE = ["unshare", "-n", "strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o"]
RUN = "import json, sys; from edgevl.cli import main; sys.exit(max(main(line) for line in json.loads(sys.argv[1])))"
LOOK_UP = "import socket, contextlib\nwith contextlib.suppress(OSError): socket.getaddrinfo('example.invalid', 80)"


def traced(folder: Path, *command: object) -> tuple[list[str], list[str]]:
    """(calls that name an internet address, files in the home folder that are not ours) of a command that ends well."""
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


def test_commands_and_scripts(tiny_model, tmp_path):
    from edgevl.bundle_export import export_bundle

    shutil.copytree(tiny_model, tmp_path / "tiny-test")
    bundle = export_bundle(tiny_model, "onnx", out=tmp_path / "o.edgevl")
    lines = [
        ["doctor", "--json"],
        ["data", "scenes", "--count", "2", "--out", "scenes"],
        ["verify", "o.edgevl", "--samples", "2"],
        ["inspect", "o.edgevl"],
        ["predict", "o.edgevl", "sample", "what is it?"],
        ["predict", "tiny-test", "sample", "what is it?"],
        ["study", "--show"],
    ]
    assert traced(tmp_path, sys.executable, "-c", RUN, json.dumps(lines)) == ([], [])
    script = ROOT / "apps" / "jetson" / "benchmark.py"
    assert traced(tmp_path, sys.executable, script, bundle, "--preset", "rapid", "--out", "b.json") == ([], [])


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
