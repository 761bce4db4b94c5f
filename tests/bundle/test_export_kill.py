"""Kill an export, or the recording of a measurement, at any moment: what is left is whole, or does not load.

`pytest -m slow tests/bundle/test_export_kill.py` also kills ten exports that replace a bundle.
"""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from edgevl.bundle.folder import Bundle, write_atomically
from edgevl.bundle.manifest import FileEntry
from edgevl.errors import EdgeVLError, InputError

KILLS = 10
NAME = "x.edgevl"


@pytest.fixture(scope="module")
def warm(forked, tiny_model, tmp_path_factory):
    """`warm(function, *arguments)` runs in a process that has exported once, so that an export takes a second."""
    forked.call("kills:warm_export", str(tiny_model), str(tmp_path_factory.mktemp("warm") / NAME))
    return lambda function, *arguments: forked.call(f"kills:{function}", *map(plain, arguments))


def plain(argument):
    return str(argument) if isinstance(argument, Path) else argument


@pytest.fixture
def old(exported, tmp_path) -> Path:
    """A folder with a bundle that is about to be replaced. It differs from a new one in what was measured."""
    (tmp_path / "place").mkdir()
    path = shutil.copytree(exported["onnx"], tmp_path / "place" / NAME)
    Bundle.open(path).record(bench={"old": 1})
    return path.parent


def whole(folder: Path, exported: dict[str, Path]) -> dict[str, str]:
    """What loads as a bundle in a folder, hidden ones too: name -> "old" or "new". Each must be whole."""
    new, found = (exported["onnx"] / "manifest.json").read_bytes(), {}
    for path in folder.iterdir():
        try:
            bundle = Bundle.open(path)
        except EdgeVLError:
            continue
        assert bundle.check_digests() == [], path
        assert bundle.manifest.bench == {"old": 1} or (path / "manifest.json").read_bytes() == new, path
        found[path.name] = "old" if bundle.manifest.bench else "new"
    return found


def moments(seconds: float) -> list[float]:
    """Ten random moments, one in each tenth of the time that an export takes."""
    chance = random.Random(7)
    return [seconds * (number + chance.random()) / KILLS for number in range(KILLS)]


def test_ten_random_moments(warm, exported, tiny_model, tmp_path):
    out = tmp_path / "measured" / NAME
    seconds = warm("killed_export", tiny_model, out, False, 300)["seconds"]
    killed = 0
    for number, moment in enumerate(moments(seconds)):
        place = tmp_path / str(number)
        result = warm("killed_export", tiny_model, place / NAME, False, moment)
        killed += result["killed"]
        found = whole(place, exported) if place.exists() else {}
        assert set(found.values()) <= {"new"} and (result["killed"] or NAME in found)
    assert killed >= KILLS // 2, "the machine was so uneven that few exports were killed"
    last = tmp_path / str(killed // 2)
    assert not warm("killed_export", tiny_model, last / NAME, (last / NAME).exists(), 300)["killed"]
    assert whole(last, exported)[NAME] == "new", "an export after a killed one"


@pytest.mark.slow
def test_ten_random_moments_over_an_old_bundle(warm, exported, tiny_model, old):
    seconds = warm("killed_export", tiny_model, old.parent / "measured" / NAME, False, 300)["seconds"]
    killed = 0
    for moment in moments(seconds):
        killed += warm("killed_export", tiny_model, old / NAME, True, moment)["killed"]
        found = whole(old, exported)
        assert NAME in found or "old" in found.values(), "the old bundle is whole, aside if it must be"
    assert killed >= KILLS // 2
    assert not warm("killed_export", tiny_model, old / NAME, True, 300)["killed"]
    assert whole(old, exported)[NAME] == "new"


@pytest.mark.parametrize("force", [False, True])
def test_every_step_of_the_end(warm, exported, tiny_model, old, tmp_path, force):
    """The window that random moments miss: manifest, flushes, renames, removal of the old bundle."""
    if not force:
        shutil.rmtree(old / NAME)
    count = warm("late_kills", tiny_model, old, tmp_path / "states", force)
    assert count > 20
    seen = set()
    for step in range(count):
        found = whole(tmp_path / "states" / str(step), exported)
        at_home, aside = found.get(NAME), {name.split("-")[0]: kind for name, kind in found.items() if name != NAME}
        assert at_home or aside.get(f".{NAME}.old") == "old" or not force, f"step {step}: the old bundle is gone"
        seen.add((at_home, *sorted(aside.items())))
    assert (None, (f".{NAME}.tmp", "new")) in seen or force
    assert {state[0] for state in seen} == ({"old", "new", None} if force else {"new", None}), seen


def test_every_step_of_a_recording(warm, exported, tmp_path):
    """Card and manifest are two files, and each is written through a third: none of the states may be invalid."""
    path = shutil.copytree(exported["onnx"], tmp_path / NAME)
    Bundle.open(path).record(bench={"old": 1})
    count = warm("killed_records", path, tmp_path / "states")
    assert count >= 9, "three files, each opened, flushed and renamed"
    measured = []
    for step in range(count):
        bundle = Bundle.open(tmp_path / "states" / str(step))
        assert bundle.check_digests() == [], f"step {step}"
        measured.append(bundle.manifest.bench)
        again = bundle.record(bench={"again": 1})
        assert "README.md" in again.manifest.files and again.check_digests() == []
    assert measured[0] == {"old": 1} and measured[-1] == {"p50_ms": 1.5}


def test_a_card_that_is_not_listed_is_not_judged_but_one_that_is(fresh, tools):
    path = fresh("onnx")
    tools.edit(path, lambda values: values["files"].pop("README.md"))
    assert Bundle.open(path).check_digests() == []
    (path / "README.md").unlink()
    assert Bundle.open(path).check_digests() == []
    (path / "README.md").symlink_to("labels.json")
    assert "link" in str(Bundle.open(path).check_digests())
    (path / "README.md").unlink()
    (path / "README.md").write_text("changed", encoding="utf-8")
    tools.edit(
        path, lambda values: values["files"].update({"README.md": FileEntry(sha256="0" * 64, bytes=7).model_dump()})
    )
    assert "changed" in str(Bundle.open(path).check_digests())


def test_leftovers_of_a_killed_recording_are_no_part_of_the_bundle(fresh):
    path = fresh("onnx")
    (path / ".manifest.json.tmp-12-00ff00ff").write_text("{", encoding="utf-8")
    (path / ".README.md.tmp-12-00ff00ff").write_text("x", encoding="utf-8")
    assert Bundle.open(path).check_digests() == []
    (path / "golden" / ".manifest.json.tmp-12-00ff00ff").write_text("{", encoding="utf-8")
    (path / ".labels.json.tmp-12-00ff00ff").write_text("{", encoding="utf-8")
    assert len(Bundle.open(path).check_digests()) == 2
    subprocess.run(["touch", "-d", "2 days ago", str(path / ".manifest.json.tmp-12-00ff00ff")], check=True)
    Bundle.open(path).record(bench=None)
    assert not (path / ".manifest.json.tmp-12-00ff00ff").exists() and (path / ".README.md.tmp-12-00ff00ff").exists()


def test_a_full_disk_leaves_the_bundle_as_it_was(fresh, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        path = shutil.copytree(fresh("onnx"), disk / NAME)
        before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
        with (disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(4096))
        with pytest.raises(InputError, match="no space left"):
            Bundle.open(path).record(bench={"p50_ms": 1.5})
        assert before == {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
        with pytest.raises(InputError, match="no space left"):
            write_atomically(disk / "other.json", "x" * 5000)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
