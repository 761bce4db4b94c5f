"""Apple's tests of operators, which coremltools' wheel holds, with the reference executor in place of a Mac.

    python tools/coreml_operator_tests.py                       # three cases of every test, about half an hour
    python tools/coreml_operator_tests.py iOS17 --cases 1000    # all cases of the files whose name contains "iOS17"

The tests build a program, convert it to a package and compare its prediction with the right values, but only on a Mac:
elsewhere they stop after the conversion. Here coremltools is told that this is a Mac, and `MLModel.predict` runs the
executor. What differs from the right values is compared again, to 0.2 % of the largest: tests of half precision ask for
1e-4, their right values come from weights that were not rounded, and some are written with four digits. Others allow
a half-precision program to be off by 0.5: what is farther off than 1 % of the largest is told. Each file runs in its
own process.
"""

import argparse
import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevl.errors import InputError
from edgevl.runtime.coreml_reference import MLProgram

LIMIT = 1800  # seconds for a file
REFUSED = "Unable to compute the prediction using ML Program: "  # what Core ML says, and some tests expect
HALF, LOOSE = 2e-3, 1e-2  # of the largest value: a few roundings to half precision, and more than rounding should do
# "not run": a test of shapes, types or errors, which predicts nothing, or one that Apple skips or expects to fail.
OUTCOMES = ("right", "to 0.2 %", "over 1 %", "wrong", "refused", "not run")


class Mac:
    """A pytest plugin: predictions by the executor, a few cases of each test, and what came of each."""

    def __init__(self, cases: int):
        self.cases = cases
        self.predictions, self.right = 0, "right"  # of the test that runs
        self.outcomes: dict[str, tuple[str, str]] = {}  # test -> outcome, why

    def pytest_configure(self, config: pytest.Config) -> None:
        from coremltools.converters.mil import testing_utils
        from coremltools.models import model, utils

        testing_utils._IS_MACOS = True
        for module in (utils, model):
            setattr(module, "_macos_version", lambda: (15, 5))  # noqa: B010
        mlmodel: Any = model.MLModel
        mlmodel.predict = lambda own, data, state=None: self.predict(own, data, state)
        mlmodel.make_state = lambda own: self.program(own).make_state()
        self.strict, np.testing.assert_allclose = np.testing.assert_allclose, self.assert_allclose

    def assert_allclose(self, actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0.0, **options: Any) -> None:
        largest = float(np.abs(desired).max(initial=0))
        try:
            self.strict(actual, desired, rtol, atol, **options)
        except AssertionError:
            self.strict(actual, desired, atol=HALF * largest, **options)
            self.right = "to 0.2 %"
        else:
            if not np.allclose(actual, desired, rtol=0, atol=max(1e-4, LOOSE * largest), equal_nan=True):
                self.right = "over 1 %"

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        tests = collections.defaultdict(list)
        for item in items:
            tests[item.nodeid.split("[")[0]].append(item)
        draw = random.Random(0)
        drawn = [each if len(each) <= self.cases else draw.sample(each, self.cases) for each in tests.values()]
        items[:] = [item for each in drawn for item in each]

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self.predictions, self.right = 0, "right"
        np.random.seed(zlib.crc32(item.nodeid.encode()))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid] = self.outcome(report)

    def outcome(self, report: pytest.TestReport) -> tuple[str, str]:
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else _message(report.longrepr)
        if report.outcome == "passed":
            return (self.right if self.predictions else "not run"), ""
        if REFUSED in why:
            return "refused", why.split(REFUSED)[1]
        if report.skipped:  # what Apple expects to fail, too
            return "not run", getattr(report, "wasxfail", "") or why
        return "wrong", why

    def predict(self, mlmodel: Any, data: dict[str, Any], state: Any) -> dict[str, Any]:
        program = self.program(mlmodel)
        given = {spec.name: _feed(spec, data[spec.name]) for spec in program.inputs if spec.name in data}
        try:
            outputs = program.predict(data | given, state)
        except InputError as error:
            raise RuntimeError(f"{REFUSED}{error}") from error
        self.predictions += 1
        return outputs

    def program(self, mlmodel: Any) -> MLProgram:
        if mlmodel.package_path is None:
            pytest.skip("a neural network, not an ML Program")
        try:
            return MLProgram.load(mlmodel.package_path, function=mlmodel.function_name)
        except InputError as error:
            raise RuntimeError(f"{REFUSED}{error}") from error


def _feed(spec: Any, value: Any) -> np.ndarray:
    """The tests give every array as float32, which Core ML casts, and pictures without their first dimension."""
    value = np.asarray(value)
    if spec.color:
        value = value.reshape(1, *value.shape[:2], -1)
    return value.astype(spec.dtype)


def _message(longrepr: Any) -> str:
    """Return what the last exception of a chain says, in one line."""
    crash = getattr(longrepr, "reprcrash", None)
    return " ".join(crash.message.split())[:300] if crash else ""


def run_file(arguments: argparse.Namespace) -> int:
    """Run one file's tests in this process and write what came of them to `arguments.out`."""
    os.environ |= {"PYMIL_TEST_TARGETS": "mlprogram", "INCLUDE_MIL_FP32_UNIT_TESTS": "1"}
    mac = Mac(arguments.cases)
    pytest.main(["-q", "-p", "no:cacheprovider", "--tb=short", arguments.file], plugins=[mac])
    Path(arguments.out).write_text(json.dumps(mac.outcomes), encoding="utf-8")
    return 0


def tests_folder() -> Path:
    import coremltools

    return Path(coremltools.__file__).parent / "converters" / "mil" / "mil" / "ops" / "tests"


def measure(path: Path, cases: int, scratch: Path) -> dict[str, tuple[str, str]]:
    """Run one file in another process. Returns what came of each of its tests."""
    out = scratch / "outcomes.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--file", str(path), "--out", str(out), "--cases", str(cases)]
    try:
        done = subprocess.run(command, cwd=scratch, timeout=LIMIT, capture_output=True, encoding="utf-8")
    except subprocess.TimeoutExpired:
        return {path.name: ("wrong", f"not done after {LIMIT} s")}
    if not out.exists():
        return {path.name: ("wrong", (done.stdout + done.stderr).strip().splitlines()[-1])}
    return {name: tuple(outcome) for name, outcome in json.loads(out.read_text(encoding="utf-8")).items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="?", default="", help="files whose name contains this text")
    parser.add_argument("--cases", type=int, default=3, help="of every test, drawn at random (3)")
    parser.add_argument("--file", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.file:
        return run_file(arguments)
    total: collections.Counter[str] = collections.Counter()
    told: dict[str, list[str]] = {outcome: [] for outcome in OUTCOMES[1:5]}
    print(f"{'':38}" + "".join(f"{outcome:>10}" for outcome in OUTCOMES))
    with tempfile.TemporaryDirectory(prefix="edgevl-coreml-") as scratch:
        for path in sorted(tests_folder().rglob("test_*.py")):
            name = path.relative_to(tests_folder()).as_posix()
            if arguments.only not in name:
                continue
            outcomes = measure(path, arguments.cases, Path(scratch))
            counts = collections.Counter(outcome for outcome, _ in outcomes.values())
            total += counts
            print(f"{name:38}" + "".join(f"{counts[outcome]:10}" for outcome in OUTCOMES), flush=True)
            for test, (outcome, why) in outcomes.items():
                if outcome in told:
                    told[outcome].append(f"{name}::{test.split('::', 1)[-1]}: {why}")
    print(f"{'all':38}" + "".join(f"{total[outcome]:10}" for outcome in OUTCOMES))
    for outcome, lines in told.items():
        print(f"\n{outcome}:", *lines, sep="\n  ")
    return 1 if told["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
