"""`edgevl report` on files: benchmarks of the bundles given, and of no others."""

import json
from pathlib import Path

from edgevl.bench.schema import BenchReport, BenchResult, Machine
from edgevl.bundle.folder import Bundle
from edgevl.cli import main

MACHINE = Machine(
    cpu="Some CPU", cores=2, memory_gb=24, os="Linux", python="3.11.7", versions={}, load_before=None, others_cpu=None,
    governor=None,
)  # fmt: skip


def bench_file(path: Path, sha256: str | None, cpu: str = "Some CPU") -> str:
    timed = BenchResult(
        name="mini", artifact_sha256=sha256, runtime="onnxruntime", scope="pipeline", threads=2, n=2, p50_ms=7.25,
        p90_ms=8, p99_ms=8, load_ms=None, first_ms=None, peak_mb=None, stages={}, samples_ms=[7, 8], valid=True,
        flags=[],
    )  # fmt: skip
    report = BenchReport(preset="rapid", machine=MACHINE.model_copy(update={"cpu": cpu}), results=[timed], ratios=[])
    path.write_text(json.dumps(report.to_json()), encoding="utf-8")
    return str(path)


def test_times_stand_beside_the_bundle_that_they_are_of(onnx_bundle, tmp_path):
    sha = Bundle.open(onnx_bundle).artifact_sha256
    one, two = bench_file(tmp_path / "a.json", sha), bench_file(tmp_path / "b.json", sha, "Another CPU")
    page = tmp_path / "page.html"
    assert main(["report", str(onnx_bundle), "--bench", one, "--bench", two, "--out", str(page)]) == 0
    html = page.read_text(encoding="utf-8")
    assert html.count(f'title="sha256 {sha}"') >= 5 and "Some CPU" in html and "Another CPU" in html
    row = html[html.index('data-label="Answer in"') :]
    assert row[: row.index("</td>")].count("7.25 ms") == 2


def test_a_benchmark_of_another_artifact_is_refused(onnx_bundle, tmp_path, capsys):
    page = tmp_path / "page.html"
    other = bench_file(tmp_path / "other.json", "ab" * 32)
    assert main(["report", str(onnx_bundle), "--bench", other, "--out", str(page)]) == 2
    said = capsys.readouterr().err
    assert "is not of a bundle given" in said and "abababababab" in said and "give that bundle or none" in said
    untold = bench_file(tmp_path / "untold.json", None)
    assert main(["report", str(onnx_bundle), "--bench", untold, "--out", str(page)]) == 2
    assert "does not say the sha256" in capsys.readouterr().err and not page.exists()
    assert main(["report", "--bench", untold, "--out", str(page)]) == 0  # alone it claims nothing of a bundle


def test_every_benchmark_must_be_there(tmp_path, capsys):
    good = bench_file(tmp_path / "good.json", None)
    page = tmp_path / "page.html"
    assert main(["report", "--bench", good, "--bench", str(tmp_path / "none.json"), "--out", str(page)]) == 2
    assert "there is no benchmark" in capsys.readouterr().err and not page.exists()
