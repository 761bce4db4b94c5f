"""Text that nobody here wrote, planted in every field that reaches a terminal: none of it commands the terminal."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from terminals import on_a_terminal

from edgevl.bundle.folder import list_files
from edgevl.cli import main, streams
from edgevl.plain import command_line, plain, plain_json

# A command to the terminal in 7 and in 8 bits, a title, a link, markup, what turns the line around, what begins
# another line, what hides: each is in every planted text.
HOSTILE = "[/]x [link=http://e][bold]\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202e\u2066\u2028\u200b\ufeff\n\tverified\r"
HOSTILE += "<script>| `code` ![](http://e)&#8238;"  # what a card or a page would obey
UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
SHORT = "[/]\x1b[2J\x9b\u202e"  # where few characters are allowed


class Planted:
    """Runs command lines and reads what a terminal would get, from Python code and from native code."""

    def __init__(self, capfd):
        self._capfd = capfd

    def __call__(self, *arguments: object, code: int | None = 0) -> str:
        self._capfd.readouterr()
        got = main([str(argument) for argument in arguments])
        out, err = self._capfd.readouterr()
        assert code is None or got == code, err
        for text in (out, err):
            assert not (found := UNSAFE.search(text)), (found, text)
            assert "Traceback" not in text and "MarkupError" not in text
        assert not [line for line in (out + err).splitlines() if line.strip().startswith("verified")], "a forged line"
        return out + err


@pytest.fixture
def edgevl(capfd) -> Planted:
    return Planted(capfd)


@pytest.fixture(scope="module")
def hostile_model(tiny_model, tmp_path_factory) -> Path:
    """A model folder whose labels, name of the folder and record of training are hostile."""
    folder = Path(shutil.copytree(tiny_model, tmp_path_factory.mktemp("planted") / f"m{SHORT}".replace("/", "")))
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    (folder / "labels.json").write_text(
        json.dumps([f"{HOSTILE}{number}" for number in range(len(labels))]), encoding="utf-8"
    )
    (folder / "training.json").write_text(
        json.dumps({"recipe": HOSTILE, "data": HOSTILE, "commit": HOSTILE}), encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="module")
def hostile_bundle(hostile_model) -> Path:
    """Hostile in every text that its manifest allows, in the names of nodes and weights, and in its own name."""
    bundle = hostile_model.parent / f"b{SHORT}.edgevl".replace("/", "")
    assert main(["export", str(hostile_model), "--license", HOSTILE, "--out", str(bundle)]) == 0
    graph = onnx.load(bundle / "model.onnx")
    rename(graph.graph)
    onnx.save(graph, bundle / "model.onnx")
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    manifest["versions"] |= {"torch": HOSTILE}
    manifest["parity"] = {
        "max_abs": 0, "psnr_db": 1, "cosine": 1, "top1_agreement": 1, "samples": 1, "data": HOSTILE, "runtime": HOSTILE,
        "tensorrt": None,
    }  # fmt: skip
    manifest["accuracy"] = {
        "artifact": 1, "reference": 1, "samples": 1, "data": HOSTILE, "ci95": [0, 1], "runtime": HOSTILE,
        "per_kind": {"a": {"artifact": 1, "reference": 1, "samples": 1}},
    }  # fmt: skip
    sign(bundle, manifest)
    return bundle


def rename(graph: onnx.GraphProto) -> None:
    """Give every node and every weight a hostile name."""
    names = {weight.name: f"{HOSTILE}{number}" for number, weight in enumerate(graph.initializer)}
    for weight in graph.initializer:
        weight.name = names[weight.name]
    for number, node in enumerate(graph.node):
        node.name = f"{HOSTILE}{number}"
        node.input[:] = [names.get(name, name) for name in node.input]


def sign(bundle: Path, manifest: dict) -> None:
    """Write a manifest whose digests fit the files, as a forger would."""
    manifest["files"] = {name: entry.model_dump() for name, entry in list_files(bundle).items()}
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_a_hostile_bundle_is_shown_verified_and_asked(hostile_bundle, hostile_model, photo, edgevl, tmp_path):
    assert "[/]x [link=http://e][bold]" in edgevl("inspect", hostile_bundle)
    answer = edgevl("predict", hostile_bundle, photo, "is the cat red?", "and the dog?", "--top", "3")
    assert answer.count(plain(HOSTILE)) >= 6, "every label as it is"
    edgevl("verify", hostile_bundle, "--samples", "2", "--checkpoint", hostile_model, code=None)
    edgevl("report", hostile_bundle, "--out", tmp_path / f"r{SHORT}.html".replace("/", ""), code=None)
    edgevl("predict", hostile_model, photo, "is the cat red?")
    card = (hostile_bundle / "README.md").read_text(encoding="utf-8")
    assert HOSTILE[:12] in card and not UNSAFE.search(card)
    assert not re.search(r"<script|\]\(|&#8238|(?<!\\)\| &#96;|` ?code", card)


@pytest.mark.parametrize("command", ["inspect", "predict", "verify"])
def test_json_holds_the_hostile_text_escaped(command, hostile_bundle, photo, capfd):
    words = [str(photo), "is the cat red?"] if command == "predict" else []
    main([command, str(hostile_bundle), *words, "--json"])
    out = capfd.readouterr().out
    assert not UNSAFE.search(out)
    strings = json.dumps(json.loads(out), ensure_ascii=False)
    assert "\x9b31m" in strings, "escaped, not lost"


def test_an_operator_that_no_runtime_knows(hostile_bundle, photo, edgevl, tmp_path):
    bundle = Path(shutil.copytree(hostile_bundle, tmp_path / "unknown.edgevl"))
    graph = onnx.load(bundle / "model.onnx")
    for node in graph.graph.node:
        node.op_type = HOSTILE if node.op_type == "Relu" else node.op_type
    graph.graph.node[0].domain = HOSTILE
    onnx.save(graph, bundle / "model.onnx")
    sign(bundle, json.loads((bundle / "manifest.json").read_text(encoding="utf-8")))
    assert plain(HOSTILE) in edgevl("inspect", bundle)
    edgevl("verify", bundle, "--samples", "1", code=4)
    edgevl("predict", bundle, photo, "is the cat red?", code=4)


def test_files_that_do_not_belong_to_a_bundle(hostile_bundle, photo, edgevl, tmp_path):
    bundle = Path(shutil.copytree(hostile_bundle, tmp_path / "more.edgevl"))
    (bundle / f"x{HOSTILE}".replace("/", "")).write_text("", encoding="utf-8")
    Path(os.fsdecode(os.fsencode(bundle) + b"/\x9b\xff")).write_text("", encoding="utf-8")
    edgevl("inspect", bundle)
    edgevl("verify", bundle, "--samples", "1", code=4)
    edgevl("predict", bundle, photo, "is the cat red?", code=4)


BENCH = {
    "schema": "edgevl.bench/1.1", "preset": HOSTILE, "ratios": [],
    "machine": {
        "cpu": HOSTILE, "cores": 1, "memory_gb": 1, "os": HOSTILE, "python": HOSTILE, "versions": {HOSTILE: HOSTILE},
        "load_before": None, "others_cpu": None, "governor": HOSTILE,
    },
    "results": [
        {
            "name": HOSTILE, "artifact_sha256": None, "runtime": HOSTILE, "scope": "model", "threads": 1, "n": 4,
            "p50_ms": 1, "p90_ms": 1, "p99_ms": 1, "load_ms": None, "first_ms": None, "peak_mb": None,
            "stages": {HOSTILE: 1.0, "b": 2.0}, "samples_ms": [1.0, 1.1, 1.0, 1.1], "valid": False, "blocks": [2, 2],
            "flags": [{"code": HOSTILE, "text": HOSTILE, "invalidates": True}], "notes": [HOSTILE],
        }
    ],
}  # fmt: skip


@pytest.fixture
def hostile_bench(tmp_path) -> Path:
    path = tmp_path / f"bench{SHORT}.json".replace("/", "")
    path.write_text(json.dumps(BENCH), encoding="utf-8")
    return path


def test_benchmarks_of_elsewhere_are_compared_and_reported(hostile_bench, edgevl, tmp_path, capfd):
    from edgevl.cli import show_bench

    edgevl("compare", hostile_bench, hostile_bench, code=None)
    edgevl("compare", hostile_bench, hostile_bench, "--json", code=None)
    edgevl("report", "--bench", hostile_bench, "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not UNSAFE.search(page), "nor does a page turn around or hide what it shows"
    assert "&lt;script&gt;" in page and "<script" not in page and "&amp;#8238;" in page
    show_bench.bench(BENCH)
    assert not UNSAFE.search(capfd.readouterr().out)


ARGUMENTS = {
    "picture": ("predict", "nano", HOSTILE, "why?"),
    "bundle": ("verify", HOSTILE),
    "bundle of predict": ("predict", HOSTILE, "x.png", "why?"),
    "target": ("export", "--target", HOSTILE),
    "precision": ("export", "--precision", HOSTILE),
    "layout": ("export", "--layout", HOSTILE),
    "dialect": ("export", "--dialect", HOSTILE, "--precision", "w8a8"),
    "data": ("data", "scenes", "--split", HOSTILE),
    "option": ("verify", "x", f"--{HOSTILE}"),
    "number": ("verify", "x", "--samples", HOSTILE),
    "command": (HOSTILE,),
    "recipe": ("pretrain", HOSTILE),
    "override": ("pretrain", "pretrain_scenes_nano", f"{HOSTILE}=3"),
    "value": ("pretrain", "pretrain_scenes_nano", f"steps={HOSTILE}"),
    "opponent": ("bench", "--against", HOSTILE),
    "device": ("bench", "x", "--device", HOSTILE),
    "preset": ("study", "--preset", HOSTILE),
    "rows": ("study", "--show", "--only", HOSTILE),
    "old": ("compare", HOSTILE, HOSTILE),
    "slowdown": ("compare", "x", "y", "--max-slowdown", HOSTILE),
    "benchmark": ("report", "--bench", HOSTILE),
    "detector": ("data", "annotate", HOSTILE, "--detector", HOSTILE, "--out", "x"),
    "observer": ("quantize", "--observer", HOSTILE),
    "targets": ("quantize", "--verdict", "--targets", HOSTILE),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_error_line_repeats_an_argument_safely(name, edgevl, tmp_path, monkeypatch):
    if name == "observer":  # which is looked at when the package that quantizes is there
        pytest.importorskip("torchao")
    monkeypatch.chdir(tmp_path)
    answer = edgevl(*ARGUMENTS[name], code=2)
    assert len([line for line in answer.splitlines() if line.startswith("error: ")]) == 1


def test_a_picture_of_a_hostile_name_is_named(edgevl, tmp_path):
    picture = tmp_path / f"p{SHORT}.png".replace("/", "")
    picture.write_bytes(b"no picture")
    assert r"\x1b[2J\x9b\u202e" in edgevl("predict", "nano", picture, "why?", code=2)


def test_hostile_files_of_training(edgevl, tmp_path, hostile_model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / f"recipe{SHORT}.yaml".replace("/", "")
    recipe.write_text(json.dumps({"name": HOSTILE, HOSTILE: 1}), encoding="utf-8")
    edgevl("pretrain", recipe, code=2)
    recipe.write_text('a: "\x1b[2J\n', encoding="utf-8")
    edgevl("pretrain", recipe, code=2)
    broken = Path(shutil.copytree(hostile_model, tmp_path / "broken"))
    (broken / "config.json").write_text(json.dumps({"name": HOSTILE, HOSTILE: 1}), encoding="utf-8")
    edgevl("export", broken, code=2)


def test_the_rows_of_a_study_from_elsewhere(edgevl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = f"study{SHORT}".replace("/", "")
    answer = edgevl("study", "--show", "--out", place, "--only", "all/vqa")
    assert r"study[]\x1b[2J\x9b\u202e" in answer


def test_doctor_in_a_hostile_folder(edgevl, tmp_path, monkeypatch):
    place = tmp_path / f"d{SHORT}".replace("/", "")
    place.mkdir()
    monkeypatch.chdir(place)
    assert r"d[]\x1b[2J\x9b\u202e: yes" in edgevl("doctor", code=None)


def test_quantize_shows_names_of_a_foreign_model(hostile_model, edgevl, tmp_path):
    pytest.importorskip("torchao")
    out = tmp_path / f"q{SHORT}".replace("/", "")
    assert r"q[]\x1b[2J\x9b\u202e" in edgevl("quantize", hostile_model, "--samples", "64", "--out", out, code=None)


@pytest.mark.skipif(os.name != "posix", reason="a shell script stands for ssh")
def test_the_words_of_a_device(edgevl, hostile_bundle, tmp_path, monkeypatch):
    ssh = tmp_path / "ssh"
    (tmp_path / "words").write_text(HOSTILE + "\nlast words " + SHORT, encoding="utf-8")
    ssh.write_text(f'#!/bin/sh\ncat "{tmp_path}/words" >&2\ncat "{tmp_path}/words"\nexit 7\n', encoding="utf-8")
    ssh.chmod(0o755)
    monkeypatch.setenv("EDGEVL_SSH", str(ssh))
    edgevl("bench", hostile_bundle, "--device", "ssh:me@orin", code=None)


def test_what_a_library_prints_is_safe_too(monkeypatch, edgevl):
    from edgevl.doctor import examine

    one_line = HOSTILE.replace("\n\t", "")  # whose lines these are nobody can tell

    def noisy():
        print(one_line)
        sys.stderr.write(one_line)
        os.write(sys.stderr.fileno(), b"native words\n")  # a library may ask for the descriptor
        return examine()

    monkeypatch.setattr("edgevl.doctor.examine", noisy)
    assert r"\x1b[2J\x9b31m" in edgevl("doctor", "--json", code=None)


def test_a_traceback_is_safe_too(tmp_path):
    code = "from edgevl.cli import main\nimport edgevl.doctor\nedgevl.doctor.examine = exit_with\n"
    code = f"def exit_with():\n    raise OSError({HOSTILE!r})\n{code}main(['doctor', '--debug'])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True)
    text = answer.stderr.decode()
    assert answer.returncode == 1 and "Traceback" in text and not UNSAFE.search(text)


def test_a_bar_shows_no_foreign_text_as_it_is(monkeypatch):
    """On a terminal: what a library reports while it works, and what it prints meanwhile."""
    script = "import time\nfrom edgevl.cli import console, streams\nfrom edgevl.cli.progress import progress_bar\n"
    answer = on_a_terminal(
        "-c",
        f"{script}with progress_bar('work') as progress, streams.library_output_to_stderr():\n"
        f"    progress(1, 2, {HOSTILE!r}); print({HOSTILE!r}); time.sleep(0.3)\n",
    )
    without_ours = re.sub(r"\x1b\[[0-9;?]*[A-Zlhm]|\r", "", answer)
    assert "work" in answer or r"\x1b[2J" in without_ours
    assert "\x9b" not in answer and "\x1b]" not in answer and "\x1b[2J" not in answer and "\u202e" not in answer


# The three functions under all of it.


def test_plain_leaves_every_writing_alone():
    for text in ("what color?", "rouge foncé", "赤", "قرمز\u200cها", "👩\u200d🚀", "a [/] b", "C:\\x"):
        assert plain(text) == text


def test_plain_writes_out_what_a_terminal_obeys():
    assert plain("a\x1b[31m\n\t\r\x9b\u202e\udc80") == r"a\x1b[31m\n\t\r\x9b\u202e\udc80"
    assert not UNSAFE.search(plain("".join(map(chr, range(0x11000))))), "no character is forgotten"


def test_json_reads_back_as_it_was():
    for ascii_only in (False, True):
        value = {HOSTILE: ["".join(map(chr, range(0x2100))), "\udc80", "👩\u200d🚀"]}
        text = plain_json(json.dumps(value, ensure_ascii=ascii_only, indent=1))
        assert json.loads(text) == value and not UNSAFE.search(text)


NAMES = ["plain", "run a ü", "it's", 'a "b"', "a$b`c`", "\\", "", "a\nb", "\x1b[2J\x9b", "'\udc80\\\u202e'0"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_command_line_reads_back_as_its_words():
    line = command_line(["printf", "%s\\0", *NAMES])
    assert not UNSAFE.search(line)
    answer = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert [os.fsdecode(word) for word in answer.split(b"\0")[:-1]] == NAMES


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
def test_every_terminal_takes_every_text(encoding, hostile_bundle, photo):
    """rich shortens with an ellipsis, which Latin-1 does not have."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "60"}
    lines: list[list[object]] = [
        ["export", "--help"], ["inspect", hostile_bundle], ["predict", hostile_bundle, photo, "why?", "--json"],
    ]  # fmt: skip
    for line in lines:
        command = [sys.executable, "-m", "edgevl", *map(str, line)]
        answer = subprocess.run(command, capture_output=True, env=environment)
        assert answer.returncode == 0, answer.stderr
        assert not UNSAFE.search(answer.stdout.decode(encoding)) and b"Error" not in answer.stderr
    assert json.loads(answer.stdout)["answer"].startswith("[/]x"), "JSON stays JSON"


def test_the_streams_of_a_process_without_any(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    print_nothing: Callable[[], None] = streams.print_any_character
    print_nothing()
    with streams.library_output_to_stderr():
        print("lost")
        assert sys.stderr.isatty() is False
