"""What a terminal shows of a report: every section, also when something was not measured."""

from edgevl.cli import console, show

PARITY = {"max_abs": 1e-6, "psnr_db": 131.5, "cosine": 1.0, "top1_agreement": 1.0, "samples": 50, "data": "scenes:test"}
ACCURACY = {
    "artifact": 0.91, "reference": None, "samples": 50, "data": "scenes:test", "ci95": [0.8, 0.96],
    "per_kind": {"color": {"artifact": 0.9, "reference": 0.9, "samples": 10}},
}  # fmt: skip
VERIFY = {
    "ok": True, "bundle": "a[b].edgevl", "target": "onnx", "precision": "fp32", "runtime": "ONNX Runtime (CPU), Linux",
    "parity": PARITY, "accuracy": ACCURACY, "golden": {"passed": 6, "total": 6}, "notes": ["a note"],
    "audit": {"ok": True, "weight_bytes": {"float32": 10_363_248, "int64": 176}, "op_types": {}, "problems": []},
}  # fmt: skip
RESULT = {
    "name": "edgevl", "scope": "pipeline", "runtime": "onnxruntime", "n": 32, "p50_ms": 5.1, "p90_ms": 6.0,
    "p99_ms": 7.0, "load_ms": None, "first_ms": 9.0, "stages": {"decode": 1.0, "model": 4.0},
    "flags": [{"code": "few", "text": "few queries", "invalidates": True}], "notes": ["untrained weights"],
}  # fmt: skip
RATIO = {"baseline": "region-r50", "candidate": "edgevl", "scope": "pipeline", "ratio": 97.31, "ci95": [95.0, 99.9]}


def test_a_verified_bundle_shows_every_section(capsys):
    show.verify(VERIFY)
    text = capsys.readouterr().out
    assert "a[b].edgevl  onnx fp32  verified" in text
    for fragment in (
        "PSNR 131.5 dB",
        "91.00 %",
        "PyTorch -",
        "float32 10.4 MB, int64 176 B",
        "6 of 6",
        "color",
        "a note",
    ):
        assert fragment in text


def test_a_failed_bundle_shows_its_problems_and_what_was_not_measured(capsys):
    audit = {**VERIFY["audit"], "problems": ["model.onnx [x] has changed"]}
    show.verify({**VERIFY, "ok": False, "parity": None, "accuracy": None, "golden": None, "audit": audit})
    text = capsys.readouterr().out
    assert "FAILED" in text and "problem  model.onnx [x] has changed" in text
    assert text.count("not measured") == 2 and "not run" in text


def test_a_benchmark_shows_times_stages_ratios_and_remarks(capsys):
    machine = {"cpu": "CPU", "cores": 2}
    show.bench({"machine": machine, "preset": "rapid", "results": [RESULT], "ratios": [RATIO]})
    text = capsys.readouterr().out
    for fragment in ("5.10", "decode 1.00", "97.3x faster than region-r50", "95.0 to 99.9", "NOT VALID", "untrained"):
        assert fragment in text


def test_numbers_stand_to_the_right_and_words_to_the_left(capsys):
    console.result(console.table("Title", ["name", "value"], [["a", "1.5"], ["long name", "10.25"]]))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[-2:] == ["a             1.5", "long name   10.25"]
