"""The whole comparison, on a real bundle of a tiny model, against a tiny detector: the report and its refusals."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from edgevl.bench import PRESETS, BenchReport, Preset, run_bench
from edgevl.bench.opponents import OPPONENTS, Opponent
from edgevl.bench.picture import encode, make_photo
from edgevl.bench.pipelines import CANDIDATE, EdgePipeline
from edgevl.bench.probe import ask_fresh_process
from edgevl.bench.record import record_bench
from edgevl.bench.run import race_bundles
from edgevl.bench.schema import read_report
from edgevl.bundle.folder import Bundle
from edgevl.cli import main
from edgevl.config import ModelConfig
from edgevl.errors import EdgeVLError, InputError, VerificationFailed
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import build_model
from edgevl.models.checkpoint import save_model
from edgevl.report import artifact_from_bundle

CONFIG = ModelConfig(
    name="mini", image_size=64, text_length=12, vocab_size=128, num_answers=3, width=16, depth=2, heads=2
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    from edgevl.bundle_export import export_bundle

    folder = tmp_path_factory.mktemp("mini")
    words = Tokenizer.from_words(["what", "color", "is", "the", "car"])
    model = save_model(folder / "model", build_model(CONFIG), words, ["red", "green", "blue"])
    return export_bundle(model, "onnx", out=folder / "mini-onnx-fp32.edgevl")


@pytest.fixture
def small_world(monkeypatch):
    """An opponent and a preset of test size, registered for one test. The opponent is our own bundle once more."""

    def build(folder, bundle, pixels):
        shutil.copytree(bundle.path, folder, dirs_exist_ok=True)

    def open_twin(folder, threads):
        pipeline = EdgePipeline.from_bundle(folder, threads)
        pipeline.name = "twin"
        return pipeline

    monkeypatch.setitem(OPPONENTS._items, "twin", Opponent(build, open_twin, ("model.onnx",)))
    tiny = Preset("tiny", 4, 0.01, rounds=3, warmup_queries=2, warmup_seconds=0.1, processes=2)
    monkeypatch.setitem(PRESETS._items, "tiny", tiny)


def test_a_comparison_from_bytes_to_json(bundle, small_world):
    said = []
    report = run_bench(
        bundle, ["twin"], "tiny", threads=1, progress=lambda done, total, text: said.append((done, total, text))
    )
    name = "mini-onnx-fp32"
    assert [(result.name, result.scope) for result in report.results] == [
        (name, "model"), (name, "pipeline"), (name, "frame"), (name, "end_to_end"), ("twin", "model"),
        ("twin", "pipeline"), ("twin", "frame"),
    ]  # fmt: skip
    framed = report.result(name, "frame")
    assert list(framed.stages) == ["convert", "resize", "tokenize", "model", "answer"] and framed.first_ms is None
    assert framed.frame == "1920 x 1080 NV12" and report.result(name, "model").frame is None
    assert report.ratio("twin", "frame").ratio > 0
    ours, theirs = report.result(name, "pipeline"), report.result("twin", "pipeline")
    assert list(ours.stages) == ["decode", "resize", "tokenize", "model", "answer"]
    assert sum(ours.blocks) == ours.n == len(ours.samples_ms) >= 4
    assert ours.artifact_sha256 == Bundle.open(bundle).manifest.files["model.onnx"].sha256
    assert theirs.peak_mb is None and theirs.load_ms and theirs.first_ms
    assert ours.throughput_per_s == pytest.approx(1000 / np.mean(ours.samples_ms), rel=1e-3)
    assert not ours.notes and ours.accuracy is None  # nobody verified this bundle
    assert report.ratio("twin").ratio == pytest.approx(theirs.p50_ms / ours.p50_ms, rel=0.9)
    assert said[0][0] == 0 and said[-1][0] == said[-1][1]

    data = json.loads(json.dumps(report.to_json()))
    assert data["schema"] == "edgevl.bench/1.2"
    assert BenchReport.model_validate(data) == report
    assert set(data["results"][0]) >= {
        "name", "artifact_sha256", "runtime", "scope", "threads", "n", "p50_ms", "p90_ms", "p99_ms", "load_ms",
        "first_ms", "peak_mb", "stages", "samples_ms", "valid", "flags",
    }  # fmt: skip
    assert set(data["ratios"][0]) >= {"baseline", "candidate", "ratio", "ci95"}


def test_what_was_measured_goes_into_the_bundle(bundle, small_world, tmp_path, capsys):
    path = tmp_path / "mini.edgevl"
    shutil.copytree(bundle, path)
    assert main(["bench", str(path), "--against", "", "--preset", "tiny", "--out", str(tmp_path / "b.json")]) == 0
    report, after = read_report(tmp_path / "b.json"), Bundle.open(path)
    kept = "not written into the bundle" not in capsys.readouterr().err  # a busy machine's times are not kept
    assert kept == report.valid and bool(after.manifest.bench) == kept and after.check_digests() == []
    clean = [result.model_copy(update={"flags": [], "valid": True}) for result in report.results]
    report = report.model_copy(update={"results": clean})
    assert record_bench(after, report) == ""
    section = Bundle.open(path).manifest.bench
    assert section and [one["scope"] for one in section["results"]] == ["model", "pipeline", "frame", "end_to_end"]
    assert section["results"][0]["p50_ms"] == report.results[0].p50_ms and "samples_ms" not in section["results"][0]
    card = (path / "README.md").read_text(encoding="utf-8")
    assert f"Times on {report.machine.cpu}" in card and f"| {report.results[1].p50_ms:.2f} |" in card
    clean[0].artifact_sha256 = "0" * 64
    assert "another artifact" in record_bench(after, report)


def test_a_changed_file_is_not_measured(bundle, tmp_path):
    path = tmp_path / "mini.edgevl"
    shutil.copytree(bundle, path)
    data = bytearray((path / "model.onnx").read_bytes())
    data[-100] ^= 1
    (path / "model.onnx").write_bytes(data)
    with pytest.raises(VerificationFailed, match=r"model\.onnx"):
        run_bench(path, [], "rapid")
    with pytest.raises(VerificationFailed, match=r"model\.onnx"):
        race_bundles(Bundle.open(bundle), Bundle.open(path), "rapid")
    with pytest.raises(VerificationFailed, match=r"model\.onnx"):
        artifact_from_bundle(path)


def test_the_whole_of_a_process_is_a_scope_of_its_own(bundle, small_world):
    report = run_bench(bundle, [], "tiny", threads=1)
    whole, asked = report.result("mini-onnx-fp32", "end_to_end"), report.result("mini-onnx-fp32", "pipeline")
    assert whole.n == 2 and list(whole.stages) == ["start, imports", "load", "query"]
    assert sum(whole.stages.values()) == pytest.approx(whole.p50_ms, rel=0.3)
    assert whole.load_ms is not None and whole.peak_mb is not None
    assert whole.p50_ms > asked.p50_ms + whole.load_ms  # Python and its imports are in it
    assert whole.peak_mb == asked.peak_mb and 20 < whole.peak_mb < 4000
    assert not report.ratios and whole.first_ms is None and whole.roofline is None


def test_a_run_says_where_it_ran_and_how_close_it_came(bundle, small_world):
    report = run_bench(bundle, [], "tiny", threads=1)
    machine, found = report.machine, report.result("mini-onnx-fp32", "model").roofline
    assert machine.peak and machine.peak.threads == 1 and machine.peak.gmacs["int8"] > 0
    if hasattr(os, "sched_getaffinity"):
        assert machine.affinity and len(machine.affinity) == 1 and set(machine.affinity) <= os.sched_getaffinity(0)
        assert machine.cores == len(os.sched_getaffinity(0))  # those that it might use, not those that it was bound to
    assert found is not None and found.macs > 0 and 0 < found.share < 1
    assert found.rest[-1].startswith("between operators: ")


def test_our_process_does_not_pay_for_torch():
    code = "import sys, edgevl.bench.probe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_process_that_fails_says_why(tmp_path):
    picture = tmp_path / "picture"
    picture.write_bytes(encode(make_photo(60, 100)))
    with pytest.raises(EdgeVLError, match=r"in a fresh process failed with status 1: .*no bundle"):
        ask_fresh_process(CANDIDATE, tmp_path / "nothing", 1, picture, "what color is the car?")


def test_a_core_ml_bundle_is_not_timed_by_the_reference_executor(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    manifest = Bundle.open(bundle).manifest.model_copy(update={"target": "coreml"})
    (tmp_path / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    with pytest.raises(InputError, match="reference executor"):
        run_bench(tmp_path, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"against": ["regoin-heavy"]}, 'unknown opponent "regoin-heavy"; did you mean "region-'),
        ({"frame": "nv21"}, 'frame is "nv21": it can be nv12 or rgb'),
        ({"preset": "slow"}, 'unknown preset "slow".* Known: normal, quick, rapid'),
        ({"threads": 0}, "threads is 0; this process may use 1 to"),
        ({"threads": 4096}, "threads is 4096"),
        ({"bundle_or_model": "/no/such/model"}, "/no/such/model"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        run_bench(**arguments)
    assert "\n" not in str(caught.value)


def test_the_photo_is_the_same_every_time_and_worth_decoding():
    assert np.array_equal(make_photo(60, 100), make_photo(60, 100))
    assert 100_000 < len(encode(make_photo())) < 500_000


@pytest.mark.slow
def test_the_embedded_model_is_at_least_50_times_faster_than_the_detector_pipeline():
    report = run_bench(preset="rapid")
    assert report.ratio("region-heavy-fpn", "pipeline").ci95[0] > 50
