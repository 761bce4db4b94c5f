"""Code in a bundle: neither edgevl nor the board runs it, and both refuse a bundle that holds other code than ours."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import edgevl
from edgevl.apps.jetson import build_engine
from edgevl.apps.jetson.bundle_files import SCRIPTS
from edgevl.bundle.folder import Bundle
from edgevl.cli import main
from edgevl.errors import VerificationFailed
from edgevl.predict import predict
from edgevl.verify.run import verify_bundle

SCRIPT = "build_engine.py"
CODE = b"\nopen({!r}, 'w').close()\n"


@pytest.fixture
def fresh(bundles, tmp_path) -> Callable[[str], Path]:
    return lambda kind: Path(shutil.copytree(bundles[kind], tmp_path / f"{kind}.edgevl"))


def put(bundle: Path, name: str, data: bytes) -> None:
    """A file with a digest that fits, whatever was there before."""
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_bytes(data)
    edit(bundle, lambda values: values["files"].update({name: entry(data)}))


def entry(data: bytes) -> dict:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def edit(bundle: Path, change: Callable[[dict], object]) -> None:
    values = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    change(values)
    (bundle / "manifest.json").write_text(json.dumps(values), encoding="utf-8")


def assert_refused(bundle: Path, jetson, words: str) -> None:
    """In the same words by every command, and on the board before anything of the bundle is loaded."""
    problems = verify_bundle(bundle, samples=2, write=False).audit.problems
    assert any(words in problem for problem in problems), problems
    with pytest.raises(VerificationFailed, match=r"edgevl|part|named") as caught:
        predict(bundle, bundle / "golden/wide.png", "what is it?")
    assert words in str(caught.value)
    with pytest.raises(jetson.bundle_reader.Problem) as caught:
        jetson.bundle_reader.Bundle(bundle)
    assert caught.value.exit_code == 4 and words in str(caught.value)


def test_a_script_with_code_appended(fresh, jetson, capsys):
    """The input of `cases/reliability/tampered_build_engine.py`: digests that fit, code that nobody signed."""
    bundle = fresh("tensorrt")
    ran = bundle.parent / "ran"
    put(bundle, SCRIPT, (bundle / SCRIPT).read_bytes() + CODE.replace(b"{!r}", repr(str(ran)).encode()))
    assert main(["verify", str(bundle), "--samples", "2"]) == 4
    said = capsys.readouterr()
    words = f"{SCRIPT} is not the one that edgevl {edgevl.__version__} writes: do not run it"
    assert words in " ".join((said.out + said.err).split())
    assert_refused(bundle, jetson, words)
    assert main(["inspect", str(bundle), "--json"]) == 0
    assert any(words in problem for problem in json.loads(capsys.readouterr().out)["problems"])
    assert not ran.exists()


def test_the_board_runs_its_own_script(bundles, jetson, monkeypatch, tmp_path):
    """Even of a bundle whose script is ours, it is the copy beside benchmark.py that builds, into the user's cache."""
    commands = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(jetson.build_engine, "load_tensorrt", lambda _: None)
    monkeypatch.setattr(jetson.build_engine, "find_gpu", lambda: {"name": "x", "compute_capability": "8.7"})
    monkeypatch.setattr(jetson.runtimes.subprocess, "run", lambda command, **_: sys.exit(commands.append(command)))
    with pytest.raises(SystemExit):
        jetson.runtimes.find_engines(jetson.bundle_reader.Bundle(bundles["tensorrt"]), None)
    (command,) = commands
    assert Path(command[1]).parent == Path(jetson.runtimes.__file__).parent and command[1].endswith(SCRIPT)
    assert command[2:] == [str(bundles["tensorrt"]), "--out", command[4]]
    digest = Bundle.open(bundles["tensorrt"]).artifact_sha256[:16]
    assert command[4] == str(tmp_path / "edgevl" / "engines" / digest)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("99.0", "is said to be that of edgevl '99.0', which is not known here: do not run it, update edgevl"),
        ("\x1b[2J", r"that of edgevl '\x1b[2J', which is not known here"),
        (None, "that of edgevl 'None', which is not known here"),
    ],
)
def test_a_script_of_a_version_that_is_not_known(fresh, jetson, version, words):
    bundle = fresh("tensorrt")
    versions = {"edgevl": version} if version else {}
    edit(bundle, lambda values: values.update(versions=versions))
    assert_refused(bundle, jetson, words)


def test_the_table_of_scripts_has_todays():
    """A release adds a line and takes none away: bundles that were made before stay what they are."""
    digest = hashlib.sha256(Path(build_engine.__file__).read_bytes()).hexdigest()
    assert SCRIPTS[edgevl.__version__] == digest, f"bundle_files.py: SCRIPTS needs {edgevl.__version__!r}: {digest!r}"
    assert "0.1.0" in SCRIPTS


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("tensorrt", "argparse.py"),  # Python would import it in place of its own when somebody runs build_engine.py
        ("tensorrt", "tensorrt/__init__.py"),
        ("tensorrt", "model/tensorrt.py"),
        ("onnx", SCRIPT),
        ("onnx", "custom_ops.so"),
        ("onnx", "weights.bin"),
    ],
)
def test_a_file_that_has_no_part_in_a_bundle(fresh, jetson, kind, name):
    bundle = fresh(kind)
    put(bundle, name, b"import os\n")
    assert_refused(bundle, jetson, f"{name} has no part in a bundle for {kind}")


@pytest.mark.parametrize(("old", "name"), [("labels.json", "argparse.py"), ("tokenizer.json", "tokenizer.txt")])
def test_a_text_that_is_called_something_else(fresh, jetson, old, name):
    bundle = fresh("onnx")
    (bundle / old).rename(bundle / name)

    def rename(values: dict) -> None:
        values["files"][name] = values["files"].pop(old)
        section = values["labels"] if old == "labels.json" else values["text_processing"]["main"]
        section["file"] = name

    edit(bundle, rename)
    assert_refused(bundle, jetson, f"{name} is not named .json")


def test_an_artifact_that_is_called_something_else(fresh, jetson):
    """ONNX Runtime reads another format from a file named .ort."""
    bundle = fresh("onnx")
    (bundle / "model.onnx").rename(bundle / "model.ort")

    def rename(values: dict) -> None:
        values["files"]["model.ort"] = values["files"].pop("model.onnx")
        values["programs"][0]["artifact"] = "model.ort"

    edit(bundle, rename)
    assert_refused(bundle, jetson, "model.ort is not named .onnx")
