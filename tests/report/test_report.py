"""The page: it parses, it escapes, it asks nobody for anything, and it says "not measured" where nothing was."""

import dataclasses
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from edgevl.bench.schema import BenchReport, BenchResult, Board, Flag, Machine, Peak, Rail, Ratio
from edgevl.bench.titles import title_of
from edgevl.bundle.manifest import Audit, AuditWeight, Duplicate, Hazard
from edgevl.errors import InputError
from edgevl.report import (
    Accuracy,
    Artifact,
    Example,
    KindAccuracy,
    Point,
    Verdict,
    derive_verdict,
    render_report,
    write_report,
)
from edgevl.report.formats import format_ms

VOID = {"meta", "img", "br", "link", "input", "hr"}
EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'
MACHINE = Machine(
    cpu="Some CPU", cores=2, memory_gb=24, os="Linux", python="3.11.7", versions={"torch": "2.14.1"},
    load_before=None, others_cpu=None, governor=None,
)  # fmt: skip


class Page(HTMLParser):
    """Collects tags and text, and fails on one that is closed out of turn or never."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(html)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text += data


def result(name: str, scope: str, milliseconds: float, **changes) -> BenchResult:
    samples = (milliseconds * np.random.default_rng(0).lognormal(0, 0.05, 50)).tolist()
    values = {
        "name": name, "artifact_sha256": "ab" * 32, "runtime": "onnxruntime", "scope": scope, "threads": 2, "n": 50,
        "p50_ms": milliseconds, "p90_ms": 1.1 * milliseconds, "p99_ms": 1.2 * milliseconds, "load_ms": 12.0,
        "first_ms": None, "peak_mb": None, "stages": {"decode": milliseconds / 4, "model": milliseconds * 3 / 4},
        "samples_ms": samples, "valid": True, "flags": [],
    }  # fmt: skip
    return BenchResult.model_validate(values | changes)


def bench(name: str = "nano-onnx-fp32", **changes) -> BenchReport:
    results = [
        result(who, scope, time, **changes)
        for who, time in ((name, 10.0), ("region-r50", 1500.0))
        for scope in ("model", "pipeline")
    ]
    ratios = [
        Ratio(baseline="region-r50", candidate=name, scope=scope, ratio=150, ci95=(140, 160), pairs=[150] * 5)
        for scope in ("model", "pipeline")
    ]
    return BenchReport(preset="rapid", machine=MACHINE, results=results, ratios=ratios)


def example(question: str = "what color is the car?", **changes) -> Example:
    values = {"image": np.zeros((32, 32, 3), np.uint8), "scores": [("red", 0.9), ("blue", 0.08)], "truth": "red"}
    return Example(question=question, **(values | changes))


ARTIFACT = Artifact(
    "nano-onnx-fp32.edgevl", "onnx", "fp32", bytes=9_400_000, sha256="cd" * 32, ok=True, runtime="onnxruntime 1.32",
    max_abs=1.2e-5, psnr_db=121, top1=1.0, parity_samples=1000, accuracy=0.913, reference=0.913, ci95=(0.894, 0.929),
    samples=1000, data="scenes:test",
)  # fmt: skip
AUDIT = Audit(
    ok=True, weight_bytes={"int8": 2_000_000, "float32": 100_000}, op_types={f"Op{i}": 20 - i for i in range(9)},
    activation_dtypes={"float32": 198}, macs={"int8": 250_000_000, "float32": 35_000_000},
    mac_shares={"int8": 0.877, "float32": 0.123}, unused_count=1, unused_bytes=4096, duplicate_bytes=262_144,
    largest=(AuditWeight(name="conv.weight", dtype="int8", shape=(8, 8), bytes=64_000),),
    unused=(AuditWeight(name="lost.weight", dtype="float32", shape=(1024,), bytes=4096),),
    duplicates=(Duplicate(names=("same.weight", "b"), copies=2, bytes=262_144),), hazard_count=3,
    hazards=(
        Hazard(kind="unsupported", op="Gather", name="g", why="nobody lists it", count=2),
        Hazard(kind="unsupported", op="Not", name="n", why="nobody lists it"),
    ),
)  # fmt: skip
ACCURACY = Accuracy("scenes:test", [KindAccuracy("left_of", 0.88, 120, 0.12)], overall=0.913, blind=0.31)


def everything() -> dict:
    return {
        "title": "Demo", "examples": [example(), example(truth="blue"), example(truth=None)], "artifacts": [ARTIFACT],
        "accuracy": ACCURACY, "bench": bench(), "notes": ["a note"], "commands": ["edgevl doctor"],
    }  # fmt: skip


def test_a_full_page_parses_and_says_what_was_measured():
    page = Page(render_report(**everything()))
    for words in (
        f"150× faster than {title_of('region-r50')}", "Questions answered", "✓ right", "answer is blue", "not known",
        "91.3%", "89.4 to 92.9%", "cdcdcdcdcdcd", "9.40 MB", "121 dB", "left of", "31.0%", "140× to 160×", "1.50 s",
        "Some CPU", "torch 2.14.1", "edgevl doctor", "a note",
    ):  # fmt: skip
        assert words in page.text, words


def test_verdict_comes_first():
    text = Page(render_report(**everything())).text
    assert text.index("exported artifact is verified") < text.index("Questions answered")


def test_what_is_inside_an_artifact():
    page = Page(render_report(artifacts=[dataclasses.replace(ARTIFACT, audit=AUDIT), ARTIFACT], machine=MACHINE))
    text = " ".join(page.text.split())
    for words in (
        "int8 95.2% 2.0 MB", "float32 4.8% 100.0 kB", "int8 87.7% 250.0 M", "Op0 20", "and 3 other types",
        "conv.weight 64.0 kB", "262.1 kB in weights that are equal to others", "same.weight 2 times 262.1 kB",
        "4.1 kB in weights that nothing reads", "lost.weight", "Gather 2, Not: nobody lists it",
    ):  # fmt: skip
        assert words in text, words
    widths = [attributes["style"] for _, attributes in page.tags if "part" in attributes.get("class", "").split()]
    sizes, inside = widths[:4], widths[4:]
    assert sizes == ["width:21.28%", "width:1.06%", "width:77.66%", "width:100.00%"]  # the second is not audited
    assert inside == ["width:95.24%", "width:4.76%", "width:87.72%", "width:12.28%"]
    assert text.count("What is inside") == 1


def test_no_section_without_an_audit():
    assert "What is inside" not in Page(render_report(artifacts=[ARTIFACT], machine=MACHINE)).text
    silent = AUDIT.model_copy(update={"macs": {}, "activation_dtypes": {}, "hazards": ()})
    text = Page(render_report(artifacts=[dataclasses.replace(ARTIFACT, audit=silent)], machine=MACHINE)).text
    assert text.count("the file does not say") == 2 and "none found" in text


def test_answers_name_the_model_that_gave_them():
    answered = [example(source="the embedded model", sha256="ef" * 32)] * 2
    text = Page(render_report(examples=answered, machine=MACHINE)).text
    assert text.count("Answered by the embedded model") == 1 and "ef" * 32 in text


def test_numbers_on_scenes_are_labeled():
    assert "not comparable" in Page(render_report(artifacts=[ARTIFACT], machine=MACHINE)).text
    assert "not comparable" not in Page(render_report(machine=MACHINE)).text


def test_an_empty_page_claims_nothing():
    text = Page(render_report(machine=MACHINE)).text
    assert "Nothing was measured" in text and "Exported artifacts" not in text and "not measured" in text


@pytest.mark.parametrize("name", ["title", "examples", "artifacts", "accuracy", "bench", "notes", "commands"])
def test_every_section_is_optional(name):
    sections = everything()
    del sections[name]
    Page(render_report(machine=MACHINE, **sections))


def test_what_was_not_measured_says_so():
    bare = Artifact("x.edgevl", "coreml", "fp16")
    text = Page(render_report(artifacts=[bare], machine=MACHINE)).text
    assert text.count("not measured") >= 4
    assert "not measured" in Page(render_report(bench=bench(), machine=MACHINE)).text  # peak memory, first inference


def evil_audit() -> Audit:
    weight = AuditWeight(name=EVIL, dtype="x", shape=(), bytes=1)
    return Audit(
        ok=True, weight_bytes={"x": 1}, op_types={EVIL: 1}, largest=(weight,), unused=(weight,), unused_count=1,
        duplicates=(Duplicate(names=(EVIL,), copies=2, bytes=1),), duplicate_bytes=1,
        hazards=(Hazard(kind="x", op=EVIL, name=EVIL, why=EVIL),),
    )  # fmt: skip


def evil_machine() -> Machine:
    pair = {EVIL: (1.0, 2.0)}
    rail = Rail(name=EVIL, idle_mw=None, mean_mw=1, peak_mw=1, samples=1)
    board = Board(
        model=EVIL, l4t=EVIL, jetpack=EVIL, power_mode=EVIL, clocks_locked=None, sensor_hz=None, rails=[rail],
        temperature_c=pair, clocks_mhz=pair,
    )  # fmt: skip
    peak = Peak(threads=1, gmacs={EVIL: 1.0}, bandwidth_gbs=1.0, how=EVIL)
    update = {"cpu": EVIL, "versions": {EVIL: EVIL}, "board": board, "peak": peak, "governor": EVIL}
    return MACHINE.model_copy(update=update)


def test_hostile_text_stays_text():
    html = render_report(
        title=EVIL,
        verdict=Verdict(EVIL, [Point(EVIL, False)]),
        examples=[example(EVIL, scores=[(EVIL, 0.5)], truth=EVIL), example(EVIL, truth=EVIL)],
        artifacts=[
            Artifact(
                EVIL,
                EVIL,
                EVIL,
                sha256=EVIL,
                runtime=EVIL,
                problems=[EVIL],
                data=EVIL,
                accuracy=0.5,
                audit=evil_audit(),
            )
        ],
        accuracy=Accuracy(EVIL, [KindAccuracy(EVIL, 0.5)], source=EVIL),
        bench=bench(
            EVIL,
            runtime=EVIL,
            notes=[EVIL],
            flags=[Flag(code=EVIL, text=EVIL)],
            stages={EVIL: 1.0, "x": 1.0},
            valid=False,
        ).model_copy(update={"machine": evil_machine()}),
        notes=[EVIL],
        commands=[EVIL],
    )
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count(EVIL) >= 40


def test_the_page_asks_nobody_for_anything():
    html = render_report(**everything())
    page = Page(html)
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), f"<{tag} {name}={value}>"
    assert not re.search(r"@import|url\((?!#|data:)", html)
    policy = next(attributes for _, attributes in page.tags if "http-equiv" in attributes)
    assert "default-src 'none'" in policy["content"]


def test_the_figures_follow_light_and_dark():
    html = render_report(bench=bench())
    body = html[html.index("<body") :]
    assert body.count("<svg") == 4 and not re.search(r"#[0-9a-f]{6}\b", body)  # colors are the style sheet's alone
    assert "prefers-color-scheme: dark" in html


def test_the_same_measurements_give_the_same_page():
    assert render_report(**everything()) == render_report(**everything())


def test_an_invalid_timing_is_not_passed_over():
    flag = Flag(code="other_processes", text="other processes took 60% of the processor time")
    text = Page(render_report(bench=bench(valid=False, flags=[flag]))).text
    assert "not valid under its preset" in text and "took 60%" in text
    verdict = derive_verdict([], [], [bench(valid=False)])
    assert not verdict.ok and "timing is not valid" in verdict.headline and "×" not in verdict.headline


def test_a_timing_that_is_not_valid_is_no_number_on_the_terminal():
    from edgevl.demo import _race

    flag = Flag(code="other_processes", text="other processes took 60% of the processor time")
    told = _race(bench(valid=False, flags=[flag]))
    assert "not valid" in told and "took 60%" in told and "x faster" not in told
    assert "x faster than Faster R-CNN" in _race(bench())


def test_a_remark_is_made_once_and_names_whom_it_concerns():
    report = bench(flags=[Flag(code="load_before", text="load average 8", invalidates=False)])
    report.results[0].flags.append(Flag(code="unsteady", text="deviation 40%"))
    text = Page(render_report(bench=report)).text
    assert text.count("load average 8") == 1 and "all: load average 8" in text
    assert "nano-onnx-fp32 (model): deviation 40%" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.05, "0.0500 ms"), (7.3, "7.30 ms"), (153, "153 ms"), (999.4, "999 ms"), (999.6, "1.00 s"), (1520, "1.52 s")],
)
def test_times_have_three_digits(value, text):
    assert format_ms(value) == text


def test_a_failed_artifact_is_in_the_headline():
    failed = Artifact("bad.edgevl", "onnx", "fp32", ok=False, problems=["holds fp32 weights"])
    verdict = derive_verdict([failed], [], [])
    assert verdict.headline == "Verification failed for bad.edgevl." and not verdict.ok


def test_written_atomically(tmp_path):
    path = write_report(tmp_path / "new folder" / "report.html", title="One", machine=MACHINE)
    assert "One" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(InputError):
        write_report(path, examples=[example(image=b"no picture")])
    assert "One" in path.read_text(encoding="utf-8")  # the old page survives a failed new one


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="is a folder: name the HTML file"):
        write_report(tmp_path, machine=MACHINE)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_clear_line(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="cannot be written to"):
            write_report(tmp_path / "report.html", machine=MACHINE)
    finally:
        tmp_path.chmod(0o700)
