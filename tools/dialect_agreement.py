"""Do all int8 files give the same answers? One plan, w8a8 for every target, and how often each two agree.

    python tools/dialect_agreement.py                            # the embedded model, 1 000 samples of scenes:test
    python tools/dialect_agreement.py runs/nano --samples 200 --targets onnx,tensorrt
    python tools/dialect_agreement.py --json > agreement.json

The plan is the model folder's, or one calibration now. Each file runs in its own target's session; `float` is PyTorch.
Targets whose package is not installed, or whose runtime does not exist here, are named and left out.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgevl.contracts import Deployable, Sample
from edgevl.errors import EdgeVLError, MissingDependency
from edgevl.export.registry import Exporter, get_exporter, target_names
from edgevl.models.checkpoint import EMBEDDED
from edgevl.models.kinds import open_deployable
from edgevl.opened import eager, over_artifacts
from edgevl.plans.plan import Plan
from edgevl.quantize import plan_for
from edgevl.runtime.session import CannotRunHere
from edgevl.verify.measure import Measured, compare, draw, measure, side_of

PRECISION, FLOAT = "w8a8", "float"


def variants(targets: list[str]) -> Iterator[tuple[str, Exporter, dict[str, str]]]:
    """(name, exporter, options) of every dialect of every target that writes w8a8."""
    for exporter in map(get_exporter, targets):
        if PRECISION in exporter.precisions:
            option = exporter.options.get("dialect")
            for dialect in (value for value in option.choices if value != "none") if option else ("",):
                yield f"{exporter.name}-{dialect}".rstrip("-"), exporter, {"dialect": dialect} if dialect else {}


def main() -> None:
    arguments = parse()
    model = open_deployable(arguments.model)
    exact = eager(model)
    samples = draw(arguments.data, model.task, arguments.samples, side_of(model))
    plan = plan_for(model, arguments.model or EMBEDDED)
    reference = measure(exact, samples)
    found: dict[str, Measured] = {FLOAT: reference}
    rows, notes = [], []
    for name, exporter, options in variants(arguments.targets.split(",") if arguments.targets else target_names()):
        print(f"{name}: exporting and running", file=sys.stderr)
        try:
            found[name], size = run(model, plan, exporter, options, samples)
        except (MissingDependency, CannotRunHere) as error:
            notes.append(f"{name} left out: {error}")
            continue
        parity = compare(exact, found[name].answers, reference.answers, arguments.data, name)
        closeness = {"psnr_db": parity.psnr_db, "snr_db": parity.snr_db}
        rows.append({"name": name, "accuracy": found[name].metrics[0].value, **closeness, "bytes": size})
    agreement = exact.decoder.agreement
    matrix = {a: {b: agreement(found[a].answers, found[b].answers) for b in found} for a in found}
    report(arguments, samples, reference.metrics[0].value, rows, matrix, notes)


def run(
    model: Deployable, plan: Plan, exporter: Exporter, options: dict[str, str], samples: Sequence[Sample]
) -> tuple[Measured, int]:
    """Answers and metrics of the artifacts of one target, and their bytes."""
    layout = model.layouts[0]
    with tempfile.TemporaryDirectory() as folder:
        exporter.export(model, Path(folder), PRECISION, layout, options=options, plan=plan)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        paths = {name: Path(folder, path) for name, path in exporter.files(model.programs(layout)).items()}
        return measure(over_artifacts(model, paths, exporter.name, threads=1), samples), size


def report(arguments: Any, samples: Any, accuracy: float, rows: list, matrix: dict, notes: list[str]) -> None:
    lowest = min((matrix[a][b] for a in matrix for b in matrix if FLOAT not in (a, b)), default=1.0)
    if arguments.json:
        found = {"data": arguments.data, "samples": len(samples), "accuracy": accuracy, "results": rows}
        print(json.dumps({**found, "agreement": matrix, "lowest": lowest, "notes": notes}, indent=1))
        return
    print(f"{len(samples)} samples of {arguments.data}; PyTorch float32: {accuracy:.2%}")
    for row in rows:
        near = f"{row['psnr_db']:5.1f} dB ({row['snr_db']:.1f} around the mean)"
        print(f"{row['name']:<12} {row['bytes'] / 1e6:6.2f} MB  {near}  {row['accuracy']:.2%}")
    print(f"\nThe same answer, of 100 (lowest of two targets: {100 * lowest:.2f})")
    print(" " * 12, *(f"{name:>12}" for name in matrix))
    for name, line in matrix.items():
        print(f"{name:<12}", *(f"{100 * share:12.2f}" for share in line.values()))
    print(*notes, sep="\n", end="\n" if notes else "")


def parse() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="a model folder; default: the embedded model")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--data", default="scenes:test")
    parser.add_argument("--targets", default="", help="such as onnx,tensorrt; default: every target that writes w8a8")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except EdgeVLError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
