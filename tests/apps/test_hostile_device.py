"""A device that says what it likes: without end, in bytes that are no text, slowly, or huge. One line, nothing taken.

The device is a script in the place of ssh, which EDGEVL_SSH names.
"""

import json
import os
import resource
import shlex
import subprocess
import sys
import threading
import time
from typing import IO

import pytest
from pydantic import ValidationError

from edgevl.bench import BenchReport, conversation, remote
from edgevl.bench.conversation import MAX_LINE, MAX_LINES, converse
from edgevl.bench.machine import describe_machine
from edgevl.bench.remote import Device, bench_on_device
from edgevl.bench.schema import BenchResult
from edgevl.cli import main
from edgevl.errors import EdgeVLError, InputError

# What the three commands are known by; the last is where a device answers with a report.
DEVICE = """
import json, sys, time
out, err, asked = sys.stdout.buffer, sys.stderr.buffer, sys.argv[-1]
step = "prepare" if "mktemp" in asked else "copy" if "tar -x" in asked else "run" if "benchmark.py" in asked else "rm"
if step == "copy":
    while sys.stdin.buffer.read(65536): pass
if step == {step!r}:
    {what}
elif step == "prepare":
    print("/tmp/edgevl-bench.abcdef")
"""
ENDLESS = "while True: {stream}.write(b'x' * 65536)"


@pytest.fixture
def device(tmp_path, monkeypatch):
    """`device(step, what)`: the device does `what` (a line of Python) where `step` is asked of it."""

    def make(step: str, what: str) -> str:
        file = tmp_path / "device.py"
        file.write_text(DEVICE.format(step=step, what=what), encoding="utf-8")
        monkeypatch.setenv("EDGEVL_SSH", shlex.join([sys.executable, "-S", str(file)]))
        return "ssh:board"

    return make


@pytest.mark.parametrize("stream", ["out", "err"])
@pytest.mark.parametrize("step", ["prepare", "run"])
def test_output_without_end_is_stopped(bundles, device, step, stream):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(EdgeVLError, match=r"^board said more than \d+ MB, and was stopped$") as caught:
        bench_on_device(bundles["onnx"], device(step, ENDLESS.format(stream=stream)))
    assert caught.value.exit_code == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("step", ["prepare", "copy", "run"])
def test_bytes_that_are_no_text(bundles, device, step, capsys):
    words = ["bench", str(bundles["onnx"]), "--device", device(step, r"err.write(b'\xff\xfe bad\n'); sys.exit(9)")]
    assert main(words) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert errors == ["error: a command failed on board: \ufffd\ufffd bad"]


@pytest.mark.parametrize(
    "what",
    [
        r"out.write(b'\xff\x00\x1b[2J')", "out.write(b'[' * 2_000_000)", "out.write(b'{}')", "out.write(b'')",
        "out.write(b'9' * 5_000_000)", "out.write(b'[' + b'1,' * 3_000_000 + b'1]')",
    ],
)  # fmt: skip
def test_what_is_no_report(bundles, device, what):
    with pytest.raises(EdgeVLError, match="board sent no report back") as caught:
        bench_on_device(bundles["onnx"], device("run", what))
    assert len(str(caught.value)) < 300


def test_numbers_that_are_none(bundles, device, tmp_path):
    """JSON can say 1e999, and a report without a result is one by its schema."""
    result = BenchResult(
        name="tiny", artifact_sha256=None, runtime="theirs", scope="model", threads=1, n=1, p50_ms=7.125, p90_ms=1,
        p99_ms=1, load_ms=None, first_ms=None, peak_mb=None, stages={}, samples_ms=[1], valid=True, flags=[],
    )  # fmt: skip
    report = BenchReport(preset="rapid", machine=describe_machine(), results=[result], ratios=[])
    infinite = json.dumps(report.to_json()).replace("7.125", "1e999")
    with pytest.raises(ValidationError, match="finite"):
        BenchReport.model_validate_json(infinite)
    empty = json.dumps(report.model_copy(update={"results": []}).to_json())
    for text, said in [(infinite, "sent no report back"), (empty, "without a result")]:
        (tmp_path / "report.json").write_text(text, encoding="utf-8")
        answer = f"out.write(open({str(tmp_path / 'report.json')!r}, 'rb').read())"
        with pytest.raises(EdgeVLError, match=said):
            bench_on_device(bundles["onnx"], device("run", answer))


def test_one_that_never_ends_is_stopped(bundles, device, monkeypatch):
    monkeypatch.setattr(remote, "PREPARE_S", 1.0)
    drip = "while True: err.write(b'.'); err.flush(); time.sleep(0.1)"
    for step, seconds in [("prepare", 1), ("run", 1)]:
        start = time.monotonic()
        with pytest.raises(EdgeVLError, match=rf"board did not finish within {seconds} s, and was stopped"):
            bench_on_device(bundles["onnx"], device(step, drip), timeout=1)
        assert time.monotonic() - start < 30


def test_one_that_takes_nothing_is_stopped(tmp_path):
    """Its standard input is never read, so that whoever writes waits."""

    def much(stream: IO[bytes]) -> None:
        stream.write(bytes(10_000_000))

    with pytest.raises(EdgeVLError, match="did not finish within 1 s"):
        converse(["sleep", "60"], "board", 1.0, write=much)


def test_what_is_written_may_fail_on_this_side():
    def fails(stream: IO[bytes]) -> None:
        raise InputError("the bundle is gone")

    with pytest.raises(InputError, match="the bundle is gone"):
        converse(["sleep", "60"], "board", 30.0, write=fails)


def test_a_process_that_stays_behind_holds_nobody(monkeypatch):
    """ssh may leave a master behind that has the pipes: what was said is there, and nobody waits for it to end."""
    monkeypatch.setattr(conversation, "_LAST_WORDS_S", 0.5)
    start = time.monotonic()
    said = converse(["sh", "-c", "echo here; sleep 30 & echo there >&2"], "board", 20.0)
    assert (said.code, said.output, said.lines) == (0, "here\n", ["there"])
    assert time.monotonic() - start < 10


def test_lines_are_few_and_short():
    heard: list[str] = []
    script = f"for i in range({MAX_LINES + 50}): print(i, end=' ' * 9 + 'x' * 3000 + chr(10), file=sys.stderr)"
    said = converse([sys.executable, "-S", "-c", f"import sys\n{script}"], "board", 30.0, heard=heard.append)
    assert len(said.lines) == MAX_LINES and len(heard) == MAX_LINES + 50
    assert all(len(line) == MAX_LINE for line in heard) and heard[7].startswith("7 ")


def test_an_open_quote_is_the_users(monkeypatch, bundles, capsys):
    monkeypatch.setenv("EDGEVL_SSH", "ssh -o 'x")
    assert main(["bench", str(bundles["onnx"]), "--device", "ssh:board"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line == "error: EDGEVL_SSH is no command line (no closing quotation): ssh -o 'x"


def test_no_thread_and_no_process_is_left(bundles, device):
    before = threading.active_count()
    with pytest.raises(EdgeVLError):
        bench_on_device(bundles["onnx"], device("run", "time.sleep(60)"), timeout=1)
    for _ in range(50):
        if threading.active_count() <= before:
            break
        time.sleep(0.1)
    assert threading.active_count() <= before
    children = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True, encoding="utf-8"
    )
    assert "device.py" not in children.stdout


@pytest.mark.parametrize(
    ("name", "scopes"), [("onnx", ["model", "pipeline", "frame"]), ("captioner", ["model", "pipeline"])]
)
def test_a_device_that_does_what_it_is_asked(bundles, small, tmp_path, monkeypatch, name, scopes):
    """The same conversation with this machine's own shell: the archive, the script, the report, nothing left.

    A model that reads no text is not given one.
    """
    file = tmp_path / "ssh"
    file.write_text('#!/bin/sh\nfor asked; do :; done\nexec sh -c "$asked"\n', encoding="utf-8")
    file.chmod(0o755)
    (tmp_path / "device").mkdir()
    monkeypatch.setenv("EDGEVL_SSH", str(file))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "device"))
    steps: list[str] = []
    bundle, frame = {**bundles, **small}[name], "nv12" if "frame" in scopes else None
    report = bench_on_device(
        bundle, "ssh:board", threads=1, progress=lambda done, total, text: steps.append(text), frame=frame
    )
    assert [result.scope for result in report.results] == scopes
    assert steps[0] == "connecting to board" and len(steps) > 3
    assert not list((tmp_path / "device").iterdir())


def test_a_folder_that_is_none(bundles, device):
    for folder in ("relative", "/a\x1b[2J", "/" + "x" * 5000):
        with pytest.raises(EdgeVLError, match="a command failed on board"):
            bench_on_device(bundles["onnx"], device("prepare", f"print({folder!r})"))
    assert Device.parse("ssh:board").host == "board"
