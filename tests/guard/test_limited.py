"""`limited`: one call of a function in a process with limits. What passes one is ended, and nothing of it is left."""

import os
import signal
import time
from pathlib import Path
from types import FunctionType

import guarded_work as work  # pyright: ignore[reportMissingImports]
import pytest

from edgevl.errors import EdgeVLError, InputError, MissingDependency, VerificationFailed
from edgevl.guard import Call, LimitPassed, Limits, limited
from edgevl.guard.calls import Board, is_want_of_memory
from edgevl.guard.processes import available_memory, descendants, resident
from edgevl.guard.watch import Child, Watch

QUICK = Limits(seconds=1.0, memory_gb=1.0)
linux_only = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path_factory, monkeypatch):
    """No process and no folder stays behind, whatever happened."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = set(descendants(os.getpid()))  # what other tests of this process keep for the whole session
    yield
    assert list(folder.iterdir()) == []
    assert set(descendants(os.getpid())) <= before


def test_what_a_function_returns_and_raises():
    assert limited(work.add, 2, other=3, limits=QUICK) == 5
    for kind, error, said in [
        ("input", InputError, "^no such thing$"), ("other", ValueError, "^no such thing$"),
        ("missing", MissingDependency, r'^quantizing needs the package "torchao": pip install "edgevl\[quantize\]"$'),
    ]:  # fmt: skip
        with pytest.raises(error, match=said):
            limited(work.fail, kind, limits=QUICK)


def test_one_call_that_does_not_end_is_ended():
    start = time.monotonic()
    said = (
        r"^running their.edgevl/model.onnx did not end within 1 s, the limit, and was stopped: --max-seconds raises it"
    )
    with pytest.raises(LimitPassed, match=said) as caught:
        limited(work.spin, limits=QUICK)
    assert caught.value.exit_code == 4 and isinstance(caught.value, VerificationFailed)
    assert 1 <= time.monotonic() - start < 15


def test_the_limit_is_that_of_one_call():
    """Many short ones may take any time together, as a thousand samples do; so may what is no call."""
    quick = Limits(seconds=0.5)
    assert limited(work.many_calls, 8, 0.1, limits=quick) == 8
    assert limited(work.slow_outside, 0.8, limits=quick) == "ended"
    assert limited(work.patient, 0.8, limits=quick) == "ended"  # an engine may be built for minutes


@pytest.mark.parametrize(
    ("at_once", "said"), [(False, "took more than 0.3 GB of memory"), (True, "asks for more memory")]
)
def test_memory_that_is_too_much(at_once, said):
    with pytest.raises(LimitPassed, match=f"^running their.edgevl/model.onnx {said}.*--max-memory raises it"):
        limited(work.hoard, 1000 if at_once else 2, at_once, limits=Limits(memory_gb=0.3))


@linux_only
def test_memory_of_a_child_counts_and_it_is_ended_too(tmp_path):
    with pytest.raises(LimitPassed, match=r"^the command took more than 0\.3 GB"):
        limited(work.hoard_in_a_child, 0.8, tmp_path / "pid", limits=Limits(memory_gb=0.3))
    assert is_gone(int((tmp_path / "pid").read_text(encoding="utf-8")))


def test_a_crash_in_a_call_is_the_artifacts():
    with pytest.raises(LimitPassed, match=r"^loading their.edgevl/model.pte was ended by SIGSEGV: the artifact"):
        limited(work.end_by, "SIGSEGV", True, limits=QUICK)
    with pytest.raises(LimitPassed, match="was ended by the system, most likely for want of memory"):
        limited(work.end_by, "SIGKILL", True, limits=QUICK)
    with pytest.raises(EdgeVLError, match=r"^the command was ended by SIGABRT \(unexpected\)$") as caught:
        limited(work.end_by, "SIGABRT", False, limits=QUICK)
    assert caught.value.exit_code == 1


def test_a_process_without_an_answer():
    with pytest.raises(EdgeVLError, match=r"ended without an answer \(status 3\)"):
        limited(work.unanswered, limits=QUICK)


def test_what_cannot_be_sent():
    with pytest.raises(InputError, match="leave out callbacks"):
        limited(work.add, lambda: None, limits=QUICK)
    with pytest.raises(InputError, match="put it into a module"):
        limited(FunctionType((lambda: None).__code__, {"__name__": "__main__"}), limits=QUICK)
    with pytest.raises((AttributeError, TypeError, EdgeVLError), match=r"pickle|local object"):
        limited(work.not_picklable, limits=QUICK)


def test_temporary_files_of_the_process_are_removed():
    assert not Path(limited(work.leave_a_file, limits=QUICK)).exists()


@linux_only
def test_the_child_of_a_process_that_crashed_is_ended_too(tmp_path):
    with pytest.raises(LimitPassed, match="SIGSEGV"):
        limited(work.crash_and_leave_a_child, tmp_path / "pid", limits=QUICK)
    assert is_gone(int((tmp_path / "pid").read_text(encoding="utf-8")))


def is_gone(pid: int) -> bool:
    """Ended, perhaps not yet collected, within seconds."""
    for _ in range(100):
        status = Path(f"/proc/{pid}/status")
        if not status.exists() or "\nState:\tZ" in status.read_text(encoding="utf-8"):
            return True
        time.sleep(0.05)
    return False


def test_a_call_costs_nearly_nothing(tmp_path):
    """A benchmark times runs of a millisecond."""
    board, call = Board.create(tmp_path / "board", 1), Call("running")

    def cost(enter, leave) -> float:
        start = time.perf_counter()
        for _ in range(10_000):
            enter()
            leave()
        return (time.perf_counter() - start) / 10_000

    unwatched = min(cost(call.__enter__, lambda: call.__exit__(None, None, None)) for _ in range(3))
    watched = min(cost(lambda: board.enter(call._label), board.leave) for _ in range(3))
    assert unwatched < 20e-6 and watched < 50e-6
    assert board.running() == []


@pytest.mark.parametrize(("gaps", "ends"), [([3600.0], False), ([0.9] * 5, True), ([0.05] * 30, True), ([], False)])
def test_time_in_which_nobody_looks_is_nobodys(monkeypatch, gaps, ends):
    """Ctrl-Z, or a laptop that is closed, stops both: an hour between two looks is not an hour of the call."""
    now, watch, left = [100.0], Watch(Limits(seconds=1.4)), iter([0.05, *gaps, 0.05])

    def wait(seconds: float) -> int | None:
        gap = next(left, None)
        now[0] += gap or 0
        return 0 if gap is None else None

    monkeypatch.setattr("edgevl.guard.watch.time.monotonic", lambda: now[0])
    watch.board.enter(Call("running")._label)
    ended: list[Child] = []
    monkeypatch.setattr(watch, "end", ended.append)
    try:
        assert watch.follow(Child(os.getpid(), wait)) == 0
    except LimitPassed:
        assert len(ended) == 1
    assert bool(ended) == ends
    watch.close()


def test_a_board_says_what_runs(tmp_path):
    board = Board.create(tmp_path / "board", 7)
    call = Call.on("running", Path("/var/tmp/x/my.edgevl/model/vision.onnx"), patience=3)
    board.enter(call._label)
    other = Board(tmp_path / "board")  # as the other process sees it
    (slot, number, patience, what) = other.running()[0]
    assert (patience, what, other.memory) == (3, "running my.edgevl/model/vision.onnx", 7)
    board.leave()
    board.enter(Call("x" * 999)._label)
    assert other.running()[0][:2] != (slot, number) and len(other.running()[0][3]) == 240
    assert Call.on("reading", Path("model.onnx")).what == "reading model.onnx"


def test_what_a_runtime_says_when_memory_is_short():
    assert is_want_of_memory(MemoryError()) and is_want_of_memory(RuntimeError("std::bad_alloc"))
    assert is_want_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"))
    assert not is_want_of_memory(ValueError("the allocation of memory is fine"))


def test_the_machine_has_memory():
    assert 1e8 < available_memory() < 1e15 and 1e6 < resident(os.getpid()) < 1e11
    assert 1e9 <= Limits().memory <= 16e9


def test_a_fork_counts_what_it_has_beyond_its_parent():
    """Or each program that a process starts would count the whole process twice until it runs."""
    ballast = b"x" * (64 << 20)  # resident in the parent, shared by the child
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        own = b"y" * (256 << 20)
        os.write(writing, b"ready")
        time.sleep(len(own))
        os._exit(0)
    try:
        assert os.read(reading, 5) == b"ready"
        alone = resident(os.getpid())
        assert alone > len(ballast) and 200 << 20 < resident(os.getpid(), [child]) - alone < 300 << 20
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
