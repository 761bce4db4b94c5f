"""`edgevl quantize`: the folder that it writes, and what a tired person gets wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torchao", reason='torchao comes with pip install "edgevl[quantize]"')

from edgevl.cli import main
from edgevl.models.checkpoint import FILES, load_model
from edgevl.plans.plan import PLAN, load_plan

FEW = ("--samples", "64")
MAIN = "import sys\nfrom edgevl.cli import main\nsys.exit(main())"


@pytest.fixture
def edgevl(capsys):
    def run(*arguments: object) -> tuple[int, str, list[str]]:
        """Exit code, stdout, and the lines of stderr."""
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err.splitlines()

    return run


@pytest.fixture(scope="module")
def quantized(toy_folder: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("quantized") / "toy-w8a8"
    assert main(["quantize", str(toy_folder), *FEW, "--out", str(folder)]) == 0
    return folder


def test_the_folder_is_the_model_and_a_plan(quantized, toy_folder):
    for path in toy_folder.iterdir():
        assert (quantized / path.name).read_bytes() == path.read_bytes()
    assert {path.name for path in quantized.iterdir()} == {*(path.name for path in toy_folder.iterdir()), PLAN}
    plan = load_plan(quantized, load_model(toy_folder).sha256)
    assert plan and plan.calibration.model_dump() == {
        "data": "scenes:val", "samples": 64, "seed": 0, "observer": plan.calibration.observer
    }  # fmt: skip


@pytest.mark.slow
def test_the_card_and_the_record_of_training_come_along(edgevl, tmp_path):
    code, _, _ = edgevl("quantize", *FEW, "--out", tmp_path / "nano")
    assert code == 0
    assert {*FILES, PLAN, "README.md", "training.json"} <= {path.name for path in (tmp_path / "nano").iterdir()}


def test_json_is_one_object(edgevl, toy_folder, tmp_path):
    code, out, err = edgevl("quantize", toy_folder, *FEW, "--seed", 3, "--out", tmp_path / "q", "--json")
    report = json.loads(out)
    assert code == 0 and report["out"] == str(tmp_path / "q")
    assert report["calibration"]["seed"] == 3 and report["coverage"]["pictures"] == 64
    assert report["parameters"]["quantized"] < report["parameters"]["total"] and report["bytes"][PLAN] > 1000
    assert {"name", "operator", "precision", "scheme", "weights", "input", "sqnr_db", "kl_nats"} == report["modules"][
        0
    ].keys()
    assert err[-1] == f"next: edgevl export {tmp_path / 'q'} --precision w8a8 --target onnx"


def test_text_names_the_worst_modules(edgevl, toy_folder, tmp_path):
    code, out, err = edgevl("quantize", toy_folder, *FEW, "--out", tmp_path / "q")
    worst = next(iter(load_plan(tmp_path / "q", load_model(toy_folder).sha256).modules))  # pyright: ignore
    assert code == 0 and worst in out and "SQNR dB" in out and "64 different pictures" in out
    assert any(line.startswith("warning: few questions of some kinds") for line in err)


def test_the_default_is_what_the_library_takes():
    """The command line names its defaults without importing torchao: they are the library's."""
    import inspect

    from edgevl.cli.quantize import quantize
    from edgevl.quantize.calibrate import calibrate

    shown, used = inspect.signature(quantize).parameters, inspect.signature(calibrate).parameters
    assert {name: shown[name].default for name in ("data", "samples", "observer", "seed")} == {
        name: used[name].default for name in ("data", "samples", "observer", "seed")
    }


def test_export_reads_the_plan(edgevl, quantized, tmp_path):
    """The ranges of the plan are in the file: with other ranges it is another file."""
    assert edgevl("export", quantized, "--precision", "w8a8", "--out", tmp_path / "a.edgevl")[0] == 0
    provenance = json.loads((tmp_path / "a.edgevl" / "manifest.json").read_text(encoding="utf-8"))["provenance"]
    assert "samples of scenes:val, seed 0, observer moving; in float: head" in provenance["calibration"]
    twin = shutil.copytree(quantized, tmp_path / "twin")
    plan = json.loads((twin / PLAN).read_text(encoding="utf-8"))
    for value in plan["values"].values():
        value["high"] *= 2
    (twin / PLAN).write_text(json.dumps(plan), encoding="utf-8")
    assert edgevl("export", twin, "--precision", "w8a8", "--out", tmp_path / "b.edgevl")[0] == 0
    assert (tmp_path / "a.edgevl/model.onnx").read_bytes() != (tmp_path / "b.edgevl/model.onnx").read_bytes()


def test_export_refuses_the_plan_of_other_weights(edgevl, quantized, tmp_path):
    twin = shutil.copytree(quantized, tmp_path / "twin")
    plan = json.loads((twin / PLAN).read_text(encoding="utf-8"))
    (twin / PLAN).write_text(json.dumps({**plan, "checkpoint_sha256": "0" * 64}), encoding="utf-8")
    code, _, err = edgevl("export", twin, "--precision", "w8a8", "--out", tmp_path / "a.edgevl")
    assert code == 2 and err == [
        f"error: {twin / PLAN} was made for other weights: make it again with `edgevl quantize {twin}`"
    ]
    assert not (tmp_path / "a.edgevl").exists()


COPIES, MONOTONE = ("--data", "poor:copies"), ("--data", "poor:monotone")
BAD = {
    "misspelt observer": (("--observer", "histogramm"), 'did you mean "histogram"?'),
    "unknown observer": (("--observer", "xyz"), "Known: histogram, minmax, moving, percentile"),
    "misspelt precision": (("--precision", "w8a"), 'did you mean "w8a8"?'),
    "unknown data": (("--data", "scense:val"), 'did you mean "scenes"?'),
    "unknown split": (("--data", "scenes:vall"), 'did you mean "val"?'),
    "no samples": (("--samples", "0"), "--samples"),
    "too few samples": (("--samples", "8"), '8 samples of "scenes:val" are too few to calibrate on: at least 64'),
    "seed that is no number": (("--seed", "x"), "--seed"),
    "near copies": ((*COPIES, "--samples", "8"), 'the 8 samples of "poor:copies" show only 1 picture'),
    "many near copies": ((*COPIES, "--samples", "96"), "at least 64 different pictures are needed"),
    "one question": ((*MONOTONE, "--samples", "96"), "have only 1 different text: at least 8"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(edgevl, poor, toy_folder, tmp_path, name):
    arguments, fragment = BAD[name]
    code, out, err = edgevl("quantize", toy_folder, *arguments, "--out", tmp_path / "q")
    assert code == 2 and not out
    assert len(err) == 1 and err[0].startswith("error: ") and fragment in err[0], err
    assert not list(tmp_path.iterdir())


def test_a_missing_model_is_one_line(edgevl, tmp_path):
    code, _, err = edgevl("quantize", tmp_path / "none", "--out", tmp_path / "q")
    assert code == 2 and "no model folder" in err[0] and not list(tmp_path.iterdir())


def test_an_existing_folder_is_kept_unless_forced(edgevl, quantized, toy_folder, tmp_path):
    earlier = shutil.copytree(quantized, tmp_path / "q")
    code, _, err = edgevl("quantize", toy_folder, *FEW, "--out", earlier)
    assert code == 2 and "exists: replace it with --force" in err[0]
    assert edgevl("quantize", toy_folder, *FEW, "--seed", 1, "--out", earlier, "--force")[0] == 0
    assert (earlier / PLAN).read_bytes() != (quantized / PLAN).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["q"]


@pytest.mark.parametrize("what", ["model", "notes", "file"])
def test_force_replaces_nothing_else(edgevl, toy_folder, tmp_path, what):
    target = tmp_path / "q"
    if what == "model":
        shutil.copytree(toy_folder, target)
    elif what == "notes":
        target.mkdir()
    kept = target / "note.txt" if what != "file" else target
    kept.write_text("keep me\n", encoding="utf-8")
    code, _, err = edgevl("quantize", toy_folder, *FEW, "--out", target, "--force")
    assert code == 2 and "not a quantized model" in err[0] and kept.read_text(encoding="utf-8") == "keep me\n"


def run(*arguments: object, code: str = "", **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", f"{code}\n{MAIN}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options, encoding="utf-8")


def one_error(answer: subprocess.CompletedProcess, code: int, fragment: str) -> None:
    errors = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
    assert answer.returncode == code and len(errors) == 1 and fragment in errors[0], answer.stderr
    assert "Traceback" not in answer.stderr


def test_without_torchao_it_names_the_command_that_installs_it(toy_folder, tmp_path):
    block = "import sys\nsys.modules['torchao'] = None"
    one_error(run("quantize", toy_folder, "--out", tmp_path / "q", code=block), 3, 'pip install "edgevl[quantize]"')
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line_and_leaves_nothing(toy_folder, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "edgevl-test", str(disk)]
    if os.name != "posix" or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root on Linux")
    try:
        one_error(run("quantize", toy_folder, *FEW, "--out", disk / "q"), 2, "no space left to write")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_interrupted_run_leaves_nothing(toy_folder, tmp_path):
    heed = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    arguments = ["quantize", str(toy_folder), "--samples", "4096", "--out", str(tmp_path / "q")]
    process = subprocess.Popen(
        [sys.executable, "-c", f"{heed}\n{MAIN}", *arguments], stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.iterdir()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "error: interrupted" in err and "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_front_budget_and_verdict(edgevl, toy_folder, tmp_path):
    """All that can be measured of a toy model, for one target."""
    code, out, err = edgevl(
        "quantize", toy_folder, "--samples", 128, "--max-drop", 2, "--pareto", "--verdict", "--targets", "ort",
        "--out", tmp_path / "q", "--json",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(out)
    assert report["budget"]["drop"] <= 2 and report["budget"]["samples"] == 1000
    counts = [len(point["kept_float"]) for point in report["pareto"]]
    assert counts == sorted(counts) and counts[0] == 2, "the head"
    assert {"pareto.json", "pareto.png"} <= {path.name for path in (tmp_path / "q").iterdir()}
    (verdict,) = report["verdict"]
    assert verdict["target"] == "onnx" and verdict["samples"] == 1000 and verdict["speed"]["ratio"] > 0


@pytest.mark.parametrize(
    ("targets", "says"), [("onix", 'did you mean "onnx"'), ("coreai", "precision for target coreai")]
)
def test_targets_of_a_verdict(edgevl, toy_folder, tmp_path, targets, says):
    code, _, err = edgevl("quantize", toy_folder, "--verdict", "--targets", targets, "--out", tmp_path / "q")
    assert code == 2 and says in err[-1] and not (tmp_path / "q").exists()


def test_targets_without_a_verdict_are_not_dropped_in_silence(edgevl, toy_folder, tmp_path):
    code, _, err = edgevl("quantize", toy_folder, "--targets", "onnx", "--out", tmp_path / "q")
    assert code == 2 and "add --verdict" in err[-1] and not (tmp_path / "q").exists()
