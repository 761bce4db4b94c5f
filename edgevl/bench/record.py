"""What `edgevl bench` measured of a bundle, written into the bundle itself."""

from typing import Any

from edgevl.bench.schema import BenchReport
from edgevl.bundle.folder import Bundle
from edgevl.errors import EdgeVLError, first_line


def bench_section(report: BenchReport) -> dict[str, Any]:
    """The manifest's section `bench`: the machine and the times of each scope in ms. Raw samples stay in the JSON."""
    keys = ("scope", "runtime", "threads", "n", "p50_ms", "p90_ms", "p99_ms", "load_ms", "first_ms", "peak_mb")
    own = [result for result in report.results if result.name == report.candidate]
    return {
        "machine": report.machine.board.model if report.machine.board else report.machine.cpu,
        "preset": report.preset,
        "results": [{key: getattr(result, key) for key in keys} for result in own],
    }


def record_bench(bundle: Bundle, report: BenchReport) -> str:
    """Write the times into the manifest and the card. Returns "", or why they were not written, in words.

    A run that is not valid (a busy machine, too few queries) is not kept, and no folder that cannot be written to is a
    reason to lose what was measured.
    """
    flags = sorted({flag.code for result in report.results for flag in result.flags if flag.invalidates})
    own = {result.artifact_sha256 for result in report.results if result.name == report.candidate}
    if flags:
        return f"the times were not written into the bundle: the run is not valid ({', '.join(flags)})"
    if own != {bundle.artifact_sha256}:
        return "the times were not written into the bundle: they are those of another artifact"
    try:
        bundle.record(bench=bench_section(report))
    except (EdgeVLError, OSError) as error:
        return f"the times could not be written into the bundle: {first_line(error)}"
    return ""
