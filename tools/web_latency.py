"""Latency in Chromium beside native runtimes, interleaved in one run.

    edgevl app web --build --out app   # in a checkout, once: builds what is measured
    python tools/web_latency.py nano-onnx-fp32.edgevl nano-onnx-w8a8.edgevl nano-litert-fp32.edgevl \\
        nano-litert-w8a8.edgevl --retrieval nano-retrieval-onnx-fp32.edgevl --jvm --out web-latency.json

Each bundle is asked in a browser and natively, on one thread and on two, block by block in turns: the first golden case
from its file and words to the answer (`pipeline`), and the model alone (`model`). Then each bundle's app is visited for
the first time, and words are typed over a thousand photos. Prints tables for docs/web.md; `--out` is a JSON of
`edgevl bench`. Run it on a quiet machine: nothing else on these cores.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevl.app.web import write_web_app
from edgevl.bench.harness import Stopwatch
from edgevl.bench.machine import describe_machine, load_average
from edgevl.bench.pipelines import EdgePipeline, Query, run_pipeline
from edgevl.bench.schema import BenchReport, BenchResult, Flag, Ratio, Scope
from edgevl.bench.stats import pair_ratios, percentile, ratio_interval
from edgevl.bundle.folder import Bundle

WEB = Path(__file__).parents[1] / "apps" / "web"
SCOPES: tuple[Scope, ...] = ("model", "pipeline")
Block = dict[str, list[float]]  # scope -> milliseconds


class Browser:
    """Chromium behind apps/web/test/latency.mjs."""

    def __init__(self) -> None:
        command = ["node", "test/latency.mjs"]
        self._process = subprocess.Popen(
            command, cwd=WEB, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def __call__(self, **command: Any) -> Any:
        """Send a command and return its answer. Ends the program if the other side did."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout
        print(json.dumps(command), file=stdin, flush=True)
        answer = stdout.readline()
        if not answer:
            sys.exit("error: the browser's side ended: was npm ci && npm run build run in apps/web?")
        return json.loads(answer)

    def close(self) -> None:
        self._process.communicate(timeout=60)


@dataclass
class Contestant:
    """Something that answers queries in blocks, and what it took."""

    name: str
    runtime: str
    threads: int
    block: Callable[[int], Block]
    artifact_sha256: str
    load_ms: float | None = None
    blocks: list[Block] = field(default_factory=list)

    def samples(self, scope: str) -> list[float]:
        return [sample for block in self.blocks for sample in block.get(scope, [])]


def in_browser(browser: Browser, path: Path, threads: int) -> Contestant:
    """Open a bundle in a worker. Ends the program if a golden case fails there."""
    opened = browser(open=str(path.resolve()), threads=threads)
    if opened["golden"]["problems"]:
        sys.exit(f"error: {path} in Chromium: {opened['golden']['problems'][0]}")
    if opened["threads"] != threads:
        sys.exit(f"error: {path} runs on {opened['threads']} threads in Chromium, not on {threads}")
    name = f"{_label(path)}, Chromium, {threads}"

    def block(count: int) -> Block:
        found = browser(block=opened["index"], count=count)
        return {scope: found[scope] for scope in SCOPES}

    return Contestant(name, opened["runtime"], threads, block, Bundle.open(path).artifact_sha256, opened["load"])


def natively(path: Path, threads: int) -> Contestant:
    """Open a bundle in Python."""
    pipeline, query = EdgePipeline.from_bundle(path, threads), _first_query(path)
    prepared = pipeline.prepare(query, Stopwatch())

    def block(count: int) -> Block:
        return {
            "pipeline": [_milliseconds(lambda: run_pipeline(pipeline, query, Stopwatch())) for _ in range(count)],
            "model": [_milliseconds(lambda: pipeline.infer(prepared, Stopwatch())) for _ in range(count)],
        }

    name = f"{_label(path)}, Python, {threads}"
    return Contestant(name, pipeline.runtime, threads, block, Bundle.open(path).artifact_sha256)


def on_jvm(path: Path, threads: int) -> Contestant:
    """Open an ONNX bundle in the Kotlin library: scope `pipeline` only."""
    from jvm_latency import WARM_UP, java

    process = java(path, threads)
    process.times(WARM_UP)
    name = f"{_label(path)}, JVM, {threads}"
    runtime = "onnxruntime on the JVM"
    return Contestant(
        name, runtime, threads, lambda n: {"pipeline": process.times(n)}, Bundle.open(path).artifact_sha256
    )


def _label(path: Path) -> str:
    manifest = Bundle.open(path).manifest
    return f"{manifest.name} {manifest.target} {manifest.precision}"


def _first_query(path: Path) -> Query:
    golden = json.loads((path / Bundle.open(path).manifest.golden).read_text(encoding="utf-8"))["cases"][0]
    return Query((path / golden["pictures"][0]).read_bytes(), (golden["texts"] or [""])[0])


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def first_visit(browser: Browser, bundle: Path, scratch: Path) -> str:
    """Visit the bundle's app for the first time and again: one row of a table."""
    app = write_web_app(scratch / bundle.stem, bundle)
    visit = browser(visit=str(app))
    files = [app / (path.lstrip("/") or "index.html") for path in visit["files"]]
    data = [path.read_bytes() for path in files if path.is_file()]
    packed = sum(len(zlib.compress(each, 6)) for each in data)
    sizes = f"{sum(map(len, data)) / 1e6:.1f} MB | {packed / 1e6:.1f} MB"
    return f"| {_label(bundle)} | {sizes} | {visit['first']:.1f} s | {visit['second']:.1f} s |"


def typing(browser: Browser, bundle: Path, count: int, scratch: Path) -> str:
    """Type over photos in the app: how long its frames took, in words."""
    from edgevl.cli import main as edgevl

    with contextlib.redirect_stdout(sys.stderr):
        code = edgevl(["data", "scenes", "--count", str(count), "--out", str(scratch / "scenes")])
    if code:
        sys.exit("error: the photos could not be made")
    photos = sorted(str(path) for path in (scratch / "scenes" / "images").iterdir())
    found = browser(frames=str(write_web_app(scratch / "search", bundle)), photos=photos)
    frames = found["frames"]
    p50, p99 = percentile(frames, 50), percentile(frames, 99)
    late = sum(frame > 50 for frame in frames)
    return (
        f"typing over {len(photos)} photos: {len(frames)} frames, median {p50:.1f} ms, 99 % {p99:.1f} ms, "
        f"longest {max(frames):.1f} ms, {late} longer than 50 ms; {found['said']}"
    )


def report_of(contestants: list[Contestant], load: list[float] | None, seconds: float) -> BenchReport:
    """Return the JSON of `edgevl bench`: the first contestant is the baseline of every ratio."""
    results = [_result(each, scope) for each in contestants for scope in SCOPES if each.samples(scope)]
    baseline = contestants[0]
    ratios = [_ratio(baseline, each, scope) for each in contestants[1:] for scope in SCOPES if each.samples(scope)]
    machine = describe_machine(load)
    return BenchReport(preset="rapid", machine=machine, results=results, ratios=ratios, seconds=seconds)


def _result(contestant: Contestant, scope: Scope) -> BenchResult:
    samples = contestant.samples(scope)
    few = Flag(code="few_queries", text=f"{len(samples)} queries: a comparison, no benchmark")
    return BenchResult(
        name=contestant.name,
        artifact_sha256=contestant.artifact_sha256,
        runtime=contestant.runtime,
        scope=scope,
        threads=contestant.threads,
        n=len(samples),
        p50_ms=percentile(samples, 50),
        p90_ms=percentile(samples, 90),
        p99_ms=percentile(samples, 99),
        load_ms=contestant.load_ms,
        first_ms=None,
        peak_mb=None,
        stages={},
        samples_ms=samples,
        valid=False,
        flags=[few],
        blocks=[len(block[scope]) for block in contestant.blocks],
    )


def _ratio(baseline: Contestant, candidate: Contestant, scope: Scope) -> Ratio:
    pairs = pair_ratios(*([block[scope] for block in each.blocks] for each in (baseline, candidate)))
    interval = ratio_interval(pairs)
    ratio = percentile(pairs, 50)
    return Ratio(baseline=baseline.name, candidate=candidate.name, scope=scope, ratio=ratio, ci95=interval, pairs=pairs)


def table(report: BenchReport) -> str:
    """Return the medians as a table: a row for each bundle and place; the last column is relative to the first row."""
    lines = [
        "| bundle, where, threads | model | picture and words to answer | of the first row |",
        "|---|---|---|---|",
    ]
    for name in dict.fromkeys(result.name for result in report.results):
        p50 = {result.scope: f"{result.p50_ms:.1f} ms" for result in report.results if result.name == name}
        pipeline = [ratio for ratio in report.ratios if ratio.candidate == name and ratio.scope == "pipeline"]
        factor = f"{1 / pipeline[0].ratio:.2f}" if pipeline else "1"
        lines.append(f"| {name} | {p50.get('model', '—')} | {p50['pipeline']} | {factor} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path, help="the first, natively on one thread, is the baseline")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--count", type=int, default=20, help="queries of a block, in each scope")
    parser.add_argument("--retrieval", type=Path, help="a retrieval bundle, for frames while typing")
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--jvm", action="store_true", help="the Kotlin library, too: needs Maven and a JDK")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    load, started, browser = load_average(), time.perf_counter(), Browser()
    contestants = []
    for threads in options.threads:
        for bundle in options.bundles:
            contestants += [natively(bundle, threads), in_browser(browser, bundle, threads)]
            if options.jvm and Bundle.open(bundle).manifest.target == "onnx":
                contestants.append(on_jvm(bundle, threads))
    for each in contestants:
        each.block(options.count)  # warms up
    for number in range(options.blocks):
        for each in contestants:
            each.blocks.append(each.block(options.count))
        print(f"block {number + 1} of {options.blocks}", file=sys.stderr, flush=True)
    report = report_of(contestants, load, time.perf_counter() - started)
    if options.out:
        options.out.write_text(json.dumps(report.to_json()), encoding="utf-8")
    print(table(report))
    with tempfile.TemporaryDirectory(prefix="edgevl-latency-") as scratch:
        print("\n| first visit | files | compressed | until it can be asked | again |\n|---|---|---|---|---|")
        for bundle in options.bundles:
            print(first_visit(browser, bundle, Path(scratch)))
        if options.retrieval:
            print("\n" + typing(browser, options.retrieval, options.photos, Path(scratch)))
    browser.close()


if __name__ == "__main__":
    main()
