"""Look at a package from the command line: what it takes and runs, how long a run takes, what half precision breaks.

python -m edgevl.runtime.coreml_reference model.mlpackage --samples 1000
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgevl.errors import EdgeVLError
from edgevl.runtime.coreml_reference.executor import PRECISIONS
from edgevl.runtime.coreml_reference.program import MLProgram
from edgevl.runtime.session import TensorSpec
from edgevl.runtime.torch_session import torch_threads


def main(argv: Sequence[str] | None = None) -> int:
    """Print a report of a package. Returns 0, or 4 if half precision breaks it; an error's own code for an error."""
    parser = argparse.ArgumentParser(prog="python -m edgevl.runtime.coreml_reference", description="Run a package.")
    parser.add_argument("package", type=Path, help="the .mlpackage folder")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp16")
    parser.add_argument("--function", default="main", help="of a multi-function package")
    parser.add_argument("--samples", type=int, default=100, help="runs to time, after one that is not timed")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    try:
        return _report(options)
    except EdgeVLError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _report(options: argparse.Namespace) -> int:
    program = MLProgram.load(options.package, options.precision, options.function)
    feeds = {spec.name: _random(spec) for spec in program.inputs}
    print("inputs:", ", ".join(map(str, program.inputs)))
    print("outputs:", ", ".join(map(str, program.outputs)))
    print("operators:", ", ".join(f"{count} {name}" for name, count in sorted(program.op_types.items())))
    with torch_threads(options.threads):
        program.predict(feeds)
        start, start_cpu = time.perf_counter(), time.process_time()
        for _ in range(options.samples):
            program.predict(feeds)
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        fault = program.find_fault(feeds)
    each = 1000 / max(1, options.samples)
    print(
        f"{options.samples} samples in {seconds:.1f} s: {each * seconds:.1f} ms each, {each * cpu:.1f} ms of processor "
        f"time ({options.precision}, threads: {options.threads})"
    )
    print("half precision:", fault or "no fault on random inputs")
    return 4 if fault else 0


def _random(spec: TensorSpec) -> np.ndarray:
    """Random pixels or normal numbers; integers, whose range is not known, are 1."""
    generator = np.random.default_rng(0)
    if spec.dtype == "uint8":
        return generator.integers(0, 256, spec.shape, dtype=np.uint8)
    if spec.dtype.startswith("float"):
        return generator.standard_normal(spec.shape).astype(spec.dtype)
    return np.ones(spec.shape, spec.dtype)


if __name__ == "__main__":
    sys.exit(main())
