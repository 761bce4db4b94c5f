"""The examples of the Extend pages as one installed package, through the whole line. Its code is on the pages only."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from edgevl.bundle.folder import Bundle
from edgevl.errors import InputError, VerificationFailed

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / f"extend-{name}.md" for name in ("dataset", "task", "decoding", "family", "target")]
SMALL = "{config: nano, name: t, backbone: test_resnet, backbone_options: {}, image_size: 32, width: 32, depth: 1}"
TARGETS = ("pt2", "onnx")
# In one process, since starting takes longer than all of it. Every command is one that a user could type.
DRIVER = """
import contextlib, io, json, sys
from pathlib import Path
from barcounter_family import train
import edgevl
from edgevl.bench import PRESETS, Preset
from edgevl.bench.run import run_bench
from edgevl.cli import main
from edgevl.data import open_dataset
from edgevl.tasks import task_named
from PIL import Image

out, found = Path(sys.argv[1]), {}

def command(*arguments):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main([str(each) for each in arguments]) == 0, arguments
    return printed.getvalue()

folder = train(out / "bar-counter", open_dataset("bars:train", size=32))
for target in ("pt2", "onnx"):
    bundle = out / f"counter-{target}.edgevl"
    command("export", folder, "--target", target, "--data", "bars:test", "--out", bundle)
    found[target] = edgevl.verify_bundle(bundle, samples=64, data="bars:test").model_dump(mode="json")
Image.fromarray(open_dataset("bars:test", size=32)[3].pictures[0]).save(out / "bars.png")
found["answer"] = edgevl.predict(bundle, out / "bars.png", "").answer
found["right"] = open_dataset("bars:test")[3].questions[0].answer
found["inspected"] = edgevl.inspect_bundle(out / "counter-pt2.edgevl").model_dump(mode="json")
PRESETS._items["tiny"] = Preset("tiny", 4, 0.01, rounds=3, warmup_queries=2, warmup_seconds=0.1)
report = run_bench(out / "counter-pt2.edgevl", against=(), preset="tiny", threads=1)
found["bench"] = [result.scope for result in report.results]
command("finetune", "finetune_photos_nano", "data.train=bars:train", "data.val=bars:val", "init=null", sys.argv[2],
        "steps=2", "batch_size=4", "data.workers=0", "precision='no'", "--out", out / "run")
command("export", out / "run/model", "--target", "pt2", "--data", "bars:test", "--out", out / "trained.edgevl")
verified = edgevl.verify_bundle(out / "trained.edgevl", 16, "bars:test", checkpoint=out / "run/model")
found["trained"] = verified.model_dump(mode="json")
found["doctor"] = [line for line in command("doctor").splitlines() if line.startswith("pt2")]
found["alias"] = task_named("object-counting").name
(out / "found.json").write_text(json.dumps(found))
"""


def blocks(page: Path) -> dict[str, str]:
    """File name -> code, of the blocks whose first line names a file; "" -> what pyproject.toml holds."""
    text = page.read_text(encoding="utf-8")
    named = dict(re.findall(r"^```python (\w+\.py)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    return named | {"": "\n".join(re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))}


def install(site: Path) -> None:
    """Write what pip would: modules, and a dist-info with the entry points."""
    points = ""
    for page in PAGES:
        for name, code in blocks(page).items():
            if name:
                (site / name).write_text(code, encoding="utf-8")
            for group, entries in (tomllib.loads(code)["project"]["entry-points"] if not name else {}).items():
                points += f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
    info = site / "toy_bars-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-bars\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(points, encoding="utf-8")


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, (str(site), str(ROOT), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, encoding="utf-8"
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    install(folder)
    return folder


@pytest.fixture(scope="module")
def out(site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    answer = run(site, "-c", DRIVER, str(folder), f"model={SMALL}")
    assert answer.returncode == 0, answer.stderr
    return folder


@pytest.fixture(scope="module")
def found(out):
    return json.loads((out / "found.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short_and_holds_one_file_and_one_registration(page):
    (name, code), (_, entry) = blocks(page).items()
    assert f'"{name.removesuffix(".py")}:' in entry and len(code.splitlines()) < 100
    lines = page.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 150 and max(map(len, lines)) <= 160


@pytest.mark.parametrize("target", TARGETS)
def test_toy_family_task_decoding_and_data_are_verified_on_a_target(found, target):
    report = found[target]
    assert report["ok"], report
    assert report["target"] == target and report["golden"]["passed"] == report["golden"]["total"] >= 4
    assert report["parity"]["snr_db"] > 100 and report["parity"]["outputs"].keys() == {"count"}
    metrics = {metric["name"]: metric["artifact"] for metric in report["accuracy"]["metrics"]}
    assert metrics.keys() == {"exact", "within_one"} and metrics["exact"] > 0.9, "it was fitted, and so it counts"
    assert report["accuracy"]["data"] == "bars:test" and len(report["accuracy"]["per_kind"]) > 3


def test_predict_inspect_and_bench_know_it(found):
    assert found["answer"] == found["right"]
    assert found["inspected"]["target"] == "pt2" and found["inspected"]["weight_bytes"] == {"float32": 132}
    assert "torch" in found["inspected"]["versions"]
    assert {"model", "pipeline"} <= {*found["bench"]}
    assert found["doctor"] and "PyTorch on the CPU" in found["doctor"][0]
    assert found["alias"] == "counting"


def test_our_own_family_trains_on_toy_data_and_goes_to_the_toy_target(found):
    report = found["trained"]
    assert report["ok"] and report["accuracy"]["data"] == "bars:test" and report["parity"]["snr_db"] > 60


def test_without_the_package_the_bundle_is_refused_by_name(out):
    with pytest.raises((InputError, VerificationFailed), match='unknown decoding "number"'):
        Bundle.open(out / "counter-onnx.edgevl").opened()
    line = [sys.executable, str(ROOT / "apps/jetson/benchmark.py"), str(out / "counter-onnx.edgevl")]
    board = subprocess.run(line, capture_output=True, text=True, encoding="utf-8")
    assert board.returncode == 4 and "the decoding 'number' is not known to this script" in board.stderr


def test_a_broken_package_disturbs_nobody_until_its_name_is_asked_for(site, tmp_path):
    broken = tmp_path / "broken"
    (broken / "broken-1.0.dist-info").mkdir(parents=True)
    about = "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n"
    (broken / "broken-1.0.dist-info/METADATA").write_text(about, encoding="utf-8")
    groups = ("targets", "tasks", "decodings", "families", "datasets")
    points = "".join(f"[edgevl.{group}]\nbroken = missing_module:x\n" for group in groups)
    (broken / "broken-1.0.dist-info/entry_points.txt").write_text(points, encoding="utf-8")
    code = (
        "from edgevl.export.registry import get_exporter, target_names\n"
        "from edgevl.tasks import task_named\n"
        "print(get_exporter('ort').name, target_names(), task_named('visual-question-answering').name)\n"
        "from edgevl.targets import TARGETS\n"
        "TARGETS['broken']"
    )
    answer = run(broken, "-c", code)
    assert answer.stdout.startswith("onnx ['coreai', 'coreml'") and "broken" not in answer.stdout
    assert 'target "broken" of the package broken fails: No module named' in answer.stderr
