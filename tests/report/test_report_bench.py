"""Benchmarks on the page: scopes apart, doubts beside every number, an artifact named at every figure."""

import re

import pytest
from test_report import MACHINE, Page, bench, result  # pyright: ignore[reportMissingImports]

from edgevl.bench.schema import BenchReport, Board, Energy, Flag, Machine, Peak, Rail, Ratio, Roofline, TaskAccuracy
from edgevl.bench.titles import title_of
from edgevl.errors import InputError
from edgevl.report import derive_verdict, render_report
from edgevl.report.figures import BINS, STRIP, LogAxis, roof, strip_path
from edgevl.report.runs import Run, doubts, stage_parts

PEAK = Peak(threads=2, gmacs={"fp32": 100.0, "int8": 400.0}, bandwidth_gbs=20.0, how="a matrix product")
LIMIT = Roofline(
    macs=286e6, bytes=9.2e6, compute_ms=2.86, memory_ms=0.05, limit="compute", share=0.286, bandwidth_gbs=180.0,
    rest=["3x3 Conv (9): 46% of the time, at 29% of the peak"],
)  # fmt: skip
BOARD = Board(
    model="NVIDIA Jetson Orin Nano", l4t="38.2.0", jetpack="7", power_mode="25W", clocks_locked=False, sensor_hz=12.5,
    rails=[Rail(name="VDD_IN", idle_mw=3500, mean_mw=5120, peak_mw=5900, samples=261)],
    temperature_c={"gpu": (46.843, 51.25)}, clocks_mhz={"GPU": (306, 1020)},
)  # fmt: skip


def text_of(**sections) -> str:
    html = render_report(**sections).replace("</t", " </t").replace("</d", " </d")  # cells stand apart
    return " ".join(Page(html).text.split())


def limited() -> BenchReport:
    machine = MACHINE.model_copy(update={"peak": PEAK})
    ours = result("nano", "model", 10.0, roofline=LIMIT)
    return BenchReport(preset="rapid", machine=machine, results=[ours], ratios=[])


def on_board() -> BenchReport:
    machine = MACHINE.model_copy(update={"board": BOARD})
    counted = TaskAccuracy(share=0.92, samples=50, data="scenes:test")
    results = [
        result("nano-trt", scope, 2.0, energy=Energy(mj=12.3, source="VDD_IN"), accuracy=counted)
        for scope in ("model", "pipeline")
    ]
    return BenchReport(preset="rapid", machine=machine, results=results, ratios=[])


def raced(*ratios: tuple[str, float, tuple[float, float]]) -> BenchReport:
    """A benchmark of opponents with these ratios."""
    results = [result("nano", "pipeline", 10.0)] + [result(name, "pipeline", 10 * ratio) for name, ratio, _ in ratios]
    made = [
        Ratio(baseline=name, candidate="nano", scope="pipeline", ratio=ratio, ci95=ci95, pairs=[ratio] * 5)
        for name, ratio, ci95 in ratios
    ]
    return BenchReport(preset="rapid", machine=MACHINE, results=results, ratios=made)


def test_scopes_have_a_figure_each_and_never_share_one():
    report = bench()
    report.results.append(result("nano-onnx-fp32", "end_to_end", 500.0))
    figures = Run(report).distributions
    assert [figure.scope for figure in figures] == ["pipeline", "model", "end_to_end"]
    for figure in figures:
        assert {strip.result.scope for strip in figure.strips} == {figure.scope}
    text = text_of(bench=report)
    assert text.index("pipeline: from the bytes of") < text.index("end to end: from the start of a fresh process")


def test_a_scope_that_was_not_timed_says_so():
    assert "end to end: not measured." in text_of(bench=bench())


def test_every_query_is_drawn_and_the_fullest_bin_is_the_highest():
    axis = LogAxis.over([10.0, 99.0])
    assert (axis.low, axis.high) == (5.0, 100.0)
    path = strip_path([10.0] * 99 + [90.0], axis)
    bars = [(int(x), float(height)) for x, height in re.findall(rf"M(\d+) {STRIP}v-([\d.]+)h1", path)]
    assert bars == [(int(BINS * axis.place(10)), STRIP), (int(BINS * axis.place(90)), pytest.approx(3.2, abs=0.05))]
    assert strip_path([100.0], axis).startswith(f"M{BINS - 1} ")  # the end of the axis is still inside


@pytest.mark.parametrize(
    ("values", "ticks"),
    [([11, 13], [10, 20]), ([3, 45], [2, 5, 10, 20, 50]), ([8, 4000], [10, 100, 1000]), ([10], [5, 10, 20])],
)
def test_an_axis_has_ticks_that_people_read(values, ticks):
    assert LogAxis.over(values).ticks() == pytest.approx(ticks)


def test_stages_are_shares_of_their_own_total_and_suppression_stands_out():
    parts = stage_parts(result("r", "pipeline", 100, stages={"decode": 10.0, "detection NMS": 30.0, "odd": 60.0}))
    assert [(name, share, color) for name, _, share, color in parts] == [
        ("decode", 0.1, "prepare"), ("detection NMS", 0.3, "nms"), ("odd", 0.6, "rest"),
    ]  # fmt: skip
    text = text_of(bench=bench(stages={"decode": 2.5, "detection NMS": 7.5}))
    assert "detection NMS 75.0% 7.50 ms" in text


def test_whatever_is_not_valid_is_marked_at_the_number():
    flags = [Flag(code="other_processes", text="others"), Flag(code="drift", text="went")]
    flags.append(Flag(code="load_before", text="a load", invalidates=False))
    report = bench()
    report.results[1] = result("nano-onnx-fp32", "pipeline", 10.0, valid=False, flags=flags)
    assert doubts(report.results[1]) == "other processes, drift" and doubts(report.results[0]) == ""
    page = Page(render_report(bench=report))
    # the ratio, the strip, the row and the stage card of this one result, and no other's
    assert page.text.count("✕ not valid: other processes, drift") == 4
    assert "(95%: 140× to 160×, not valid)" in page.text


def test_every_figure_and_table_names_its_artifact():
    sha = "ab" * 32
    page = Page(render_report(bench=[limited(), on_board()]))
    named = [attributes.get("title", "") for tag, attributes in page.tags if tag == "code"]
    # strips, rows and accuracy of three results, the roofline, energy twice, rails, temperatures, clocks
    assert named.count(f"sha256 {sha}") >= 3 + 3 + 2 + 1 + 2 + 3
    assert sha in page.text and page.text.count(sha[:12]) > 14
    untold = result("x", "model", 1, artifact_sha256=None)
    assert "artifact not named" in text_of(bench=on_board().model_copy(update={"results": [untold]}))


def test_the_roofline_says_how_close_and_where_the_rest_goes():
    text = text_of(bench=limited())
    for words in ("28.6% of what its arithmetic allows", "fp32 100 GMAC/s, int8 400 GMAC/s on 2 threads",
                  "286.0 M, 2.86 ms at the peak", "3x3 Conv (9): 46% of the time", "at 20 GB/s and"):  # fmt: skip
        assert words in text, words
    (chart,) = Run(limited()).rooflines
    assert chart.gmacs == pytest.approx(28.6)
    # what is missing on the page is what the share says: 1 / 0.286 on the logarithmic axis
    missing = (chart.y.high / chart.y.low) ** (chart.reached[1] - chart.allowed)
    assert missing == pytest.approx(1 / 0.286)
    assert "Roofline of nano-onnx-fp32 not measured" in text_of(bench=bench())


def test_a_roof_bends_where_the_slope_meets_the_peak():
    x, y = LogAxis(1, 100), LogAxis(1, 1000)
    bent = roof("fp32", 100.0, 10.0, x, y)  # 10 GMAC/s at 1 a byte, the peak at 10
    assert bent.path == "M0.00 66.67L50.00 33.33L100.00 33.33" and bent.y == pytest.approx(1 / 3)
    assert roof("fp32", 5.0, 10.0, x, y).path.count("L") == 1  # memory never limits here


def test_a_board_has_its_rails_temperatures_and_clocks():
    text = text_of(bench=on_board())
    for words in ("NVIDIA Jetson Orin Nano", "JetPack 7", "25W, clocks not locked", "read 12.5 times a second",
                  "VDD_IN 3.50 W 5.12 W 5.90 W 261", "gpu 46.8 51.2", "GPU 306 1020", "12.3 mJ VDD_IN",
                  "Accuracy of nano-trt", "92.0% of 50 samples of scenes:test", "not comparable"):  # fmt: skip
        assert words in text, words
    assert "Energy of a query: not measured" in text_of(bench=bench())


def test_a_board_without_sensors_says_so():
    report = on_board()
    report.machine.board = Board(
        model="a board", l4t=None, jetpack=None, power_mode=None, clocks_locked=None, sensor_hz=None
    )
    text = text_of(bench=report)
    assert "Power rails: not measured" in text and "Temperatures: not measured" in text and "L4T unknown" in text


def test_two_machines_stay_apart():
    text = text_of(bench=[bench(), on_board()])
    headings = ("Some CPU, 2 threads, preset rapid", "NVIDIA Jetson Orin Nano, 2 threads, preset rapid")
    assert all(text.count(heading) >= 3 for heading in headings)
    assert "pipeline on NVIDIA" not in text and "on NVIDIA Jetson Orin Nano: 2.00 ms, picture and words" in text


def test_the_headline_is_not_of_the_best_opponent_alone():
    three = raced(("a", 150.0, (140, 160)), ("b", 8.0, (7, 9)), ("c", 1.0, (0.9, 1.1)))
    assert derive_verdict([], [], [three]).headline == (
        "150× faster than a, 8.0× faster than b, neither faster nor slower than c for sure, "
        "picture and words to answer."
    )
    four = raced(*((name, ratio, (ratio - 1, ratio + 1)) for name, ratio in zip("abcd", (150.0, 8.0, 20.0, 30.0))))
    assert derive_verdict([], [], [four]).headline.startswith("8.0× to 150× faster than 4 other pipelines")
    slow = derive_verdict([], [], [raced(("a", 0.5, (0.4, 0.6)))])
    assert slow.headline.startswith("2.0× slower than a") and not slow.ok


def test_a_headline_of_another_scope_names_that_scope():
    only = bench()
    only.ratios = [ratio for ratio in only.ratios if ratio.scope == "model"]
    assert derive_verdict([], [], [only]).headline == f"150× faster than {title_of('region-r50')}, the model alone."


def test_untrained_weights_are_said_beside_each_number():
    report = bench()
    report.results[3] = result("region-r50", "pipeline", 1500.0, notes=["untrained weights: only time is claimed"])
    text = text_of(bench=report)
    # the verdict, the ratios, the strip, the row of numbers, the stages, and the note itself
    assert text.lower().count("untrained weights") == 6 and "140× to 160×, untrained weights" in text


def test_an_invalid_run_proves_nothing():
    report = bench(valid=False)
    assert [point.ok for point in derive_verdict([], [], [report]).points] == [None, False]


def test_a_ratio_of_nothing_is_one_clear_line():
    report = bench()
    report.results = report.results[:2]
    with pytest.raises(InputError, match="a benchmark has a ratio, but no result region-r50/pipeline"):
        render_report(bench=report)


def test_machine_of_a_benchmark_is_not_replaced():
    other = Machine.model_validate({**MACHINE.model_dump(), "cpu": "Another CPU"})
    assert "Another CPU" not in text_of(bench=bench(), machine=other)


def test_a_share_goes_by_the_name_of_its_metric():
    report, counted = bench(), TaskAccuracy(share=0.92, samples=50, data="scenes:test", metric="text_to_image_r1")
    report.results = [one.model_copy(update={"accuracy": counted}) for one in report.results]
    text = text_of(bench=report)
    assert "92.0% text to image recall@1 on 50 samples of scenes:test" in text
    assert "Text to image recall@1 of nano-onnx-fp32" in text and "Accuracy of" not in text


def test_the_scope_of_frames_is_on_the_page_where_it_was_timed():
    """A demo leaves it out: nothing on its page is "not measured" for that."""
    report = bench()
    assert "frame" not in text_of(bench=report)
    framed = report.results[0].model_copy(update={"scope": "frame", "frame": "1920 x 1080 NV12"})
    assert "in memory (1920 x 1080 NV12)" in text_of(
        bench=report.model_copy(update={"results": [*report.results, framed]})
    )
