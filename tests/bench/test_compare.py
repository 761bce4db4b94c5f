"""`edgevl compare`: an injected slowdown and an injected loss are caught, what is fine passes, the rest is refused."""

import json
import pathlib

import numpy as np
import pytest

from edgevl.bench import BenchReport
from edgevl.bench.compare import compare, judge_interval
from edgevl.bench.harness import Subject, interleave
from edgevl.bench.machine import describe_machine
from edgevl.bench.pipelines import EdgePipeline
from edgevl.bench.presets import PRESETS, Preset
from edgevl.bench.probe import ColdStart
from edgevl.bench.schema import Peak, TaskAccuracy
from edgevl.bench.stats import block_medians, unpaired_interval
from edgevl.bench.summary import Entry, summarize
from edgevl.bundle.folder import Bundle, sha256_file
from edgevl.bundle.manifest import Accuracy
from edgevl.cli import main
from edgevl.config import ModelConfig
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import build_model
from edgevl.models.checkpoint import save_model

CONFIG = ModelConfig(
    name="mini", image_size=64, text_length=12, vocab_size=128, num_answers=3, width=16, depth=2, heads=2
)
SHORT = Preset("short", min_queries=40, min_seconds=0.4, rounds=20, warmup_queries=3, warmup_seconds=1.0)


OURS = EdgePipeline("ours", "a clock", model=None)  # pyright: ignore[reportArgumentType]  never asked


def written(folder, name, seconds, seed=0, accuracy=None, sha256="0" * 64, peak=100.0, shape=lambda now: 1.0):
    """A benchmark as `edgevl bench --out` writes it, of a query that takes `seconds` on a machine of `shape`."""
    now, rng = [0.0], np.random.default_rng(seed)

    def query(watch):
        now[0] += seconds * shape(now[0]) * float(1 + 0.03 * abs(rng.standard_normal()))

    (trace,) = interleave([Subject("ours", "pipeline", query)], SHORT, lambda: now[0])
    found = TaskAccuracy(share=accuracy, samples=1000, data="scenes:test") if accuracy else None
    result = summarize(trace, Entry(OURS, ColdStart(1.0, {"pipeline": 1.0}, None), sha256, found), SHORT, 2, [])
    machine = describe_machine(peak=Peak(threads=2, gmacs={"fp32": peak}, bandwidth_gbs=10, how="a clock"))
    path = folder / name
    report = BenchReport(preset="short", machine=machine, results=[result], ratios=[])
    path.write_text(json.dumps(report.to_json()), encoding="utf-8")
    return path


def change(path, edit):
    data = json.loads(path.read_text(encoding="utf-8"))
    edit(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_20_percent_slower_is_caught_and_the_same_again_is_not(tmp_path, capsys):
    old = written(tmp_path, "old.json", 0.010)
    assert main(["compare", str(old), str(written(tmp_path, "same.json", 0.010, seed=1, sha256="1" * 64))]) == 0
    slow = written(tmp_path, "slow.json", 0.012, seed=2, sha256="2" * 64)
    capsys.readouterr()
    assert main(["compare", str(old), str(slow), "--json"]) == 5
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert data["schema"] == "edgevl.compare/1.0" and not data["ok"] and data["how"] == "two runs"
    (part,) = data["speed"]
    assert compare(old, slow).headline == "regression"
    assert part["verdict"] == "regression" and part["slowdown"] == pytest.approx(0.2, abs=0.02)
    assert "slower is allowed: regression" in err
    assert main(["compare", str(old), str(slow), "--max-slowdown", "30%"]) == 0
    assert main(["compare", str(slow), str(old)]) == 0  # faster is never a regression


def test_an_interval_around_the_limit_is_inconclusive_and_does_not_pass(tmp_path):
    old, new = written(tmp_path, "old.json", 0.010), written(tmp_path, "new.json", 0.0105, seed=3, sha256="1" * 64)
    found = compare(old, new, max_slowdown=0.05)
    assert found.speed[0].verdict == "inconclusive" and not found.ok


@pytest.mark.parametrize(
    ("ci95", "valid", "paired", "verdict"),
    [
        ((0.06, 0.09), True, True, "regression"),
        ((0.04, 0.09), True, True, "inconclusive"),
        ((-0.01, 0.02), True, True, "ok"),
        ((-0.01, 0.02), False, True, "inconclusive"),
        ((-0.48, -0.44), False, True, "ok"),
        ((-0.48, -0.44), False, False, "inconclusive"),
        ((0.06, 0.09), False, True, "regression"),
        ((0.06, 0.09), False, False, "inconclusive"),
    ],
)
def test_judgment(ci95, valid, paired, verdict):
    assert judge_interval(ci95, 0.05, valid, paired) == verdict


def test_a_gain_is_called_one(tmp_path, capsys):
    old = written(tmp_path, "old.json", 0.010)
    new = written(tmp_path, "new.json", 0.0054, seed=2, sha256="2" * 64)
    assert main(["compare", str(old), str(new)]) == 0
    out = capsys.readouterr().out
    assert "two runs  faster" in out and "% faster (95 %:" in out and "\nfaster " in out
    assert compare(old, written(tmp_path, "same.json", 0.010, seed=1, sha256="1" * 64)).headline == "no regression"


def test_a_gain_in_a_run_that_proves_nothing_says_why(tmp_path, capsys):
    old = written(tmp_path, "old.json", 0.010, shape=lambda now: 1.0 if now < 0.4 else 1.3)
    new = written(tmp_path, "new.json", 0.0054, sha256="2" * 64)
    assert main(["compare", str(old), str(new)]) == 5
    out, err = capsys.readouterr()
    assert "two runs  not proved" in out and "% faster" in out
    assert "inconclusive, since a run is not valid (a note says why): measure again on a quieter machine" in err


def test_a_lost_point_is_caught(tmp_path, capsys):
    old = written(tmp_path, "old.json", 0.010, accuracy=0.95)
    new = written(tmp_path, "new.json", 0.010, accuracy=0.94, sha256="1" * 64)
    assert main(["compare", str(old), str(new)]) == 5
    assert (
        "+1.00 points lost on 1000 samples of scenes:test, at most 0.5 allowed: regression" in capsys.readouterr().err
    )
    assert main(["compare", str(old), str(new), "--max-drop", "1"]) == 0
    assert main(["compare", str(new), str(old)]) == 0


def test_an_accuracy_that_nobody_measured_is_said_and_asking_for_it_is_an_error(tmp_path):
    old, new = written(tmp_path, "old.json", 0.010, accuracy=0.95), written(tmp_path, "new.json", 0.010)
    found = compare(old, new)
    assert found.accuracy is None and any("not known of the new artifact" in note for note in found.notes)
    with pytest.raises(InputError, match=r"--max-drop 0.5 cannot be checked: .*edgevl verify"):
        compare(old, new, max_drop=0.5)
    change(new, lambda data: data["results"][0].update(accuracy={"share": 0.9, "samples": 10, "data": "scenes:test"}))
    assert "1000 samples of scenes:test and of 10" in compare(old, new).notes[-1]


def test_a_machine_that_changed_between_the_runs_is_no_regression_and_no_pass(tmp_path):
    """The second run is slower from its first query to its last: no run can see that, its yardstick can."""
    old = written(tmp_path, "old.json", 0.010)
    again = written(tmp_path, "again.json", 0.0103, seed=1, peak=90.0)
    found = compare(old, again)
    assert [flag.code for flag in found.flags] == ["machine_speed"] and not found.ok
    assert found.speed[0].verdict == "inconclusive"


def test_the_same_bundle_twice_agrees_within_5_percent_or_is_flagged(tmp_path):
    old = written(tmp_path, "old.json", 0.010)
    close = compare(old, written(tmp_path, "close.json", 0.0101, seed=1))
    assert close.ok and not close.flags and any("same artifact" in note for note in close.notes)
    far = compare(old, written(tmp_path, "far.json", 0.0092, seed=1))
    assert [flag.code for flag in far.flags] == ["not_repeatable"] and not far.ok


def test_a_run_that_drifted_does_not_pass(tmp_path):
    old = written(tmp_path, "old.json", 0.010, shape=lambda now: 1.0 if now < 0.4 else 1.3)
    found = compare(old, written(tmp_path, "new.json", 0.010, sha256="1" * 64))
    assert not found.ok and any(note.startswith("old: p50 went from") for note in found.notes)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: data["machine"].update(cpu="another"), "different processors: .*, then another"),
        (lambda data: data["machine"].update(cores=1000), "different numbers of cores: .*, then 1000"),
        (lambda data: data["results"][0].update(threads=1), "different numbers of threads: 2, then 1"),
        (lambda data: data["results"][0].update(scope="model"), "no scope in common"),
        (lambda data: data.update(results=[]), "holds no result"),
        (lambda data: data.pop("machine"), "is not a benchmark"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, edit, message):
    old, new = written(tmp_path, "old.json", 0.010), change(written(tmp_path, "new.json", 0.010), edit)
    with pytest.raises(InputError, match=message) as caught:
        compare(old, new)
    assert "\n" not in str(caught.value)


def test_bad_arguments_are_one_clear_line(tmp_path, capsys):
    old = written(tmp_path, "old.json", 0.010)
    for arguments, message in (
        ([str(old), str(tmp_path / "none.json")], "there is no"),
        ([str(old), str(old), "--max-slowdown", "much"], '--max-slowdown is "much": give a percentage'),
        ([str(old), str(old), "--max-slowdown=-5%"], "give a percentage"),
    ):
        assert main(["compare", *arguments]) == 2
        assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """A verified bundle, and a copy of it whose graph does a lot of work besides, and whose answers are less good."""
    from edgevl.bundle_export import export_bundle

    folder = tmp_path_factory.mktemp("bundles")
    words = Tokenizer.from_words(["what", "color", "is", "the", "car"])
    model = save_model(folder / "model", build_model(CONFIG), words, ["red", "green", "blue"])
    old, new = (export_bundle(model, "onnx", out=folder / f"{name}.edgevl") for name in ("old", "new"))
    add_work(new / "model.onnx")
    admit(new, "model.onnx")
    for path, share in ((old, 0.95), (new, 0.90)):
        found = Accuracy(
            artifact=share,
            reference=0.95,
            samples=1000,
            data="scenes:test",
            ci95=(share - 0.02, share + 0.02),
            runtime="",
        )
        Bundle.open(path).record(accuracy=found)
    return old, new


def admit(folder, name):
    """Write a changed file into the manifest, as if it had been exported so."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][name] = {"sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def add_work(path):
    """Multiply a random matrix by itself and add nothing of it to the logits: the answers stay."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    graph, last = model.graph, model.graph.output[0].name
    for node in graph.node:
        for index, name in enumerate(node.output):
            node.output[index] = "answer" if name == last else name
    matrix = np.random.default_rng(0).standard_normal((640, 640)).astype(np.float32)
    graph.initializer.extend(
        [numpy_helper.from_array(matrix, "matrix"), numpy_helper.from_array(np.zeros((), np.float32), "nil")]
    )
    sums = helper.make_node("ReduceMax", ["answer"], ["top"], keepdims=0)
    wide = helper.make_node("Add", ["matrix", "top"], ["shifted"])  # of the input, or it is folded when the file loads
    product = helper.make_node("MatMul", ["shifted", "matrix"], ["product"])
    peak = helper.make_node("ReduceMax", ["product"], ["peak"], keepdims=0)
    zero = helper.make_node("Mul", ["peak", "nil"], ["zero"])
    graph.node.extend([sums, wide, product, peak, zero, helper.make_node("Add", ["answer", "zero"], [last])])
    onnx.save(model, path)


def as_frame(kind):
    def edit(data):
        data["results"][0] |= {"scope": "frame", "frame": f"1920 x 1080 {kind}"}

    return edit


def test_frames_are_compared_with_frames_of_their_kind(tmp_path):
    old, new, rgb = (written(tmp_path, name, 0.004) for name in ("old.json", "new.json", "rgb.json"))
    for path, kind in ((old, "NV12"), (new, "NV12"), (rgb, "RGB")):
        change(path, as_frame(kind))
    (speed,) = compare(old, new).speed
    assert (speed.scope, speed.verdict) == ("frame", "ok")
    with pytest.raises(InputError, match="different frames: 1920 x 1080 NV12, then 1920 x 1080 RGB"):
        compare(old, rgb)


def test_accuracy_goes_by_its_name(tmp_path):
    """Recall is not called accuracy, and not held against it."""

    def edit(data):
        data["results"][0]["accuracy"]["metric"] = "text_to_image_r1"

    old, new, other = (written(tmp_path, f"{name}.json", 0.004, accuracy=0.9 - 0.1 * name) for name in range(3))
    for path in (old, new):
        change(path, edit)
    assert [
        text for text in compare(old, new).failures if text.startswith("text to image recall@1: 90.00 % to 80.00 %")
    ]
    (note,) = [text for text in compare(old, other).notes if "accuracy is of" in text]
    assert "scenes:test (text to image recall@1) and of 1000 samples of scenes:test (accuracy)" in note


@pytest.fixture
def tiny(monkeypatch):
    preset = Preset("tiny", 40, 0.2, rounds=10, warmup_queries=5, warmup_seconds=0.2)
    monkeypatch.setitem(PRESETS._items, "tiny", preset)


def test_two_bundles_are_timed_side_by_side(bundles, tiny):
    old, new = bundles
    found = compare(old, new, preset="tiny", threads=1)
    assert found.how == "interleaved in one run"
    assert (found.old.name, found.new.name) == ("mini-onnx-fp32 (old)", "mini-onnx-fp32 (new)")
    model = next(part for part in found.speed if part.scope == "model")
    assert model.verdict == "regression" and model.ci95[0] > 0.2
    assert found.accuracy and found.accuracy.verdict == "regression"
    assert found.accuracy.points == pytest.approx(5)
    back = compare(new, old, preset="tiny", threads=1)
    assert next(part for part in back.speed if part.scope == "model").slowdown < 0
    assert back.accuracy and back.accuracy.verdict == "ok"


def test_a_bundle_and_a_file_are_not_a_pair(bundles, tmp_path):
    with pytest.raises(InputError, match="not a pair: give two bundles, or two files"):
        compare(bundles[0], written(tmp_path, "new.json", 0.01))


def test_blocks_are_resampled_not_queries():
    assert block_medians([1, 2, 3, 10], [3, 1]) == [2, 10]
    assert block_medians([1, 2], []) == [1, 2]
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        low, high = unpaired_interval(rng.normal(1, 0.1, 40).tolist(), rng.normal(1.2, 0.1, 40).tolist())
        inside += low <= 1.2 <= high
    assert 52 <= inside <= 60


def test_the_published_schema_is_current():
    published = pathlib.Path(__file__).parents[2] / "docs" / "bench.schema.json"
    assert json.loads(published.read_text(encoding="utf-8")) == BenchReport.model_json_schema(), (
        "write it again: edgevl bench --schema > docs/bench.schema.json"
    )
