"""Reading and atomically writing the folder: digests, links, kills, full disks, folders that cannot be written."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from edgevl.bundle.folder import Bundle, atomic_folder, list_files, write_atomically
from edgevl.errors import EdgeVLError, InputError, VerificationFailed

ROOT = Path(__file__).parents[2]


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_open_and_read(exported):
    for target, path in exported.items():
        bundle = Bundle.open(path)
        assert bundle.manifest.target == target and bundle.check_digests() == []
        assert bundle.file(bundle.manifest.artifact).exists() and bundle.manifest.labels
        assert len(bundle.labels() or ()) == bundle.manifest.labels.count
        assert bundle.texts()["main"].spec == bundle.manifest.text_processing["main"]
        assert set(list_files(path)) == set(bundle.manifest.files)


def test_open_what_is_not_a_bundle(tmp_path):
    file = tmp_path / "file"
    file.write_text("x", encoding="utf-8")
    (tmp_path / "half.edgevl").mkdir()
    for path, error, word in [
        (tmp_path / "none", InputError, "no bundle"),
        (file, InputError, "not a bundle"),
        (tmp_path, InputError, "manifest.json"),
        (tmp_path / "half.edgevl", VerificationFailed, "manifest.json"),
    ]:
        with pytest.raises(error, match=word):
            Bundle.open(path)


def test_digests_name_every_kind_of_problem(fresh):
    path = fresh("onnx")
    (path / "extra.bin").write_text("x", encoding="utf-8")
    (path / "labels.json").unlink()
    data = bytearray((path / "model.onnx").read_bytes())
    data[1000] ^= 1
    (path / "model.onnx").write_bytes(bytes(data))
    (path / "golden.json").write_bytes((path / "golden.json").read_bytes()[:-5])
    shutil.move(path / "tokenizer.json", path.parent / "tokenizer.json")
    (path / "tokenizer.json").symlink_to(path.parent / "tokenizer.json")
    (path / ".DS_Store").write_text("Finder was here", encoding="utf-8")
    found = {problem.path: problem.what for problem in Bundle.open(path).check_digests()}
    assert set(found) == {"extra.bin", "labels.json", "model.onnx", "golden.json", "tokenizer.json"}
    for name, word in [
        ("extra.bin", "not in the manifest"),
        ("labels.json", "missing"),
        ("model.onnx", "changed"),
        ("golden.json", "truncated"),
        ("tokenizer.json", "link"),
    ]:
        assert word in found[name]


def test_links_are_never_followed(fresh, tmp_path):
    path = fresh("coreml")
    outside = tmp_path / "outside"
    shutil.move(path / "golden", outside)
    (path / "golden").symlink_to(outside)
    bundle = Bundle.open(path)
    assert any(problem.path == "golden" and "link" in problem.what for problem in bundle.check_digests())
    with pytest.raises(VerificationFailed, match="link"):
        bundle.file("golden/wide.png")
    manifest = path / "manifest.json"
    shutil.move(manifest, tmp_path / "m.json")
    manifest.symlink_to(tmp_path / "m.json")
    with pytest.raises(VerificationFailed, match="link"):
        Bundle.open(path)


@pytest.mark.parametrize("content", ["{}", "[1]", '["a"', '["a"]'])
def test_bad_labels(fresh, content):
    path = fresh("onnx")
    (path / "labels.json").write_text(content, encoding="utf-8")
    with pytest.raises(VerificationFailed, match=r"labels\.json"):
        Bundle.open(path).labels()


@pytest.mark.parametrize("content", ["", "{}", "[]", "\x00"])
def test_bad_tokenizers(fresh, content):
    path = fresh("onnx")
    (path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(VerificationFailed, match=r"tokenizer\.json"):
        Bundle.open(path).texts()


def test_recording_a_measurement(fresh):
    path = fresh("onnx")
    bundle = Bundle.open(path).record(bench={"p50_ms": 1.5})
    assert bundle == Bundle.open(path) and bundle.manifest.bench == {"p50_ms": 1.5}
    assert bundle.check_digests() == []
    assert bundle.record(bench=None).manifest.bench is None


def test_threads_must_be_positive(exported):
    with pytest.raises(InputError, match="threads"):
        Bundle.open(exported["onnx"]).sessions(threads=0)


def fill(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    destination = tmp_path / "sub" / "x.edgevl"
    with atomic_folder(destination) as folder:
        assert folder.parent == destination.parent and not destination.exists()
        fill(folder, "one")
    assert (destination / "manifest.json").read_text(encoding="utf-8") == "one" and leftovers(destination.parent) == []


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), InputError("x")])
@pytest.mark.parametrize("existing", [False, True])
def test_failure_leaves_what_was_there(tmp_path, error, existing):
    destination = tmp_path / "x.edgevl"
    if existing:
        destination.mkdir()
        fill(destination, "old")
    with pytest.raises(type(error)), atomic_folder(destination, force=True) as folder:
        fill(folder, "new")
        raise error
    assert leftovers(tmp_path) == []
    assert destination.exists() == existing and (
        not existing or (destination / "manifest.json").read_text(encoding="utf-8") == "old"
    )


def test_replacing_needs_force_and_a_bundle(tmp_path):
    destination = tmp_path / "x.edgevl"
    destination.mkdir()
    (destination / "thesis.txt").write_text("years of work", encoding="utf-8")
    for force in (False, True):
        with pytest.raises(InputError, match="not a bundle"), atomic_folder(destination, force):
            raise AssertionError("must not get here")
    fill(destination, "old")
    with pytest.raises(InputError, match="--force"), atomic_folder(destination):
        raise AssertionError("must not get here")
    with atomic_folder(destination, force=True) as folder:
        fill(folder, "new")
    assert [path.name for path in destination.iterdir()] == ["manifest.json"]
    assert (destination / "manifest.json").read_text(encoding="utf-8") == "new" and leftovers(tmp_path) == []
    link = tmp_path / "link.edgevl"
    link.symlink_to(destination)
    with pytest.raises(InputError, match="not a bundle"), atomic_folder(link, force=True):
        raise AssertionError("must not get here")


def test_the_old_bundle_returns_if_the_new_one_cannot_be_put_in_place(tmp_path, monkeypatch):
    destination = tmp_path / "x.edgevl"
    destination.mkdir()
    fill(destination, "old")
    rename, calls = Path.rename, []

    def second_fails(self, target):
        calls.append(self)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", second_fails)
        with pytest.raises(OSError), atomic_folder(destination, force=True) as folder:
            fill(folder, "new")
    assert (destination / "manifest.json").read_text(encoding="utf-8") == "old" and leftovers(tmp_path) == []


def test_leftovers_of_killed_runs_go_after_a_day(tmp_path):
    old, young = tmp_path / ".x.edgevl.tmp-1-aa", tmp_path / ".x.edgevl.tmp-2-bb"
    other = tmp_path / ".y.edgevl.tmp-1-aa"
    for folder in (old, young, other):
        folder.mkdir()
    for folder in (old, other):
        os.utime(folder, (0, 0))
    with atomic_folder(tmp_path / "x.edgevl") as folder:
        fill(folder, "x")
    assert leftovers(tmp_path) == [young.name, other.name]


def child(code: str, *arguments: str, **options) -> subprocess.CompletedProcess:
    """Run Python code in a process of its own, with the repository importable."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=300, **options,
    encoding="utf-8")  # fmt: skip


KILLED_BETWEEN_RENAMES = """
    import os, signal, sys
    from pathlib import Path
    from edgevl.bundle.folder import atomic_folder
    rename = Path.rename
    def rename_and_die(self, target):
        rename(self, target)
        os.kill(os.getpid(), signal.SIGKILL)
    Path.rename = rename_and_die
    with atomic_folder(Path(sys.argv[1]), force=True) as folder:
        (folder / "manifest.json").write_text("new")
"""


def test_killed_between_the_renames_the_old_bundle_survives_aside(tmp_path):
    destination = tmp_path / "x.edgevl"
    destination.mkdir()
    fill(destination, "old")
    assert child(KILLED_BETWEEN_RENAMES, str(destination)).returncode == -signal.SIGKILL
    contents = {
        path.name.split("-")[0]: (path / "manifest.json").read_text(encoding="utf-8") for path in tmp_path.iterdir()
    }
    assert contents == {".x.edgevl.old": "old", ".x.edgevl.tmp": "new"}


KILLED_EXPORT = """
    import os, signal, sys
    from edgevl.bundle_export import export_bundle
    def progress(done, total, text):
        if text == sys.argv[3]:
            os.kill(os.getpid(), signal.SIGKILL)
    export_bundle(sys.argv[1], "onnx", out=sys.argv[2], force=True, progress=progress)
"""


@pytest.mark.parametrize("stage", ["converting to onnx fp32", "writing manifest.json", "running it once"])
def test_a_killed_export_leaves_nothing_that_loads(tiny_model, tmp_path, stage):
    """While it is tried out a bundle is whole already, but has its name only when it runs."""
    destination = tmp_path / "x.edgevl"
    result = child(KILLED_EXPORT, str(tiny_model), str(destination), stage)
    assert result.returncode == -signal.SIGKILL, result.stderr[-2000:]
    assert not destination.exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".x.edgevl.tmp-") and (left / "golden.json").exists()
    if stage != "running it once":
        with pytest.raises(EdgeVLError, match=r"manifest\.json"):
            Bundle.open(left)


LIMITED_EXPORT = """
    import resource, signal, sys
    from edgevl.errors import InputError
    from edgevl.bundle_export import export_bundle
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        export_bundle(sys.argv[1], sys.argv[2], out=sys.argv[3])
    except InputError as error:
        print(error)
"""


def test_no_room_for_the_artifact(tiny_model, tmp_path):
    result = child(LIMITED_EXPORT, str(tiny_model), "onnx", str(tmp_path / "x.edgevl"))
    assert "no space left" in result.stdout and result.stdout.count("\n") == 1, result.stderr[-2000:]
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
    import sys
    from pathlib import Path
    from edgevl.bundle.folder import atomic_folder
    from edgevl.errors import InputError
    try:
        with atomic_folder(Path(sys.argv[1])) as folder:
            with (folder / "model.onnx").open("wb") as file:
                file.write(bytes(10**6))
    except InputError as error:
        print(error)
"""


def test_a_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        result = child(FULL_DISK, str(disk / "x.edgevl"))
        assert "no space left" in result.stdout, result.stderr[-2000:]
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@contextlib.contextmanager
def closed_folder():
    """A folder that the current user, even root, cannot write to from the child below."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        yield Path(name)
        Path(name).chmod(0o755)


def test_a_folder_that_cannot_be_written(tmp_path):
    with closed_folder() as folder:
        if os.geteuid() == 0:
            code = FULL_DISK.replace("import sys", "import os, sys", 1).replace(
                "    try:", "    os.setgid(65534); os.setuid(65534)\n    try:", 1
            )
        else:
            code = FULL_DISK
        result = child(code, str(folder / "x.edgevl"))
        assert "cannot be written to" in result.stdout, result.stderr[-2000:]
        assert result.stdout.count("\n") == 1


def test_a_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="--out"), atomic_folder(tmp_path / "file" / "x.edgevl"):
        raise AssertionError("must not get here")


def test_write_atomically(tmp_path):
    path = tmp_path / "manifest.json"
    write_atomically(path, "ü\n")
    write_atomically(path, json.dumps({"a": 1}))
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1} and leftovers(tmp_path) == []
    with pytest.raises(OSError):
        write_atomically(tmp_path / "none" / "x.json", "x")
