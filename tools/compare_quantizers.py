"""Our files against what others make of the same float file: optimized, and in static int8; one run.

    python tools/compare_quantizers.py                   # the embedded model, 512 samples to calibrate, 2 000 to judge
    python tools/compare_quantizers.py --json > compare.json

- `quantize_static`: unsigned 8-bit activations, signed 8-bit weights per channel, after `quant_pre_process`; as it
  comes, and restricted to convolutions and matrix products (`products`), as a careful user would.
- `onnxslim`, `optimize_model`: the float file through onnxslim, and through onnxruntime's transformer optimizer
  (fused attention, layer norms with the sums in front of them, GELU with its bias).
- `ModelOpt`: NVIDIA's quantizer of ONNX files (`nvidia-modelopt[onnx]`), entropy calibration, on the CPU.
- `ORTQuantizer`: Optimum's own configuration for AVX-512 VNNI, static and per channel. Needs optimum-onnx 0.1.0,
  which holds transformers below 4.58: give it an environment of its own.

Times are of the model alone, interleaved by blocks; a ratio is the median over pairs of blocks with its 95 % interval.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgevl.bench.presets import PRESETS
from edgevl.bench.run import time_models
from edgevl.bench.static_int8 import PRODUCTS, quantize_static
from edgevl.bench.summary import ratio_of
from edgevl.contracts import Deployable, Sample
from edgevl.export.registry import get_exporter
from edgevl.models.kinds import open_deployable
from edgevl.opened import Opened, eager, over_artifacts
from edgevl.quantize.calibrate import calibrate
from edgevl.runtime.session import Arrays
from edgevl.verify.measure import compare, draw, measure, side_of

CALIBRATION, TEST = "scenes:val", "scenes:test"


def rows(model: Opened, samples: Sequence[Sample]) -> Iterator[Arrays]:
    """Feeds of one sample each."""
    assert model.runner
    for sample in samples:
        feeds = model.runner.read(sample.query, "picture") | model.runner.read(sample.query, "text")
        yield {name: array[None] for name, array in feeds.items()}


def ours(model: Deployable, folder: Path, count: int) -> Path:
    plan = calibrate(model, CALIBRATION, count)
    return get_exporter("onnx").export(model, folder / "ours", "w8a8", plan=plan)


def onnxslim(float_file: Path, folder: Path) -> Path | None:
    try:
        import onnxslim  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        return _missing("onnxslim", error)
    result = folder / "onnxslim.onnx"
    onnx.save(onnxslim.slim(onnx.load(float_file)), result)
    return result


def optimize_model(float_file: Path, folder: Path, heads: int, width: int) -> Path:
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model as optimize

    optimized = optimize(
        str(float_file), "bert", num_heads=heads, hidden_size=width, optimization_options=FusionOptions("bert"),
        opt_level=0, use_gpu=False,
    )  # fmt: skip
    result = folder / "optimize_model.onnx"
    optimized.save_model_to_file(str(result))
    return result


def modelopt(float_file: Path, feeds: list[Arrays], folder: Path) -> Path | None:
    try:
        from modelopt.onnx.quantization import quantize  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        return _missing("ModelOpt", error)
    result = folder / "modelopt.onnx"
    samples = {name: np.concatenate([each[name] for each in feeds]) for name in feeds[0]}
    quantize(
        str(float_file), quantize_mode="int8", calibration_data=samples, calibration_method="entropy",
        calibration_eps=["cpu"], output_path=str(result), high_precision_dtype="fp32",
    )  # fmt: skip
    return result


def _missing(name: str, error: ImportError) -> None:
    print(f"{name} is not measured: {error}", file=sys.stderr)


def optimum(float_file: Path, feeds: list[Arrays], folder: Path) -> Path | None:
    try:
        from optimum.onnxruntime import ORTQuantizer  # pyright: ignore[reportMissingImports]
        from optimum.onnxruntime.configuration import (  # pyright: ignore[reportMissingImports]
            AutoQuantizationConfig,
            CalibrationConfig,
        )
        from transformers.configuration_utils import PretrainedConfig  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        return _missing("ORTQuantizer", error)
    from onnxruntime.quantization import CalibrationMethod

    quantizer = ORTQuantizer(float_file, config=PretrainedConfig())
    config = AutoQuantizationConfig.avx512_vnni(is_static=True, per_channel=True)
    samples = [{name: array[0] for name, array in each.items()} for each in feeds]
    method = CalibrationConfig(CALIBRATION, "", "", len(feeds), CalibrationMethod.MinMax)
    operators = config.operators_to_quantize
    ranges = quantizer.fit(samples, method, folder / "augmented.onnx", operators)
    quantizer.quantize(config, folder / "optimum", calibration_tensors_range=ranges)
    return next((folder / "optimum").glob("*.onnx"))


def heads_and_width(model: Deployable) -> tuple[int, int]:
    """Of our own models; others have theirs found by the optimizer."""
    described = model.provenance.get("model") or {}
    return described.get("heads", 0), described.get("width", 0)


def judged(files: dict[str, Path], model: Deployable, samples: int, preset: str, threads: int) -> dict[str, Any]:
    """Accuracy, size and interleaved times of each file; `float` is the baseline of all ratios."""
    test, exact = draw(TEST, model.task, samples, side_of(model)), eager(model)
    opened = {name: over_artifacts(model, {"model": path}, "onnx", threads) for name, path in files.items()}
    traces = time_models(opened, test[0].query, preset, threads)
    result = {}
    reference = measure(exact, test)
    for name, each in opened.items():
        found = measure(each, test)
        parity = compare(exact, found.answers, reference.answers, TEST, name)
        result[name] = {
            "accuracy": found.metrics[0].value,
            "ci95": found.metrics[0].ci95,
            "psnr_db": parity.psnr_db,
            "top1_agreement": parity.top1_agreement,
            "bytes": files[name].stat().st_size,
            "p50_ms": 1000 * float(np.median(traces[name].samples)),
            "faster_than_float": ratio_of(traces["float"], traces[name]).model_dump(include={"ratio", "ci95"}),
            "ours_is_faster": ratio_of(traces[name], traces["ours"]).model_dump(include={"ratio", "ci95"}),
        }
    return result


def show(result: dict[str, Any]) -> None:
    print("| file | accuracy | same answer | PSNR dB | kB | p50 ms | faster than float | ours is faster |")
    print("|---|---|---|---|---|---|---|---|")
    for name, row in result.items():
        gains = [
            f"{row[key]['ratio']:.2f}× ({row[key]['ci95'][0]:.2f} to {row[key]['ci95'][1]:.2f})"
            for key in ("faster_than_float", "ours_is_faster")
        ]
        size = f"{row['bytes'] / 1000:,.0f}"
        close = f"{row['accuracy']:.2%} | {row['top1_agreement']:.2%} | {row['psnr_db']:.1f}"
        print(f"| {name} | {close} | {size} | {row['p50_ms']:.2f} | {gains[0]} | {gains[1]} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a model folder; default: the embedded nano")
    parser.add_argument("--calibrate", type=int, default=512, help="samples of scenes:val")
    parser.add_argument("--samples", type=int, default=2000, help="samples of scenes:test")
    parser.add_argument("--preset", default="quick", choices=sorted(PRESETS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    model = open_deployable(arguments.model)
    with tempfile.TemporaryDirectory(prefix="edgevl-quantizers-") as scratch:
        folder, said = Path(scratch), io.StringIO()
        float_file = get_exporter("onnx").export(model, folder / "float", "fp32")
        files: dict[str, Path | None] = {"float": float_file}
        drawn = draw(CALIBRATION, model.task, arguments.calibrate, side_of(model))
        feeds = list(rows(eager(model), drawn))
        with contextlib.redirect_stdout(said):  # both libraries print as they go
            files["ours"] = ours(model, folder, arguments.calibrate)
            files["onnxslim"] = onnxslim(float_file, folder)
            files["optimize_model"] = optimize_model(float_file, folder, *heads_and_width(model))
            for name, operators in (("quantize_static", None), ("quantize_static, products", PRODUCTS)):
                files[name] = quantize_static(float_file, folder / f"{name}.onnx", feeds, operators)
            files["ORTQuantizer"] = optimum(float_file, feeds, folder)
            files["ModelOpt"] = modelopt(float_file, feeds, folder)
        there = {name: path for name, path in files.items() if path}
        result = judged(there, model, arguments.samples, arguments.preset, arguments.threads)
    print(json.dumps(result, indent=1)) if arguments.json else show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
