"""The demo from end to end. The quick one still does everything: exports, verifies, times, and writes the page."""

import json
import re

import pytest


@pytest.mark.slow
def test_the_demo_does_the_main_job(edgevl, tmp_path):
    answer = edgevl("demo", "--out", tmp_path / "demo", "--quick", "--samples", "20")
    assert answer.code == 0, answer.err
    page = tmp_path / "demo" / "report.html"
    assert answer.out == f"{page}\n"
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/") >= 12 and "<svg" in html
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", html), "the page must be self-contained"
    assert "nano-onnx.edgevl" in html and "nano-coreml.edgevl" in html
    assert json.loads((tmp_path / "demo" / "bench.json").read_text(encoding="utf-8"))["ratios"]
    for target in ("onnx", "coreml"):
        report = json.loads((tmp_path / "demo" / f"verify-{target}.json").read_text(encoding="utf-8"))
        assert report["ok"] and report["accuracy"]["samples"] == 20
    assert [line for line in answer.err.splitlines() if line.startswith("next: edgevl predict")]
    # Again into the same folder: an earlier demo is replaced.
    assert edgevl("demo", "--out", tmp_path / "demo", "--quick", "--samples", "5").code == 0


def test_the_demo_refuses_a_file_as_its_folder(edgevl, tmp_path):
    (tmp_path / "file").write_text("keep me", encoding="utf-8")
    answer = edgevl("demo", "--out", tmp_path / "file")
    assert answer.code == 2 and "--out" in answer.errors[0]


def test_pictures_are_answered_one_of_each_kind_first():
    from edgevl.demo import answer_pictures

    examples = answer_pictures(samples=30, pictures=8)
    assert len(examples) == 8 and len({example.question for example in examples}) >= 7
    assert all(example.truth and len(example.scores) == 5 for example in examples)


def test_blind_answers_are_far_from_right():
    from edgevl.demo import blind_answers

    shares = blind_answers(40)
    assert 0 < shares["overall"] < 0.75


def test_steps_count_and_report_only_what_ended_well():
    from edgevl.demo import Steps

    lines, bars = [], []
    steps = Steps(2, lambda *bar: bars.append(bar), lines.append)
    with steps("first") as step:
        step.progress(1, 2, "half")
        step.line = "did the first"
    with pytest.raises(ValueError), steps("second"):
        raise ValueError
    assert len(lines) == 1 and lines[0].startswith("[1/2] did the first (")
    assert bars == [(0, 0, "[1/2] first"), (1, 2, "[1/2] first: half"), (0, 0, "[2/2] second")]
