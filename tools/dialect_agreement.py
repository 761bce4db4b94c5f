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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgevl.checkpoint import LoadedModel, load_model
from edgevl.errors import EdgeVLError, MissingDependency
from edgevl.evaluate import Evaluation, draw_samples, evaluate_model, evaluate_session
from edgevl.export.registry import Exporter, get_exporter, target_names
from edgevl.quantize import plan_for
from edgevl.quantize.plan import Plan
from edgevl.runtime.session import CannotRunHere, open_session
from edgevl.verify.measure import compare_output

PRECISION, FLOAT = "w8a8", "float"


def variants(targets: list[str]) -> Iterator[tuple[str, Exporter, dict[str, str]]]:
    """(name, exporter, options) of every dialect of every target that writes w8a8."""
    for exporter in map(get_exporter, targets):
        if PRECISION in exporter.precisions:
            option = exporter.options.get("dialect")
            for dialect in (value for value in option.choices if value != "none") if option else ("",):
                yield f"{exporter.name}-{dialect}".rstrip("-"), exporter, {"dialect": dialect} if dialect else {}


def agreement(logits: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Share of equal best answers of each two; logits [N, A]."""
    best = {name: values_NA.argmax(axis=1) for name, values_NA in logits.items()}
    return {a: {b: float((best[a] == best[b]).mean()) for b in best} for a in best}


def main() -> None:
    arguments = parse()
    loaded = load_model(arguments.model)
    samples = draw_samples(arguments.data, arguments.samples, loaded.config.image_size)
    plan = plan_for(loaded)
    reference = evaluate_model(loaded, samples)
    found: dict[str, Evaluation] = {FLOAT: reference}
    rows, notes = [], []
    for name, exporter, options in variants(arguments.targets.split(",") if arguments.targets else target_names()):
        print(f"{name}: exporting and running", file=sys.stderr)
        try:
            found[name], size = run(loaded, plan, exporter, options, samples)
        except (MissingDependency, CannotRunHere) as error:
            notes.append(f"{name} left out: {error}")
            continue
        parity = compare_output(found[name].logits_NA, reference.logits_NA)
        rows.append({"name": name, "accuracy": found[name].accuracy, "psnr_db": parity.psnr_db, "bytes": size})
    matrix = agreement({name: evaluation.logits_NA for name, evaluation in found.items()})
    report(arguments, samples, reference.accuracy, rows, matrix, notes)


def run(loaded: LoadedModel, plan: Plan, exporter: Exporter, options: dict[str, str], samples: Any) -> Any:
    """(evaluation, bytes) of the artifact of one target."""
    with tempfile.TemporaryDirectory() as folder:
        path = exporter.export(loaded.model, Path(folder), PRECISION, options=options, plan=plan)
        size = sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
        session = open_session(path, exporter.name, threads=1)
        return evaluate_session(session, samples, loaded.tokenizer, loaded.config.text_length, loaded.labels), size


def report(arguments: Any, samples: Any, accuracy: float, rows: list, matrix: dict, notes: list[str]) -> None:
    lowest = min((matrix[a][b] for a in matrix for b in matrix if FLOAT not in (a, b)), default=1.0)
    if arguments.json:
        found = {"data": samples.data, "samples": len(samples), "accuracy": accuracy, "results": rows}
        print(json.dumps({**found, "agreement": matrix, "lowest": lowest, "notes": notes}, indent=1))
        return
    print(f"{len(samples)} samples of {samples.data}; PyTorch float32: {accuracy:.2%}")
    for row in rows:
        print(f"{row['name']:<12} {row['bytes'] / 1e6:6.2f} MB  {row['psnr_db']:5.1f} dB  {row['accuracy']:.2%}")
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
