"""The file that was checked is the file that is run: nobody can put another one in its place in between."""

import gc
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgevl.apps.jetson.bundle_files import sha256_file
from edgevl.bench.run import _as_bundle
from edgevl.bundle.folder import Bundle
from edgevl.bundle.golden import replay
from edgevl.copying import hash_file
from edgevl.errors import InputError, VerificationFailed
from edgevl.predict import Answerer
from edgevl.reading import Unreadable
from edgevl.verify.audit import inspect_bundle
from edgevl.verify.run import verify_bundle

NAMES = ("onnx", "coreml", "split")


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


@pytest.fixture
def other(bundles, tiny_model, tmp_path):
    """`other(name)`: a copy of a bundle, beside its checkpoint."""
    shutil.copytree(tiny_model, tmp_path / tiny_model.name)
    return lambda name: Path(shutil.copytree(bundles[name], tmp_path / f"{name}.edgevl"))


def ruin(bundle: Path) -> None:
    """Put something else in the place of every file, of the same size where that is possible."""
    for file in [path for path in bundle.rglob("*") if path.is_file()]:
        size = file.stat().st_size
        file.unlink()
        file.write_bytes(b"x" * size)


@pytest.fixture
def swapped(monkeypatch):
    """As soon as a bundle was copied, its folder holds something else."""
    copied = Bundle.copied

    def then_ruin(bundle: Bundle) -> Bundle:
        copy = copied(bundle)
        ruin(bundle.path)
        return copy

    monkeypatch.setattr(Bundle, "copied", then_ruin)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_checked_is_run_whatever_lies_there_now(other, scratch, name):
    path = other(name)
    bundle = Bundle.open(path).checked()
    assert bundle.path.parent.parent == scratch and bundle.path.name == path.name and bundle.source == path
    ruin(path)
    model, labels = bundle.opened(1), bundle.manifest.labels
    assert replay(bundle, model).problems == () and labels and len(bundle.labels() or ()) == labels.count
    with pytest.raises(VerificationFailed):
        Bundle.open(path)


@pytest.mark.parametrize("name", NAMES)
def test_verify_runs_what_it_hashed(other, name, swapped):
    report = verify_bundle(other(name), samples=4, write=False)
    assert report.ok, report.audit.problems
    assert report.bundle.endswith(f"{name}.edgevl") and report.golden


@pytest.mark.parametrize("name", NAMES)
def test_predict_runs_what_it_hashed(other, bundles, name, swapped):
    question, picture = "what color is it?", bundles[name] / "golden" / "wide.png"
    found = Answerer.load(other(name), 1).answer(picture, question).scores
    assert len(found) == 5 and all(np.isfinite(score) for _, score in found)


def test_inspect_and_bench_read_what_they_hashed(other, swapped):
    report = inspect_bundle(other("coreml"))
    assert report.problems == [] and report.op_types
    bundle = _as_bundle(other("onnx"), Path("unused"), lambda text: None)  # pyright: ignore[reportArgumentType]
    assert Bundle.open(bundle.path).sessions(1), "the folder that the benchmark's own processes open"


def test_a_device_gets_what_was_hashed(other, monkeypatch):
    from edgevl.bench import remote

    path, sent = other("onnx"), []
    monkeypatch.setattr(remote, "_prepare", lambda device: ruin(path) or "/tmp/x")
    monkeypatch.setattr(remote, "_copy", lambda device, folder, bundle, timeout: sent.append(bundle))
    monkeypatch.setattr(remote, "_run", lambda *arguments: "nothing")
    monkeypatch.setenv("EDGEVL_SSH", "true")
    with pytest.raises(Exception, match="sent no report back"):
        remote.bench_on_device(path, "ssh:board")
    assert Bundle.open(sent[0].path).check_digests() == []


def test_a_file_that_is_swapped_before_is_refused(other):
    path = other("onnx")
    (path / "model.onnx").write_bytes(b"x" * (path / "model.onnx").stat().st_size)
    with pytest.raises(VerificationFailed, match=r"model\.onnx has changed: its sha256"):
        Bundle.open(path).checked()
    assert [str(problem) for problem in Bundle.open(path).copied().problems] == [
        "model.onnx has changed: its sha256 is not the one in the manifest"
    ]


def test_what_is_not_copied_says_why(other, tmp_path):
    path = other("coreml")
    weights = path / "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    weights.write_bytes(weights.read_bytes() + b"x")
    (path / "golden.json").unlink()
    (path / "golden.json").symlink_to(tmp_path)
    copy = Bundle.open(path).copied()
    with pytest.raises(VerificationFailed, match=r'weight\.bin" of the bundle has grown: [\d,]+ bytes'):
        copy.file(copy.manifest.artifact)
    with pytest.raises(VerificationFailed, match=r'"golden\.json" of the bundle is a link'):
        copy.file("golden.json")


def test_the_copy_goes_when_nothing_needs_it(other, scratch):
    answerer = Answerer.load(other("onnx"), 1)
    assert len(list(scratch.iterdir())) == 1, "the session's files are there as long as the session"
    del answerer
    gc.collect()
    assert list(scratch.iterdir()) == []


def test_the_copy_goes_when_the_process_ends(other, scratch):
    program = (
        "import sys; from edgevl.bundle.folder import Bundle; b = Bundle.open(sys.argv[1]).checked(); print(b.path)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, other("onnx")], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.stdout.startswith(str(scratch)) and list(scratch.iterdir()) == []


def test_messages_name_the_folder_that_was_given(other, tools, scratch):
    path = other("onnx")
    (path / "model.onnx").write_bytes(b"not a model")
    tools.forge(path)
    with pytest.raises(VerificationFailed, match=r"model\.onnx cannot be loaded") as caught:
        Answerer.load(path)
    assert str(path / "model.onnx") in str(caught.value) and str(scratch) not in str(caught.value)
    problems = verify_bundle(path, samples=1).audit.problems
    assert problems and not any(str(scratch) in problem for problem in problems)


@pytest.mark.skipif(os.name == "nt", reason="needs named pipes")
def test_a_file_is_read_once_and_is_plain(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    start = time.monotonic()
    for name, size, said in [
        ("pipe", 3, "is not a plain file"), ("link", 3, "cannot be read"), ("file", 2, r"has grown: 3 bytes"),
        ("file", 4, "is truncated: 3 bytes"), ("nowhere", 3, "cannot be read"),
    ]:  # fmt: skip
        with pytest.raises(Unreadable, match=said):
            hash_file(tmp_path / name, size, tmp_path / "copy")
    assert time.monotonic() - start < 5
    assert hash_file(tmp_path / "link", 3, tmp_path / "new" / "copy", follow=True).startswith("ba7816bf")
    assert (tmp_path / "new" / "copy").read_bytes() == b"abc"


def test_no_room_for_a_copy_is_one_line(other):
    bundle, limits = Bundle.open(other("onnx")), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(InputError, match=r"no private copy can be made in .*File too large.*TMPDIR"):
            bundle.checked()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_digest_of_a_checkpoint_is_that_of_the_bytes_that_were_loaded(tiny_model, monkeypatch, scratch, in_memory):
    """`provenance.checkpoint_sha256` and the reference of verify rest on it. The file is opened once."""
    from edgevl import copying
    from edgevl.models import checkpoint

    expected, opened, really = sha256_file(tiny_model / "model.safetensors"), [], os.open

    def count(path, *rest, **named) -> int:
        opened.append(Path(path).name)
        return really(path, *rest, **named)

    monkeypatch.setattr(checkpoint, "IN_MEMORY", 10**9 if in_memory else 1000)
    monkeypatch.setattr(copying.os, "open", count)
    loaded = checkpoint.load_model(tiny_model)
    assert loaded.sha256 == expected and opened.count("model.safetensors") == 1
    gc.collect()
    assert list(scratch.iterdir()) == []
