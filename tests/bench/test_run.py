"""The whole comparison, on a real bundle of a tiny model, against a tiny detector: the report and its refusals."""

import json
import sys
import time

import numpy as np
import pytest

from edgevl.bench import PRESETS, BenchReport, Preset, run_bench
from edgevl.bench.machine import Neighbors, describe_machine
from edgevl.bench.opponents import CANDIDATE, OPPONENTS, Opponent
from edgevl.bench.picture import encode, make_photo
from edgevl.bench.pipelines import Query
from edgevl.bench.probe import cold_start
from edgevl.bundle import Bundle
from edgevl.checkpoint import save_model
from edgevl.config import ModelConfig
from edgevl.errors import InputError
from edgevl.models import build_model
from edgevl.models.region import RegionConfig
from edgevl.tokenizer import Tokenizer

CONFIG = ModelConfig(
    name="mini", image_size=64, text_length=12, vocab_size=128, num_answers=3, width=16, depth=2, heads=2
)
DETECTOR = RegionConfig(
    name="region-mini", backbone="resnet18", height=160, width=224, classes=7, pre_nms=200, post_nms=100, candidates=50
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    from edgevl.export.bundle_export import export_bundle

    folder = tmp_path_factory.mktemp("mini")
    words = Tokenizer.from_words(["what", "color", "is", "the", "car"])
    model = save_model(folder / "model", build_model(CONFIG), words, ["red", "green", "blue"])
    return export_bundle(model, "onnx", out=folder / "mini-onnx-fp32.edgevl")


@pytest.fixture
def small_world(monkeypatch):
    """A detector and a preset of test size, registered for one test."""
    from edgevl.bench.region_export import export_region

    def build(folder, bundle, pixels, threads):
        small = pixels[: DETECTOR.height, : DETECTOR.width]
        export_region(folder, DETECTOR, bundle.manifest.model, small, threads)
        bundle.tokenizer().save(folder / "tokenizer.json")
        (folder / "labels.json").write_text(json.dumps(bundle.labels()))

    opponent = Opponent(build, OPPONENTS["region-r50"].open, OPPONENTS["region-r50"].artifacts)
    monkeypatch.setitem(OPPONENTS._items, "region-mini", opponent)
    tiny = Preset("tiny", 4, 0.01, rounds=3, warmup_queries=2, warmup_seconds=0.1, fresh_process=False)
    monkeypatch.setitem(PRESETS._items, "tiny", tiny)


def test_a_comparison_from_bytes_to_json(bundle, small_world):
    said = []
    report = run_bench(
        bundle, ["region-mini"], "tiny", threads=1, progress=lambda done, total, text: said.append((done, total, text))
    )
    name = "mini-onnx-fp32"
    assert {(result.name, result.scope) for result in report.results} == {
        (who, scope) for who in (name, "region-mini") for scope in ("model", "pipeline")
    }
    ours, theirs = report.result(name, "pipeline"), report.result("region-mini", "pipeline")
    assert list(ours.stages) == ["decode", "resize", "tokenize", "model", "answer"]
    assert sum(ours.blocks) == ours.n == len(ours.samples_ms) >= 4
    assert ours.artifact_sha256 == Bundle.open(bundle).manifest.files["model.onnx"].sha256
    assert theirs.peak_mb is None and theirs.load_ms and theirs.first_ms
    assert any("untrained" in note for note in theirs.notes) and not ours.notes
    assert report.ratio("region-mini").ratio == pytest.approx(theirs.p50_ms / ours.p50_ms, rel=0.9)
    assert said[0][0] == 0 and said[-1][0] == said[-1][1]

    data = json.loads(json.dumps(report.to_json()))
    assert data["schema"] == "edgevl.bench/1.1"
    assert BenchReport.model_validate(data) == report
    assert set(data["results"][0]) >= {
        "name", "artifact_sha256", "runtime", "scope", "threads", "n", "p50_ms", "p90_ms", "p99_ms", "load_ms",
        "first_ms", "peak_mb", "stages", "samples_ms", "valid", "flags",
    }  # fmt: skip
    assert set(data["ratios"][0]) >= {"baseline", "candidate", "ratio", "ci95"}


def test_a_fresh_process_tells_its_memory(bundle, tmp_path):
    query = Query(encode(make_photo(60, 100)), "what color is the car?")
    cold = cold_start(CANDIDATE, bundle, 1, query, tmp_path)
    assert cold.peak_mb is not None and 20 < cold.peak_mb < 4000
    assert cold.load_ms > 0 and cold.first_ms["pipeline"] > cold.first_ms["model"] > 0


def test_a_core_ml_bundle_is_not_timed_by_the_reference_executor(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    manifest = Bundle.open(bundle).manifest.model_copy(update={"target": "coreml"})
    (tmp_path / "manifest.json").write_text(manifest.to_json())
    with pytest.raises(InputError, match="reference executor"):
        run_bench(tmp_path, ["region-r50"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"against": ["region-r5"]}, 'unknown opponent "region-r5"; did you mean "region-r50"'),
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


def test_machine_section_holds_what_a_reader_needs():
    machine = describe_machine([0.1, 0.1, 0.1], None)
    assert machine.cores >= 1 and machine.memory_gb > 0 and machine.cpu
    assert {"torch", "onnxruntime", "numpy"} <= set(machine.versions)
    assert machine.others_cpu is None  # not measured is null


def test_neighbors_do_not_count_ourselves():
    neighbors = Neighbors()
    assert neighbors.share() is None  # too early to tell
    until = time.perf_counter() + 1.0
    while time.perf_counter() < until:
        sum(range(1000))
    share = neighbors.share()
    assert share is not None and 0 <= share <= 1


@pytest.mark.slow
def test_the_embedded_model_is_at_least_50_times_faster_than_the_detector_pipeline():
    report = run_bench(preset="rapid")
    assert report.ratio("region-r50", "pipeline").ci95[0] > 50
