"""What a process under watch does in these tests. Cheap to import: a fresh interpreter is up at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from edgevl.errors import EdgeVLError, InputError, MissingDependency
from edgevl.guard import Call


def add(one: int, other: int = 0) -> int:
    return one + other


def spin(seconds: float = 600, what: str = "running their.edgevl/model.onnx") -> str:
    """One call that keeps the processor, as an endless loop in native code does: it hears no signal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Call(what):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
    return "ended"


def many_calls(count: int, seconds: float) -> int:
    """Calls that are short, one after another and one inside another."""
    for _ in range(count):
        with Call("running"), Call("inside"):
            time.sleep(seconds)
    return count


def slow_outside(seconds: float) -> str:
    time.sleep(seconds)
    return "ended"


def patient(seconds: float) -> str:
    with Call("loading an engine", patience=10):
        time.sleep(seconds)
    return "ended"


def hoard(gigabytes: float, at_once: bool = False) -> int:
    """Take memory and write to it: in small steps, or in one that is refused."""
    with Call("running their.edgevl/model.onnx"):
        if at_once:
            return len(bytearray(int(gigabytes * 1e9)))
        held = [bytearray(b"x" * 20_000_000) for _ in range(int(gigabytes * 50))]
        time.sleep(600)
    return len(held)


def hoard_in_a_child(gigabytes: float, marker: Path) -> None:
    """As the fresh processes of a benchmark do: the memory is that of a child."""
    program = f"import time; x = bytearray(b'x' * int({gigabytes} * 1e9)); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", program])
    marker.write_text(str(child.pid), encoding="utf-8")
    child.wait()


def end_by(name: str, in_a_call: bool) -> None:
    number = getattr(signal, name)
    if not in_a_call:
        os.kill(os.getpid(), number)
    with Call("loading their.edgevl/model.pte"):
        os.kill(os.getpid(), number)
        time.sleep(60)


def fail(kind: str) -> None:
    if kind == "missing":
        raise MissingDependency("torchao", "quantize", "quantizing")
    raise {"input": InputError, "other": ValueError, "ours": EdgeVLError}[kind]("no such thing")


def leave_a_file() -> str:
    import tempfile

    handle, name = tempfile.mkstemp()
    os.close(handle)
    return name


def crash_and_leave_a_child(marker: Path) -> None:
    """Start a process that outlives this one."""
    marker.write_text(
        str(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid), encoding="utf-8"
    )
    end_by("SIGSEGV", True)


def unanswered() -> None:
    os._exit(3)


def not_picklable():
    return lambda: None
