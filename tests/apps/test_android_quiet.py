"""The Kotlin library on the JVM reaches for nothing. Slow: it is compiled first; needs Maven, a JDK and strace."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "build" / "android-fixtures"
BUNDLE = FIXTURES / "conformance" / "bundles" / "nano-fp32-single.edgevl"
MAIN = "edgevl.onnx.LatencyKt"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(map(shutil.which, ("mvn", "java", "strace"))), reason="needs Maven, a JDK and strace"),
]


@pytest.fixture(scope="module")
def classpath() -> str:
    subprocess.run([sys.executable, ROOT / "tests/apps/android_fixtures.py", FIXTURES], check=True)
    code = "import jvm_latency; print(jvm_latency.classpath())"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT / "tools", check=True, capture_output=True, text=True, encoding="utf-8")
    return run.stdout.strip()


def asked(classpath: str, log: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Answer three queries in a JVM whose system calls for the network go into `log`."""
    strace = ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=network"]
    others = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    return subprocess.run(
        [*strace, "java", "-cp", classpath, MAIN, str(BUNDLE), "1"],
        input="pipeline 3\n", capture_output=True, text=True, encoding="utf-8", env={**others, **environment},
    )  # fmt: skip


def reached(log: Path) -> list[str]:
    """Return the calls that went for an address of the Internet protocol, name servers too.

    A JVM makes three such sockets by itself to see which versions there are, when it first reads a file by NIO.
    """
    lines = log.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if "AF_INET" in line and " socket(" not in line]


def test_what_reaches_is_seen(tmp_path):
    """Otherwise a log without such calls would prove nothing."""
    code = "import socket; s = socket.socket(); s.settimeout(1); s.connect_ex(('127.0.0.1', 9)); print(s)"
    strace = ["strace", "-f", "-qq", "-o", str(tmp_path / "log"), "-e", "trace=network"]
    subprocess.run([*strace, sys.executable, "-c", code], check=True, capture_output=True)
    assert any("connect(" in line for line in reached(tmp_path / "log"))


def test_answers_reach_for_nothing(classpath, tmp_path):
    run = asked(classpath, tmp_path / "log", ORT_DISABLE_TELEMETRY="1")
    assert run.returncode == 0 and len(run.stdout.split()) == 3, run.stderr
    assert not reached(tmp_path / "log")


def test_without_the_variable_onnx_runtime_is_not_loaded(classpath, tmp_path):
    run = asked(classpath, tmp_path / "log")
    assert run.returncode and "start the process with ORT_DISABLE_TELEMETRY=1" in run.stderr, run.stderr
    assert not reached(tmp_path / "log")
