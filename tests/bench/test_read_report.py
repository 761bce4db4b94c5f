"""A benchmark's JSON that somebody changed: compare and report show it or refuse it in one line, never a traceback."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgevl.bench.compare import compare
from edgevl.bench.schema import read_report
from edgevl.errors import EdgeVLError, InputError
from edgevl.report import sections_from, write_report

RESULT = {
    "name": "ours", "artifact_sha256": "0" * 64, "runtime": "onnxruntime", "scope": "pipeline", "threads": 1, "n": 8,
    "p50_ms": 5.0, "p90_ms": 6.0, "p99_ms": 7.0, "load_ms": 30.0, "first_ms": 9.0, "peak_mb": 200.0,
    "stages": {"decode": 1.0, "model": 4.0}, "samples_ms": [5.0, 5.1, 4.9, 5.0, 5.2, 5.0, 4.8, 7.0], "valid": True,
    "flags": [{"code": "few_queries", "text": "few", "invalidates": False}], "notes": [], "blocks": [2, 2, 2, 2],
    "throughput_per_s": 190.0, "energy": {"mj": 2.0, "source": "VDD_IN"},
    "roofline": {"macs": 1e8, "bytes": 1e7, "compute_ms": 1.0, "memory_ms": 2.0, "limit": "memory", "share": 0.2,
                 "bandwidth_gbs": 10.0, "rest": ["x"]},
    "accuracy": {"share": 0.95, "samples": 1000, "data": "scenes:test"},
}  # fmt: skip
BOARD = {
    "model": "Orin", "l4t": None, "jetpack": "6", "power_mode": "MAXN", "clocks_locked": True, "sensor_hz": 10.0,
    "rails": [{"name": "VDD_IN", "idle_mw": 1.0, "mean_mw": 2.0, "peak_mw": 3.0, "samples": 4}],
    "temperature_c": {"cpu": [30.0, 40.0]}, "clocks_mhz": {"cpu": [1.0, 2.0]},
}  # fmt: skip
MACHINE = {
    "cpu": "a processor", "cores": 2, "memory_gb": 8.0, "os": "Linux", "python": "3.11", "versions": {"torch": "2.14"},
    "load_before": [0.1, 0.2, 0.3], "others_cpu": 0.01, "governor": None, "affinity": [0], "board": BOARD,
    "frequency_mhz": [2000.0, 2100.0], "temperature_c": [40.0, 50.0],
    "peak": {"threads": 1, "gmacs": {"fp32": 50.0}, "bandwidth_gbs": 10.0, "how": "sgemm"},
}  # fmt: skip
RATIO = {
    "baseline": "other",
    "candidate": "ours",
    "scope": "pipeline",
    "ratio": 2.0,
    "ci95": [1.9, 2.1],
    "pairs": [2.0],
}
WHOLE = {
    "schema": "edgevl.bench/1.1", "preset": "quick", "machine": MACHINE, "seconds": 9.0,
    "results": [RESULT, RESULT | {"name": "other", "p50_ms": 10.0}], "ratios": [RATIO],
}  # fmt: skip
WRONG = [None, -1, 0, 1e300, float("nan"), float("inf"), "x", [], {}, [[]], True, 10**9, 10**400, "delete"]


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Every place in nested data; of a list the first three."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


def changed(path: tuple, wrong: Any) -> dict:
    values: Any = copy.deepcopy(WHOLE)
    *parents, last = path
    place = values
    for key in parents:
        place = place[key]
    if wrong == "delete":
        del place[last]
    else:
        place[last] = wrong
    return values


def written(path: Path, values: Any) -> Path:
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def use(path: Path, other: Path) -> None:
    for old, new in ((path, other), (other, path)):
        compare(old, new)
    write_report(path.with_suffix(".html"), **sections_from([], [path]))


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_benchmark_is_shown_or_refused_in_one_line(seed, tmp_path):
    other, rng = written(tmp_path / "other.json", WHOLE), random.Random(seed)
    use(other, other)
    every = [path for path in places(WHOLE) if path]
    refused = 0
    for path in rng.sample(every, 40):
        wrong = rng.choice(WRONG)
        file = written(tmp_path / "x.json", changed(path, wrong))
        try:
            use(file, other)
        except EdgeVLError as error:
            refused += 1
            assert "\n" not in str(error) and error.exit_code == 2, (path, wrong)
    assert refused > 20


HOSTILE = {
    "deep": "[" * 100_000, "empty": "", "another kind": "[]", "words": "hello", "half a pair": '{"schema": "\\ud800"}',
    "a number of 5 000 digits": '{"schema": "edgevl.bench/1.1", "preset": "x", "seconds": ' + "9" * 5000 + "}",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line(name, tmp_path):
    (tmp_path / "x.json").write_text(HOSTILE[name], encoding="utf-8")
    with pytest.raises(InputError, match="is not a benchmark") as error:
        read_report(tmp_path / "x.json")
    assert "\n" not in str(error.value) and len(str(error.value)) < len(str(tmp_path)) + 400


def test_the_line_names_what_is_wrong(tmp_path):
    file = written(tmp_path / "x.json", changed(("results", 0, "p50_ms"), -1))
    with pytest.raises(InputError, match=r"results\.0\.p50_ms: Input should be greater than 0"):
        read_report(file)
