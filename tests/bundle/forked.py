"""A process that imports everything once and forks for each case: a crash, a kill or a hang is the child's alone.

A test talks to it through `Forked`. Each child notes what it opens, makes, renames and removes (Python's audit events);
what native code opens is seen only by strace, under which the whole process can run.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Audit events that touch something: the first is a path, and of some the second too.
TOUCHES = {"open": 1, "os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.symlink": 2, "os.link": 2,
           "os.chmod": 1, "os.utime": 1, "os.truncate": 1, "os.listdir": 1, "os.scandir": 1}  # fmt: skip
FORBIDDEN = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "socket.getaddrinfo"}
MORE_MEMORY = 3 << 30  # bytes that a child may map beyond what the warm process has
EDGEVL, BOARD = "edgevl.cli:main", "benchmark:main"  # what a command line is given to


def board_line(bundle: str) -> list[str]:
    """A command line of the board's script that measures nothing."""
    return [bundle, "--check", "--threads", "1", "--step-seconds", "15", "--memory-mb", "900"]


Main = Callable[[list[str]], int]


@dataclass(frozen=True)
class Outcome:
    """What became of one command. `code` is negative for a signal, "hang" if it had to be ended."""

    code: int | str
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if line.startswith("error:")]


@dataclass(frozen=True)
class Child:
    """What became of one child: its commands, and every (event, real path) that it touched."""

    outcomes: tuple[Outcome, ...]
    touched: frozenset[tuple[str, str]]
    seconds: float
    more_mb: float  # the most memory that it, or a process that it started, held beyond what the warm process has


class Forked:
    """The client. Start it with command lines that warm it up, then `run` as many as wanted."""

    def __init__(self, place: Path, warm: list[list[str]], prefix: list[str] | None = None, entry: str = EDGEVL):
        """`place`: working folder of every command, with HOME and TMPDIR in it. `prefix`: strace and its options."""
        self.place = place.resolve()
        for name in ("home", "tmp"):
            (place / name).mkdir(exist_ok=True)
        environment = {**os.environ, "HOME": str(self.place / "home"), "TMPDIR": str(self.place / "tmp")}
        environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
        self._log_file = place / f"{entry.split(':')[0]}.log"
        self._log = self._log_file.open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [*(prefix or []), sys.executable, "-B", __file__, str(self.place), entry], cwd=place, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        encoding="utf-8")  # fmt: skip
        self._ask({"warm": warm})

    def run(self, *lines: list[str], timeout: float = 60) -> Child:
        """Run the entry with each line, one after another, in one child."""
        answer = self._ask({"lines": lines, "timeout": timeout})
        touched = frozenset((event, path) for event, path in answer["touched"])
        outcomes = tuple(Outcome(**outcome) for outcome in answer["outcomes"])
        return Child(outcomes, touched, answer["seconds"], answer["more_mb"])

    def call(self, function: str, *arguments: Any) -> Any:
        """Call `MODULE:NAME` with plain arguments in the warm process itself and return its result, plain too."""
        return self._ask({"function": function, "arguments": arguments})

    def _ask(self, question: dict) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the forking process ended: {self._log_file.read_text('utf-8')[-3000:]}"
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()
        self._log.close()


def wait_for(pid: int, seconds: float) -> int | None:
    """The exit code of a child (negative: its signal), or None if it had to be killed after `seconds`."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _serve(place: Path, entry: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints while it is warmed up is no answer
    sys.path.insert(0, str(Path(__file__).parent))
    if entry == BOARD:  # its work is done in children, which would each load the runtime again
        sys.path.insert(0, str(ROOT / "apps" / "jetson"))
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        importlib.import_module("onnxruntime")
    module, name = entry.split(":")
    main = getattr(importlib.import_module(module), name)
    for line in sys.stdin:
        question = json.loads(line)
        answers.write(json.dumps(_answer(question, place, main)) + "\n")
        answers.flush()
    os._exit(0)  # libraries take seconds to say good-bye


def _answer(question: dict, place: Path, main: Main) -> Any:
    if "warm" in question:
        return _warm(question["warm"], main)
    if "function" in question:
        module, name = question["function"].split(":")
        return getattr(importlib.import_module(module), name)(*question["arguments"])
    return _fork(question["lines"], question["timeout"], place / "tmp" / "child", main)


def _warm(lines: list[list[str]], main: Main) -> bool:
    for argv in lines:
        code = main(argv)
        assert code == 0, (argv, code)
    return True


def _fork(lines: list[list[str]], timeout: float, folder: Path, main: Main) -> dict:
    folder.mkdir()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(lines, folder, main)
    code = wait_for(pid, timeout)
    outcomes = [_outcome(folder, number, code) for number in range(len(lines))]
    touched = {tuple(json.loads(line)) for line in _text(folder / "touched").splitlines()}
    peak = float(_text(folder / "peak") or 0)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    more = max(0.0, peak - _resident_mb())
    return {"outcomes": outcomes, "touched": sorted(touched), "seconds": time.monotonic() - start, "more_mb": more}


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize() / 2**20


def _outcome(folder: Path, number: int, code: int | None) -> dict:
    """A command without a code is the one at which the child ended, or one that it never came to."""
    found = _text(folder / f"{number}.code")
    ended: int | str = "hang" if code is None else code
    return {
        "code": int(found) if found else ended,
        "stdout": _text(folder / f"{number}.out"),
        "stderr": _text(folder / f"{number}.err"),
    }


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def _child(lines: list[list[str]], folder: Path, main: Main) -> None:
    """Run the commands; never returns."""
    mapped = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MORE_MEMORY, mapped + MORE_MEMORY))
    files = [[_new(folder / f"{number}.{end}") for end in ("out", "err", "code")] for number in range(len(lines))]
    _watch(_new(folder / "touched"))
    peak = _new(folder / "peak")
    for argv, (out, err, code) in zip(lines, files):
        os.dup2(out, 1)
        os.dup2(err, 2)
        try:
            result = main(argv)
        except BaseException as error:
            os.write(2, f"Traceback, out of main: {error!r}\n".encode(errors="replace"))
            result = 99
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(code, str(result).encode())
    kilobytes = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    os.write(peak, str(kilobytes / 1024).encode())
    os._exit(0)


def _new(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)


def _watch(log: int) -> None:
    """Write every audit event that touches a path into `log`, links resolved."""

    def note(event: str, arguments: tuple) -> None:
        paths = ["-"] if event in FORBIDDEN else list(map(_real, arguments[: TOUCHES.get(event, 0)]))
        for path in paths:
            os.write(log, (json.dumps([event, path]) + "\n").encode())

    sys.addaudithook(note)


def _real(path: Any) -> str:
    if isinstance(path, int) or path is None:  # a descriptor that is open already, or the current folder
        return "."
    try:
        return os.fsdecode(os.path.realpath(path)).encode(errors="replace").decode()
    except (ValueError, OSError):  # a null character: nothing can be opened so
        return "."


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2])
