"""Functions for the warm process of `Forked`: exports and recordings that are killed at a chosen moment."""

import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from forked import wait_for

# Each of these can leave something else on the disk. `open` stands for what is written, and for each flush.
STEPS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}
GOES_ON = 0  # the exit code of a child that was not killed


def warm_export(model: str, out: str) -> bool:
    from edgevl.bundle_export import export_bundle

    export_bundle(model, "onnx", out=out)
    return True


def killed_export(model: str, out: str, force: bool, seconds: float) -> dict:
    """Export in a child that gets SIGKILL after `seconds`. Returns whether it was killed and how long it took."""
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _end_with(lambda: _export(model, out, force))
    code = wait_for(pid, seconds)
    assert code in (None, GOES_ON), code
    return {"killed": code is None, "seconds": time.monotonic() - start}


def late_kills(model: str, place: str, keep: str, force: bool) -> int:
    """Export to PLACE/x.edgevl and kill it at every step of the end, from the manifest to the last rename and removal.

    The export runs once, in a child. When only the end is left, that child forks again and again; each grandchild goes
    on from there until its step. `place` is copied to KEEP/NUMBER after each kill and put back as it
    was. Returns how many kills there were.
    """
    pid = os.fork()
    if pid == 0:

        def progress(done: int, total: int, text: str) -> None:
            if text == "writing manifest.json":
                _branch(Path(place), Path(keep))

        _end_with(lambda: _export(model, f"{place}/x.edgevl", force, progress))
    assert wait_for(pid, 600) == GOES_ON
    return len(list(Path(keep).glob("[0-9]*")))


def killed_records(bundle: str, keep: str) -> int:
    """`Bundle.record` killed at every step; the bundle is copied to KEEP/NUMBER after each kill and put back."""
    from edgevl.bundle.folder import Bundle

    def record(step: int) -> None:
        _kill_at(step)
        Bundle.open(bundle).record(bench={"p50_ms": 1.5})

    return _each_step(Path(bundle), Path(keep), record)


def _export(model: str, out: str, force: bool, progress: Callable[[int, int, str], None] | None = None) -> None:
    from edgevl.bundle_export import export_bundle

    export_bundle(model, "onnx", out=out, force=force, progress=progress)


def _branch(place: Path, keep: Path) -> None:
    """Returns in each grandchild, to go on to its end; ends the child after all of them."""
    pid = os.getpid()
    _each_step(place, keep, lambda step: None, go_on=True)
    if os.getpid() == pid:
        os._exit(GOES_ON)


def _each_step(place: Path, keep: Path, act: Callable[[int], None], go_on: bool = False) -> int:
    """Fork for step 0, 1, 2 ... until a child is not killed any more. Returns the number of kills."""
    keep.mkdir()
    shutil.copytree(place, keep / "before")
    for step in range(1000):
        pid = os.fork()
        if pid == 0 and go_on:
            _kill_at(step)
            return step
        if pid == 0:
            _end_with(lambda step=step: act(step))
        code = wait_for(pid, 60)
        if code == GOES_ON:
            return step
        assert code == -signal.SIGKILL, code
        shutil.copytree(place, keep / str(step))
        shutil.rmtree(place)
        shutil.copytree(keep / "before", place)
    raise AssertionError("it never came to an end")


def _kill_at(step: int) -> None:
    """This process gets SIGKILL before its step number `step` from now on."""
    left = [step]

    def count(event: str, arguments: tuple) -> None:
        if event in STEPS:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    sys.addaudithook(count)


def _end_with(action: Callable[[], None]) -> None:
    """Run the action and end this process, whatever happens; nothing of the parent is flushed or cleaned up."""
    code = 1
    try:
        action()
        code = GOES_ON
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
