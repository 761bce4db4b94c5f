"""A command in a child process: exit codes, streams, signals, leftovers are those of a command that is one process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = Path(__file__).parent / "guarded_command.py"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and forks")


class Started:
    """A command at work, with the folder of its temporary files."""

    def __init__(self, folder: Path, *words: object, shell: str = "", seconds: float = 1.5):
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        environment = {**os.environ, "TMPDIR": str(self.scratch)}
        line = [sys.executable, str(COMMAND), "work", str(seconds), *map(str, words)]
        command = ["bash", "-c", f'"$@" {shell}', "bash", *line] if shell else line
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
            start_new_session=True, preexec_fn=heed_interrupts,
        encoding="utf-8")  # fmt: skip

    def children(self) -> list[int]:
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="utf-8")
        return [int(word) for word in text.split()]

    def wait_for_the_child(self) -> int:
        """Until it is in its call."""
        for _ in range(200):
            boards = list(self.scratch.glob("*/board"))
            if boards and b"running" in boards[0].read_bytes():
                return self.children()[0]
            time.sleep(0.05)
        raise AssertionError("the child does not start")

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


def heed_interrupts() -> None:
    """A shell starts what it runs in the background with SIGINT ignored, and children inherit that: so may CI."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start(tmp_path):
    started: list[Started] = []

    def begin(*words: object, **options) -> Started:
        started.append(Started(tmp_path, *words, **options))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait()


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="utf-8"):
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@linux_only
def test_results_and_exit_codes_are_those_of_the_child(start, tmp_path):
    done = start("add", 2, 3)
    assert done.end() == (0, "5\n", "a library prints this\n")
    assert list(done.scratch.iterdir()) == []


@linux_only
@pytest.mark.parametrize(("kind", "code"), [("input", 2), ("missing", 3), ("ours", 1), ("other", 1)])
def test_errors_are_the_childs_own(start, kind, code):
    found, out, err = start("fail", repr(kind)).end()
    assert (found, out) == (code, "") and err.count("error: ") == 1


@linux_only
def test_a_limit_is_one_line_and_exit_code_4(start):
    started = start("spin")
    child = started.wait_for_the_child()
    code, out, err = started.end()
    said = "error: running their.edgevl/model.onnx did not end within 1.5 s, the limit, and was stopped: --max-seconds"
    assert (code, out) == (4, "") and err.splitlines()[1].startswith(said) and err.count("\n") == 2
    assert gone(child) and list(started.scratch.iterdir()) == []


@linux_only
def test_memory_and_a_crash_are_exit_code_4_too(start, tmp_path):
    code, _, err = start("hoard", 3).end()
    assert code == 4 and "took more than 0.5 GB of memory, the limit, and was stopped: --max-memory" in err
    (tmp_path / "scratch").rmdir()
    code, _, err = start("end_by", "'SIGSEGV'", True).end()
    assert code == 4 and "error: loading their.edgevl/model.pte was ended by SIGSEGV" in err


@linux_only
@pytest.mark.parametrize("group", [False, True])
def test_ctrl_c_in_a_call_that_hears_nothing(start, monkeypatch, group):
    """A terminal sends it to both processes, `kill` to one; a loop in native code hears neither."""
    started = start("spin", 600, seconds=60)
    child = started.wait_for_the_child()
    (os.killpg if group else os.kill)(started.process.pid, signal.SIGINT)
    assert started.end() == (130, "", "a library prints this\nerror: interrupted\n") and gone(child)


@linux_only
@pytest.mark.parametrize("group", [False, True])
def test_ctrl_c_elsewhere_is_heard_once(start, group):
    started = start("slow_outside", 60)
    for _ in range(100):
        if list(started.scratch.glob("*/board")) and started.children():
            break
        time.sleep(0.05)
    time.sleep(0.5)
    (os.killpg if group else os.kill)(started.process.pid, signal.SIGINT)
    began = time.monotonic()
    assert started.end() == (130, "", "a library prints this\nerror: interrupted\n")
    assert time.monotonic() - began < 10 and list(started.scratch.iterdir()) == []


@linux_only
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_whoever_ends_the_command_ends_the_child(start, number):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("whoever started these tests has this signal ignored, as nohup does: so would the command")
    started = start("spin", seconds=60)
    child = started.wait_for_the_child()
    os.kill(started.process.pid, number)
    assert started.end()[0] == -number and gone(child)
    if number != signal.SIGKILL:
        assert list(started.scratch.iterdir()) == []


@linux_only
def test_a_signal_to_the_child_is_the_commands(start):
    started = start("slow_outside", 60)
    for _ in range(100):
        if list(started.scratch.glob("*/board")) and started.children():
            break
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(started.children()[0], signal.SIGTERM)
    assert started.end()[0] == -signal.SIGTERM


@linux_only
@pytest.mark.parametrize(("shell", "code"), [(">&-", 0), ("2>&-", 0), ("| false; exit ${PIPESTATUS[0]}", 0)])
def test_closed_streams(start, shell, code):
    found, out, err = start("add", 2, shell=shell).end()
    assert (found, out) == (code, "2\n" if shell == "2>&-" else "")
    assert "error" not in err and "Traceback" not in err


def test_nothing_heavy_is_imported_before_the_fork():
    """A process with threads must not fork, and a command must not start later than it did."""
    heavy = ("numpy", "torch", "onnx", "onnxruntime", "pydantic", "coremltools", "PIL", "psutil", "yaml")
    program = f"import sys, edgevl.cli; sys.exit([name for name in {heavy} if name in sys.modules] or 0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def test_main_called_from_python_stays_in_its_process(monkeypatch, capsys):
    from edgevl.cli import main
    from edgevl.guard import children

    monkeypatch.setattr(children, "fork", lambda watch: pytest.fail("forked"))
    assert main(["inspect", "nowhere.edgevl"]) == 2
    assert "there is no bundle" in capsys.readouterr().err
