"""A terminal for tests: what a program writes when it is shown to somebody."""

import contextlib
import os
import subprocess
import sys

import pytest


def on_a_terminal(*arguments: str, columns: int = 120) -> str:
    """Run Python with these arguments on a terminal of its own; return everything that it wrote. Fails if it fails."""
    pty = pytest.importorskip("pty", reason="a terminal that is none needs POSIX")
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen([sys.executable, *arguments], stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    parts = []
    with contextlib.suppress(OSError):  # Linux says so when the other end is closed
        while part := os.read(leader, 4096):
            parts.append(part)
    os.close(leader)
    text = b"".join(parts).decode()
    assert process.wait() == 0, text
    return text
