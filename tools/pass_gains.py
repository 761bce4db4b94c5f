"""What each graph pass that makes a file faster or smaller gains: the embedded model without it, on this machine.

    python tools/pass_gains.py                 # every target that runs here; prints the rows of docs/passes.md
    python tools/pass_gains.py --only onnx --threads 1

A row is the file without one pass (`edgevl.export.passes.skipping`) beside the file with all: time interleaved in one
run, the median over pairs of blocks with its 95 % interval; bytes; and the signal-to-noise ratio of the logits to
PyTorch's over samples of `scenes:test`. Passes that files need to run at all are listed without numbers.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from edgevl.bench.presets import PRESETS
from edgevl.bench.run import time_models
from edgevl.bench.summary import ratio_of
from edgevl.contracts import Deployable
from edgevl.export.passes import PASSES, skipping
from edgevl.export.registry import get_exporter, target_names
from edgevl.models.kinds import open_deployable
from edgevl.opened import eager, over_artifacts
from edgevl.plans.plan import Plan
from edgevl.quantize.calibrate import calibrate
from edgevl.verify.measure import compare, draw, measure, side_of

TEST, CALIBRATION = "scenes:test", "scenes:val"
PRECISION = "w8a8"  # where every pass applies
TARGETS = ("onnx", "litert", "executorch")  # those that run here in their own runtime


def write(model: Deployable, target: str, plan: Plan, folder: Path, skipped: str | None) -> Path:
    with skipping(*([skipped] if skipped else [])):
        return get_exporter(target).export(model, folder / (skipped or "all"), PRECISION, plan=plan)


def rows(model: Deployable, target: str, plan: Plan, samples: int, preset: str, threads: int) -> list[str]:
    names = [each.name for each in PASSES.values() if each.target == target and each.gain != "runs"]
    test, exact = draw(TEST, model.task, samples, side_of(model)), eager(model)
    reference, found = measure(exact, test), []
    with tempfile.TemporaryDirectory(prefix="edgevl-passes-") as scratch:
        files = {name or "all": write(model, target, plan, Path(scratch), name) for name in (None, *names)}
        opened = {name: over_artifacts(model, {"model": path}, target, threads) for name, path in files.items()}
        traces = time_models(opened, test[0].query, preset, threads)
        for name, path in files.items():
            parity = compare(exact, measure(opened[name], test).answers, reference.answers, TEST, name)
            ratio = ratio_of(traces[name], traces["all"])
            size = path.stat().st_size / 1000
            times = f"{ratio.ratio:.2f} ({ratio.ci95[0]:.2f} to {ratio.ci95[1]:.2f})" if name != "all" else "1"
            found.append(f"| {target} | {name} | {times} | {size:,.0f} | {parity.snr_db:.1f} |")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a model folder; default: the embedded nano")
    parser.add_argument("--only", choices=TARGETS, help="one target")
    parser.add_argument("--samples", type=int, default=200, help="samples of scenes:test")
    parser.add_argument("--preset", default="quick", choices=sorted(PRESETS))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    model, _ = open_deployable(arguments.model), target_names()  # imports every exporter, and so every pass
    plan = calibrate(model, CALIBRATION, 512)
    print("| target | without | time of all | kB | SNR, dB |\n|---|---|---|---|---|")
    for target in [arguments.only] if arguments.only else TARGETS:
        for row in rows(model, target, plan, arguments.samples, arguments.preset, arguments.threads):
            print(row, flush=True)
    print("\n| target | pass | what it does |\n|---|---|---|")
    for each in sorted(PASSES.values(), key=lambda each: (each.target, each.name)):
        print(f"| {each.target} | `{each.name}` | {each.does} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
