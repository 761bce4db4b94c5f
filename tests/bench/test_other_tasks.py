"""The benchmark asks a model what it reads: captions, boxes, two pictures, texts to rank. Nobody is raced with them."""

import json
import re

import pytest

from edgevl.bench.harness import Stopwatch
from edgevl.bench.picture import encode, make_photo
from edgevl.bench.pipelines import EdgePipeline, Query
from edgevl.bench.presets import PRESETS, Preset
from edgevl.bench.run import run_bench, text_of
from edgevl.bundle.folder import Bundle
from edgevl.cli.app import main
from edgevl.report import render_report, sections_from

STAGES = {"picture": ["resize", "model", "answer"], "both": ["resize", "tokenize", "model", "answer"]}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    from small_bundles import write_small

    return write_small(tmp_path_factory.mktemp("small"), ("captioner", "renamed", "statement", "towers"))


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        preset = Preset("tiny", 2, 0.001, 2, warmup_queries=1, warmup_seconds=0.1)
        patch.setitem(PRESETS._items, "tiny", preset)
        yield


@pytest.fixture(scope="module")
def reports(small):
    """Each bundle timed once."""
    return {name: run_bench(path, preset="tiny", threads=1) for name, path in small.items()}


@pytest.mark.parametrize(
    ("name", "text", "reads", "counted"),
    [
        ("captioner", "", "picture", False),  # a program is called for each token
        ("renamed", "the largest object", "both", True),  # an input has another name than the value that it reads
        ("statement", "there is a", "both", False),  # two pictures, and a program that is called for each
        ("towers", "a blue apple", "both", True),
    ],
)
def test_every_kind_of_model_is_timed_with_what_it_reads(small, reports, name, text, reads, counted):
    bundle, report = Bundle.open(small[name]), reports[name]
    assert [result.scope for result in report.results] == ["model", "pipeline", "frame"] and not report.ratios
    assert text_of(bundle).startswith(text) and bool(text_of(bundle)) == (reads == "both")
    _, pipeline, frame = report.results
    assert list(pipeline.stages) == ["decode", *STAGES[reads]] and list(frame.stages) == ["convert", *STAGES[reads]]
    # What is counted in a file is what one call takes.
    assert (report.results[0].roofline is not None) == counted


def test_two_pictures_are_two_calls(small):
    """One object for both would be computed once."""
    pipeline = EdgePipeline.from_bundle(small["statement"], 1)
    inputs = pipeline.prepare(Query(encode(make_photo(60, 100)), "there is a cat"), Stopwatch())
    pipeline.infer(inputs, Stopwatch())
    assert inputs.runner.calls == {"vision": 2, "fusion": 1}


def test_opponents_that_answer_questions_are_not_raced_against_another_task(small, tmp_path, capsys):
    out = tmp_path / "bench.json"
    assert main(["bench", str(small["towers"]), "--preset", "tiny", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "timed alone: the opponents answer a question about a picture" in printed.err
    assert "begins with a frame of 1920 x 1080 NV12 in memory" in " ".join(printed.out.split())
    results = json.loads(out.read_text(encoding="utf-8"))["results"]
    assert [one["scope"] for one in results] == ["model", "pipeline", "frame"]
    for options in (["--against", "vilt"], ["--min-ratio", "2"]):
        assert main(["bench", str(small["towers"]), "--preset", "tiny", *options]) == 2
        assert "answer a question about a picture, and towers is for retrieval" in " ".join(
            capsys.readouterr().err.split()
        )


def test_what_a_page_says_of_another_task_is_true(small, reports):
    pages = {}
    for name in ("towers", "captioner"):
        clean = [result.model_copy(update={"flags": [], "valid": True}) for result in reports[name].results]
        report = reports[name].model_copy(update={"results": clean})
        page = render_report(**{**sections_from([small[name]]), "bench": report}).split("</style>")[1]
        pages[name] = " ".join(page.split())
        assert "1920 x 1080 NV12" in pages[name]
    assert not [word for page in pages.values() for word in ("logits", "question", "NMS") if word in page]
    assert "picture and words to answer." in pages["towers"] and "camera frame and words to answer" in pages["towers"]
    assert "picture to answer." in pages["captioner"] and "camera frame to answer" in pages["captioner"]


def test_predict_shows_a_box_and_a_caption(small, capsys):
    """Both were an empty table."""
    assert main(["predict", str(small["renamed"]), "sample", "the car"]) == 0
    assert re.search(r"^left [\d.]+ %, top [\d.]+ %, right [\d.]+ %, bottom [\d.]+ % of", capsys.readouterr().out)
    assert main(["predict", str(small["captioner"]), "sample"]) == 0
    (line,) = capsys.readouterr().out.strip().splitlines()
    assert line
    assert main(["predict", str(small["captioner"]), "sample", "a red car"]) == 2
    assert "captioner reads a picture and no text: leave the question out" in capsys.readouterr().err
    assert main(["predict", str(small["towers"]), "sample"]) == 2
    assert 'give texts, "a red car" "a green car"' in " ".join(capsys.readouterr().err.split())
