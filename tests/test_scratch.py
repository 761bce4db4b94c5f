"""Temporary folders: private, removed, and those of processes that were killed are removed by the next."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgevl.errors import InputError
from edgevl.scratch import PrivateFolder

linux_only = pytest.mark.skipif(os.name == "nt", reason="needs flock")


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def make_old(folder: Path) -> None:
    os.utime(folder, (time.time() - 100, time.time() - 100))


@linux_only
def test_nobody_else_can_look_into_it_and_it_goes(scratch):
    folder = PrivateFolder()
    assert folder.path.parent == scratch and folder.path.stat().st_mode & 0o777 == 0o700
    (folder.path / "model.onnx").write_bytes(b"x")
    folder.remove()
    folder.remove()
    assert list(scratch.iterdir()) == []


@linux_only
def test_what_a_killed_process_left_is_removed_by_the_next(scratch):
    program = "import os; from edgevl.scratch import PrivateFolder as New; new = New()"
    program += "; print(new.path, flush=True); os.kill(os.getpid(), 9)"
    left = Path(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8").stdout.strip()
    )
    used, foreign = PrivateFolder(), scratch / "edgevl-theirs"
    foreign.mkdir()  # without a lock: not one of these
    make_old(used.path)
    make_old(foreign)
    assert left.is_dir(), "it may be at work still"
    make_old(left)
    PrivateFolder().remove()
    assert not left.exists() and used.path.is_dir() and foreign.is_dir()
    used.remove()


def test_no_place_for_temporary_files_is_one_line(scratch, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(scratch / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(scratch / "nowhere"))
    with pytest.raises(InputError, match=r"no temporary folder can be made in .*nowhere.*name another one with TMPDIR"):
        PrivateFolder()
