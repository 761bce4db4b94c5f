"""Everything that a user can get wrong: the right exit code and exactly one clear line, never a traceback.

The table is the documentation: one row is one mistake, what its one line must hold, and the exit code.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

QUESTION = "what color is the car?"
NOT_FINITE = "core.fusion.blocks.1.mlp.0.weight holds a number that is not finite"


@dataclass(frozen=True)
class Bad:
    """One mistake. Words in braces are files of the `place` fixture."""

    line: tuple[str, ...]
    fragment: str
    code: int = 2
    needs: str | None = None  # a module of an extra, which is asked for first where it is missing


BAD = {
    # pictures
    "missing picture": Bad(("predict", "{onnx}", "{dir}/none.png", QUESTION), 'no file "'),
    "folder as picture": Bad(("predict", "{onnx}", "{dir}", QUESTION), "is a folder, not a picture"),
    "text as picture": Bad(("predict", "{onnx}", "{text}", QUESTION), "not an image"),
    "empty picture file": Bad(("predict", "{onnx}", "{empty}", QUESTION), "is empty (0 bytes)"),
    "truncated picture": Bad(("predict", "{onnx}", "{truncated}", QUESTION), "truncated"),
    "too many pixels": Bad(("predict", "{onnx}", "{bomb}", QUESTION), "pixels"),
    # questions
    "empty question": Bad(("predict", "{onnx}", "{photo}", ""), "is empty"),
    "blank question": Bad(("predict", "{onnx}", "{photo}", "  \t "), "is empty"),
    "no question": Bad(("predict", "{onnx}", "{photo}"), "the question is empty"),
    # targets and precisions
    "unknown target": Bad(("export", "--target", "coremll", "--out", "{new}"), 'did you mean "coreml"?'),
    "misspelt alias": Bad(
        ("export", "--target", "engin", "--out", "{new}"), 'did you mean "engine", which is tensorrt?'
    ),
    "misspelt layout": Bad(("export", "--layout", "splitt", "--out", "{new}"), 'did you mean "split"?'),
    "batch for Core ML": Bad(("export", "--target", "coreml", "--batch", "2", "--out", "{new}"), "at most 1"),
    "batch of none": Bad(("export", "--batch", "0", "--out", "{new}"), "--batch"),
    "option of another target": Bad(
        ("export", "--target", "onnx", "--deployment-target", "iOS18", "--out", "{new}"), "it is for coreml"
    ),
    "misspelt deployment target": Bad(
        ("export", "--target", "coreml", "--deployment-target", "iOS81", "--out", "{new}"), 'did you mean "iOS18"?'
    ),
    "misspelt precision": Bad(
        ("export", "--target", "onnx", "--precision", "fp23", "--out", "{new}"), 'did you mean "fp32"?'
    ),
    "precision by another name": Bad(
        ("export", "--precision", "int8", "--out", "{new}"), 'did you mean "w8a8"? Known: fp16, fp32, w8, w8a8'
    ),
    "half precision": Bad(("export", "--precision", "Float-16", "--out", "{new}"), 'did you mean "fp16"?'),
    "precision by a name that another target has": Bad(
        ("export", "--target", "onnx", "--precision", "int4", "--out", "{new}"), 'that would be "w4", which is not'
    ),
    "precision to quantize to": Bad(("quantize", "--precision", "4bit", "--out", "{new}"), 'did you mean "w4"?'),
    "precision of another target": Bad(
        ("export", "--target", "onnx", "--precision", "w4", "--out", "{new}"), "Known: fp16, fp32, w8"
    ),
    # models and bundles
    "missing model": Bad(("export", "{dir}/none", "--out", "{new}"), "no model folder"),
    "misspelt bundle": Bad(("predict", "{dir}/brokn.edgevl", "{photo}", QUESTION), 'broken.edgevl"?'),
    "misspelt bundle without its ending": Bad(
        ("predict", "{dir}/tampered", "{photo}", QUESTION), "no bundle or model folder"
    ),
    "misspelt model": Bad(("export", "{dir}/brokenmodle", "--out", "{new}"), 'brokenmodel"?'),
    "misspelt name of the embedded model": Bad(("export", "nanoo", "--out", "{new}"), 'did you mean "nano"?'),
    "misspelt picture": Bad(("predict", "{onnx}", "{dir}/txet.png", QUESTION), 'text.png"?'),
    "picture in a folder that is not there": Bad(("predict", "{onnx}", "{dir}/no/a.png", QUESTION), "nor a folder"),
    "misspelt benchmark": Bad(("report", "--bench", "{dir}/bad.ymal", "--out", "{new}"), 'bad.yaml"?'),
    "misspelt side of a comparison": Bad(("compare", "{onnx}", "{dir}/brokn.edgevl"), 'broken.edgevl"?'),
    "folder that is no model": Bad(("export", "{folder}", "--out", "{new}"), "config.json is missing"),
    "model with broken JSON": Bad(("export", "{brokenmodel}", "--out", "{new}"), "config.json"),
    "export of a diverged model": Bad(("export", "{nanmodel}", "--out", "{new}"), NOT_FINITE),
    "w8a8 of a diverged model": Bad(("export", "{nanmodel}", "--precision", "w8a8", "--out", "{new}"), NOT_FINITE),
    "quantize of a diverged model": Bad(("quantize", "{nanmodel}", "--out", "{new}"), NOT_FINITE, needs="torchao"),
    "predict of a diverged model": Bad(("predict", "{nanmodel}", "{photo}", QUESTION), NOT_FINITE),
    "model with truncated weights": Bad(("export", "{shortmodel}", "--out", "{new}"), "model.safetensors"),
    "missing bundle": Bad(("verify", "{dir}/none.edgevl"), "none.edgevl"),
    "folder that is no bundle": Bad(("verify", "{folder}"), "manifest.json"),
    "file as bundle": Bad(("inspect", "{text}"), "text.png"),
    "manifest that is not JSON": Bad(("verify", "{brokenbundle}"), "manifest.json", code=4),
    "manifest of another schema": Bad(("verify", "{futurebundle}"), "schema", code=4),
    "manifest that leaves its folder": Bad(("verify", "{escapingbundle}"), "leaves the bundle", code=4),
    "tampered weights": Bad(("verify", "{tamperedbundle}", "--samples", "2"), "has changed", code=4),
    "truncated bundle": Bad(("verify", "{shortbundle}", "--samples", "2"), "is missing", code=4),
    # outputs
    "existing output": Bad(("export", "--out", "{onnx}"), "--force"),
    "output that is another folder": Bad(("export", "--out", "{foreign}", "--force"), "not a bundle"),
    "output below a file": Bad(("export", "--out", "{text}/x.edgevl"), "--out"),
    "output in a folder without files": Bad(("export", "--out", "/proc/x.edgevl"), "--out"),
    # numbers and names
    "samples that are no number": Bad(("verify", "{onnx}", "--samples", "many"), "--samples"),
    "no samples": Bad(("verify", "{onnx}", "--samples", "0"), "--samples"),
    "negative top": Bad(("predict", "{onnx}", "{photo}", QUESTION, "--top", "-1"), "--top"),
    "unknown data set": Bad(("verify", "{onnx}", "--data", "scense:test"), 'did you mean "scenes"?'),
    "unknown split": Bad(("verify", "{onnx}", "--data", "scenes:tset"), 'did you mean "test"?'),
    "unknown split to write": Bad(("data", "scenes", "--split", "tets", "--out", "{new}"), 'did you mean "test"?'),
    "no scenes": Bad(("data", "scenes", "--count", "0", "--out", "{new}"), "--count"),
    "scenes into an existing folder": Bad(("data", "scenes", "--count", "1", "--out", "{folder}"), "not a data set"),
    "unknown opponent": Bad(("bench", "--against", "regoin-r50"), 'did you mean "region-'),
    "unknown preset": Bad(("bench", "--preset", "quik"), 'did you mean "quick"?'),
    "a ratio with nobody": Bad(("bench", "{onnx}", "--against", "", "--min-ratio", "2"), "--against"),
    "benchmark of a bundle that is not there": Bad(("bench", "{dir}/none.edgevl"), "there is no bundle"),
    "benchmark of half a bundle": Bad(("bench", "{brokenbundle}"), "broken.edgevl", 4),
    "comparison with nothing": Bad(("compare", "{onnx}", "{dir}/none.edgevl"), "there is no"),
    "checkpoint that is no model": Bad(("verify", "{onnx}", "--checkpoint", "{folder}"), "is not a model folder"),
    "no threads": Bad(("bench", "--threads", "0"), "--threads"),
    # recipes
    "missing recipe": Bad(("pretrain", "{dir}/none.yaml"), "none.yaml"),
    "misspelt recipe": Bad(("pretrain", "pretrain_scenes_nanno"), 'did you mean "pretrain_scenes_nano"?'),
    "misspelt recipe key": Bad(("pretrain", "pretrain_scenes_nano", "stepps=3"), 'did you mean "steps"?'),
    "override without a value": Bad(("pretrain", "pretrain_scenes_nano", "steps"), "key=value"),
    "override of the wrong type": Bad(("pretrain", "pretrain_scenes_nano", "steps=often"), "steps"),
    "recipe that is not YAML": Bad(("pretrain", "{badyaml}"), "bad.yaml"),
    "recipe whose name leaves runs/": Bad(("pretrain", "{escapingyaml}"), "a name has 1 to 64 of the characters"),
    "recipe that grows": Bad(("pretrain", "{growingyaml}"), "more than 10,000 values, with what aliases repeat"),
    "recipe without an end": Bad(("pretrain", "{longyaml}"), "has more than 64 KiB"),
    "batch of 10^9": Bad(("pretrain", "pretrain_scenes_nano", "batch_size=1000000000"), "less than or equal to 16384"),
    "infinite rate": Bad(("pretrain", "pretrain_scenes_nano", "optimizer.lr=.inf"), "is not a finite number"),
    "model name with a blank": Bad(("export", "{namedmodel}", "--out", "{new}"), "the model's name is 'my model'"),
    "model name of a recipe": Bad(("pretrain", "pretrain_scenes_nano", "model.name=größe"), "the model's name is"),
    "model of width 10^9": Bad(("export", "{widemodel}", "--out", "{new}"), "whole number from 1 to 16384"),
    "model of deep JSON": Bad(("export", "{deepmodel}", "--out", "{new}"), "more than 32 levels"),
    "start from deep JSON": Bad(("finetune", "finetune_scenes_nano", "init={deepmodel}"), "more than 32 levels"),
    "benchmark of deep JSON": Bad(("compare", "{deepjson}", "{deepjson}"), "is not a benchmark"),
    "report of deep JSON": Bad(("report", "--bench", "{deepjson}", "--out", "{new}"), "is not a benchmark"),
    "study of deep JSON": Bad(("study", "--results", "{deepjson}", "--publish", "{new}"), "more than 32 levels"),
    "study of a hostile preset": Bad(
        ("study", "--preset", "{growingyaml}", "--out", "{new}"), "more than 10,000 values"
    ),
    "nothing to resume": Bad(
        ("pretrain", "pretrain_scenes_nano", "--resume", "--out", "{new}"), "no run to go on with"
    ),
    "unknown backbone": Bad(
        ("pretrain", "pretrain_scenes_nano", "model.backbone=resnet10tt", "--out", "{new}"), 'did you mean "resnet10t"?'
    ),
    "unknown option of a loss": Bad(
        ("pretrain", "pretrain_scenes_nano", "losses.itm.hardd=1", "--out", "{new}"), 'did you mean "hard"?'
    ),
    "recipe that is a folder": Bad(("finetune", "{folder}"), "folder"),
    # reports
    "bench file that is not JSON": Bad(("report", "{onnx}", "--bench", "{text}", "--out", "{new}"), "text.png"),
    "a report over something else": Bad(("report", "{onnx}", "--out", "{text}"), "is no report"),
    # the command line itself
    "unknown command": Bad(("verfy", "{onnx}"), "Did you mean 'verify'?"),
    "unknown option": Bad(("verify", "{onnx}", "--sample", "3"), "--samples"),
    "too many arguments": Bad(("inspect", "{onnx}", "{onnx}"), "extra argument"),
}


@pytest.fixture(scope="session")
def place(tmp_path_factory, photo, onnx_bundle) -> dict[str, Path]:
    """The files that the table names."""
    folder = tmp_path_factory.mktemp("bad")
    files = {name: folder / f"{name}.png" for name in ("text", "empty", "truncated", "bomb")}
    files["text"].write_text("this is not an image\n", encoding="utf-8")
    files["empty"].write_bytes(b"")
    files["truncated"].write_bytes(photo.read_bytes()[:-200])
    Image.new("1", (20000, 20000)).save(files["bomb"])
    (folder / "folder").mkdir()
    (folder / "folder" / "note.txt").write_text("keep me\n", encoding="utf-8")
    shutil.copytree(folder / "folder", folder / "foreign.edgevl")
    (folder / "bad.yaml").write_text("steps: [1, 2\n", encoding="utf-8")
    (folder / "escaping.yaml").write_text("name: ../../escaped\nstage: pretrain\nsteps: 2\n", encoding="utf-8")
    tens = "".join(f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh"))
    (folder / "growing.yaml").write_text("a: &a [x, x, x, x, x, x, x, x, x, x]\n" + tens, encoding="utf-8")
    (folder / "long.yaml").write_text("#" * 10**6, encoding="utf-8")
    (folder / "deep.json").write_text("[" * 10**5, encoding="utf-8")
    places = {
        "dir": folder,
        "folder": folder / "folder",
        "foreign": folder / "foreign.edgevl",
        **{f"{name}yaml": folder / f"{name}.yaml" for name in ("bad", "escaping", "growing", "long")},
        "deepjson": folder / "deep.json",
        "photo": photo,
    }
    return {**files, **places, "onnx": onnx_bundle, **_models(folder), **_bundles(folder, onnx_bundle)}


def _models(folder: Path) -> dict[str, Path]:
    from edgevl.models.checkpoint import EMBEDDED

    broken, short = folder / "brokenmodel", folder / "shortmodel"
    shutil.copytree(EMBEDDED, broken)
    (broken / "config.json").write_text("{", encoding="utf-8")
    shutil.copytree(EMBEDDED, short)
    _cut(short / "model.safetensors")
    changes = {"named": ('"nano"', '"my model"'), "wide": ('"width": 128', '"width": 1000000000')}
    for name, (old, new) in changes.items():
        config = Path(shutil.copytree(EMBEDDED, folder / f"{name}model")) / "config.json"
        config.write_text(config.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    deep = Path(shutil.copytree(EMBEDDED, folder / "deepmodel"))
    (deep / "config.json").write_text("[" * 10**5, encoding="utf-8")
    named = {f"{name}model": folder / f"{name}model" for name in (*changes, "deep")}
    return {"brokenmodel": broken, "shortmodel": short, "nanmodel": _diverged(folder / "nanmodel"), **named}


def _diverged(folder: Path) -> Path:
    from safetensors.torch import load_file, save_file

    from edgevl.models.checkpoint import EMBEDDED

    weights = load_file(Path(shutil.copytree(EMBEDDED, folder)) / "model.safetensors")
    weights["core.fusion.blocks.1.mlp.0.weight"][4, 7] = float("nan")
    save_file(weights, folder / "model.safetensors")
    return folder


def _bundles(folder: Path, good: Path) -> dict[str, Path]:
    names = ("broken", "future", "escaping", "tampered", "short")
    copies = {f"{name}bundle": Path(shutil.copytree(good, folder / f"{name}.edgevl")) for name in names}
    manifest = json.loads((good / "manifest.json").read_text(encoding="utf-8"))
    _write(copies["brokenbundle"], "{")
    _write(copies["futurebundle"], json.dumps({**manifest, "schema_version": 999}))
    (program,) = manifest["programs"]
    _write(
        copies["escapingbundle"], json.dumps({**manifest, "programs": [{**program, "artifact": "../../etc/passwd"}]})
    )
    artifact = copies["tamperedbundle"] / program["artifact"]
    data = bytearray(artifact.read_bytes())
    data[len(data) // 2] ^= 1
    artifact.write_bytes(data)
    (copies["shortbundle"] / program["artifact"]).unlink()
    return copies


def _write(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text, encoding="utf-8")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_the_table_is_long_enough():
    assert len(BAD) >= 24


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, place, edgevl, tmp_path):
    bad = BAD[name]
    if bad.needs:
        pytest.importorskip(bad.needs)
    answer = edgevl(*[word.format(**place, new=tmp_path / "new.edgevl") for word in bad.line])
    assert answer.code == bad.code, answer
    assert len(answer.errors) == 1 and bad.fragment in answer.errors[0], answer.err
    assert answer.err.splitlines()[-1] == answer.errors[0]
    assert "Traceback" not in answer.err
    assert not list(tmp_path.iterdir()), "left something behind"


def test_a_refused_output_is_left_as_it_was(place, edgevl):
    edgevl("export", "--out", place["foreign"], "--force")
    assert (place["foreign"] / "note.txt").read_text(encoding="utf-8") == "keep me\n"


def scores(edgevl, bundle: Path, picture: Path, question: str = QUESTION) -> list:
    answer = edgevl("predict", bundle, picture, question, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)["scores"]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_rotated_photo_answers_as_the_upright_one(orientation, photo, onnx_bundle, edgevl, tmp_path):
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    turned = Image.open(photo).transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned.save(tmp_path / "turned.png", exif=exif)
    assert scores(edgevl, onnx_bundle, tmp_path / "turned.png") == scores(edgevl, onnx_bundle, photo)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_pictures_of_every_mode_are_answered(mode, photo, onnx_bundle, edgevl, tmp_path):
    picture = Image.open(photo)
    picture = picture.convert("L").convert("I;16") if mode == "I;16" else picture.convert(mode)
    path = tmp_path / ("picture.tiff" if mode == "CMYK" else "picture.png")
    picture.save(path)
    assert len(scores(edgevl, onnx_bundle, path)) == 5


def test_an_opaque_rgba_or_lossless_webp_answers_as_the_rgb_one(photo, onnx_bundle, edgevl, tmp_path):
    Image.open(photo).convert("RGBA").save(tmp_path / "alpha.png")
    Image.open(photo).save(tmp_path / "same.webp", lossless=True)
    wanted = scores(edgevl, onnx_bundle, photo)
    assert scores(edgevl, onnx_bundle, tmp_path / "alpha.png") == wanted
    assert scores(edgevl, onnx_bundle, tmp_path / "same.webp") == wanted


@pytest.mark.parametrize("question", ["¿de qué color es el coche?", "🚗 color?", "车是什么颜色", "WHAT COLOR?!"])
def test_questions_in_any_script_are_answered(question, photo, onnx_bundle, edgevl):
    assert len(scores(edgevl, onnx_bundle, photo, question)) == 5


def test_a_very_long_question_is_answered_with_a_warning(photo, onnx_bundle, edgevl):
    answer = edgevl("predict", onnx_bundle, photo, "what color is the car " * 2000, "--json")
    assert answer.code == 0 and len(json.loads(answer.out)["scores"]) == 5
    assert "warning: the question is longer than" in answer.err


def test_several_questions_stand_above_their_answers(photo, onnx_bundle, edgevl):
    asked = ["is the square red?", "how many squares?"]
    lines = edgevl("predict", onnx_bundle, photo, *asked).out.splitlines()
    places = [lines.index(question) for question in asked]
    assert places[0] == 0 and lines[places[1] - 1] == ""
    assert lines[places[0] + 2].split() == lines[places[1] + 2].split() == ["answer", "score"]
    alone = edgevl("predict", onnx_bundle, photo, asked[0]).out.splitlines()
    assert asked[0] not in alone and alone[0] == lines[1]


def test_answers_at_0_percent_are_not_listed(photo, onnx_bundle, edgevl):
    out = edgevl("predict", onnx_bundle, photo, QUESTION, "--top", "100").out
    assert " 0.0 %" not in out and len(out.splitlines()) < 60
    assert (
        len(json.loads(edgevl("predict", onnx_bundle, photo, QUESTION, "--top", "100", "--json").out)["scores"]) == 100
    )


def test_both_targets_give_the_same_answer(photo, onnx_bundle, coreml_bundle, edgevl):
    answers = [
        json.loads(edgevl("predict", bundle, photo, QUESTION, "--json").out)["answer"]
        for bundle in (onnx_bundle, coreml_bundle)
    ]
    assert answers[0] == answers[1]


# What only another process shows: missing packages, full disks, signals.


def run(*arguments: object, code: str = "", **options) -> subprocess.CompletedProcess:
    script = f"{code}\nimport sys\nfrom edgevl.cli import main\nsys.exit(main())"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options, encoding="utf-8")


def one_error(answer: subprocess.CompletedProcess, code: int, fragment: str) -> None:
    errors = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
    assert answer.returncode == code, answer.stderr
    assert len(errors) == 1 and fragment in errors[0], answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("coremltools", ["export", "--target", "coreml", "--out", "{new}"]),
        ("onnxscript", ["export", "--target", "onnx", "--out", "{new}"]),
        ("onnxruntime", ["predict", "{onnx}", "{photo}", QUESTION]),
        ("executorch", ["export", "--target", "executorch", "--out", "{new}"]),
        ("litert_torch", ["export", "--target", "litert", "--out", "{new}"]),
        ("coreai_torch", ["export", "--target", "coreai", "--out", "{new}"]),
    ],
)
def test_a_missing_package_names_the_command_that_installs_it(package, line, place, tmp_path):
    words = [word.format(**place, new=tmp_path / "new.edgevl") for word in line]
    one_error(run(*words, code=f"import sys; sys.modules[{package!r}] = None\n"), 3, "pip install")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB: full long before a model is written."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "edgevl-test", str(folder)]
    if os.name != "posix" or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root on Linux")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_a_full_disk_is_one_line_and_leaves_nothing(target, small_disk):
    one_error(run("export", "--target", target, "--out", small_disk / "new.edgevl"), 2, "o space left")
    assert not list(small_disk.iterdir())


def test_a_full_disk_stops_writing_scenes(small_disk):
    one_error(run("data", "scenes", "--count", "200", "--out", small_disk / "scenes"), 2, "o space left")


def test_a_read_only_folder_is_one_line(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    one_error(run("export", "--target", "onnx", "--out", small_disk / "new.edgevl"), 2, "--out")


def test_a_file_size_limit_is_one_line(tmp_path):
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    answer = run("export", "--target", "onnx", "--out", tmp_path / "new.edgevl", code=limit)
    one_error(answer, 2, "--out")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_export_leaves_nothing_and_exits_130(tmp_path):
    # A shell that starts a job in the background has it ignore SIGINT, and so would the child of these tests.
    heed = "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script = f"{heed}from edgevl.cli import main\nsys.exit(main())"
    command = [sys.executable, "-c", script, "export", "--target", "onnx", "--out", str(tmp_path / "new.edgevl")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    deadline = time.monotonic() + 120
    while not list(tmp_path.iterdir()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert [line for line in err.splitlines() if line.startswith("error: ")] == ["error: interrupted"]
    assert "Traceback" not in err and not list(tmp_path.iterdir())
