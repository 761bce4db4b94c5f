"""The command line: what a package takes, how long a run takes, what half precision breaks, how its results compare.

python -m edgevl.runtime.coreml_reference model.mlpackage --inputs feeds.npz --compare torch.npz
"""

import argparse
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .compare import as_array, compare
from .executor import PRECISIONS
from .interface import TensorSpec
from .limits import GIB, Limits
from .ops_table import operators_table
from .program import MLProgram
from .seam import ExecutorError, InputError, first_line, plain


def main(argv: Sequence[str] | None = None) -> int:
    """Print a report of a package.

    Returns 0; 4 if half precision breaks the program, or if its results are not those of `--compare`; an error's own
    code for an error.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if options.operators:
        print(operators_table())
        return 0
    if options.package is None:
        parser.error("give a package, or --operators")
    try:
        return _report(options)
    except ExecutorError as error:
        print(plain(f"error: {error}"), file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    defaults = Limits()
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description="Run a Core ML package.")
    parser.add_argument("package", type=Path, nargs="?", help="the .mlpackage folder")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp16")
    parser.add_argument("--function", help="of a package with several; default: the package's own default")
    parser.add_argument("--shape", action="append", default=[], metavar="NAME=1,3,64,64", help="of a flexible input")
    parser.add_argument("--inputs", type=Path, metavar="FILE.npz", help="arrays by input name; default: random numbers")
    parser.add_argument("--compare", type=Path, metavar="FILE.npz", help="what the outputs should be, by output name")
    parser.add_argument("--min-snr-db", type=float, default=40.0, help="what --compare asks for (default: 40)")
    parser.add_argument("--save", type=Path, metavar="FILE.npz", help="where to write the outputs")
    parser.add_argument("--samples", type=int, default=100, help="runs to time, after one that is not timed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-operators", type=int, default=defaults.operators, help="that a run may execute")
    parser.add_argument("--max-gib", type=float, default=defaults.memory / GIB, help="of memory for values")
    parser.add_argument("--max-seconds", type=float, default=defaults.seconds, help="of a run")
    parser.add_argument("--operators", action="store_true", help="print the table of operators of the documentation")
    return parser


def _report(options: argparse.Namespace) -> int:
    limits = Limits(options.max_operators, int(options.max_gib * GIB), options.max_seconds)
    shapes = dict(map(_shape, options.shape))
    program = MLProgram.load(options.package, options.precision, options.function, shapes, limits)
    feeds = _read(options.inputs) if options.inputs else {spec.name: _random(spec) for spec in program.inputs}
    _describe(program)
    torch.set_num_threads(options.threads)
    outputs = program.predict(feeds, program.make_state())
    if options.save:
        _save(options.save, outputs)
    same = compare(outputs, _read(options.compare), options.min_snr_db) if options.compare else True
    _time(program, feeds, options)
    fault, kind = program.find_fault(feeds), "these" if options.inputs else "random"
    print(plain(f"half precision: {fault or f'no fault on {kind} inputs'}"))
    return 0 if same and fault is None else 4


def _describe(program: MLProgram) -> None:
    for what, specs in (("inputs", program.inputs), ("states", program.states), ("outputs", program.outputs)):
        if specs:
            print(plain(f"{what}: {', '.join(map(str, specs))}"))
    print(plain(f"operators: {', '.join(f'{count} {name}' for name, count in sorted(program.op_types.items()))}"))


def _time(program: MLProgram, feeds: Mapping[str, Any], options: argparse.Namespace) -> None:
    start, start_cpu = time.perf_counter(), time.process_time()
    for _ in range(options.samples):
        program.predict(feeds, program.make_state())
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    each = 1000 / max(1, options.samples)
    print(
        f"{options.samples} samples in {seconds:.1f} s: {each * seconds:.1f} ms each, {each * cpu:.1f} ms of processor "
        f"time ({options.precision}, threads: {options.threads})"
    )


def _save(path: Path, outputs: Mapping[str, Any]) -> None:
    arrays: Any = {name: as_array(value) for name, value in outputs.items()}
    try:
        np.savez(path, **arrays)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({first_line(error)})") from error


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """ "NAME=1,3,64,64" """
    name, _, sides = text.rpartition("=")
    try:
        return name, tuple(int(side) for side in sides.split(","))
    except ValueError:
        raise InputError(f'--shape "{text}" is not of the form NAME=1,3,64,64') from None


def _read(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file. Nothing in it is executed."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} cannot be read as .npz ({first_line(error)}); write one with numpy.savez(path, name=array, ...)"
        ) from error


def _random(spec: TensorSpec) -> np.ndarray:
    """Random pixels or normal numbers; integers, whose range is not known, are 1."""
    generator = np.random.default_rng(0)
    if spec.dtype == "uint8":
        return generator.integers(0, 256, spec.shape, dtype=np.uint8)
    if spec.dtype.startswith("float"):
        return generator.standard_normal(spec.shape).astype(spec.dtype)
    return np.ones(spec.shape, spec.dtype)
