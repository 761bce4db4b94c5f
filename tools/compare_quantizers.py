"""Our static int8 against that of ONNX Runtime and of Optimum: one float file, one calibration set, one run.

    python tools/compare_quantizers.py                   # the embedded model, 512 samples to calibrate, 2 000 to judge
    python tools/compare_quantizers.py --json > compare.json

- `quantize_static`: unsigned 8-bit activations, signed 8-bit weights per channel, after `quant_pre_process`; as it
  comes, and restricted to convolutions and matrix products (`products`), as a careful user would.
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

from edgevl.bench.presets import PRESETS
from edgevl.bench.run import model_call, time_calls
from edgevl.bench.summary import ratio_of
from edgevl.contracts import Deployable, Sample
from edgevl.export.registry import get_exporter
from edgevl.models.kinds import open_deployable
from edgevl.opened import Opened, eager, over_artifacts
from edgevl.quantize.calibrate import calibrate
from edgevl.runtime.session import Arrays
from edgevl.verify.measure import compare, draw, measure, side_of

CALIBRATION, TEST = "scenes:val", "scenes:test"
PRODUCTS = ["Conv", "MatMul", "Gemm"]


def rows(model: Opened, samples: Sequence[Sample]) -> Iterator[Arrays]:
    """Feeds of one sample each."""
    assert model.runner
    for sample in samples:
        feeds = model.runner.read(sample.query, "picture") | model.runner.read(sample.query, "text")
        yield {name: array[None] for name, array in feeds.items()}


def ours(model: Deployable, folder: Path, count: int) -> Path:
    plan = calibrate(model, CALIBRATION, count)
    return get_exporter("onnx").export(model, folder / "ours", "w8a8", plan=plan)


def quantize_static(float_file: Path, feeds: list[Arrays], folder: Path, operators: list[str] | None) -> Path:
    import onnxruntime.quantization as ort
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(ort.CalibrationDataReader):
        """Hands out the calibration samples."""

        def __init__(self) -> None:
            self.left = iter(feeds)

        def get_next(self) -> Any:
            return next(self.left, None)

    prepared, result = folder / "prepared.onnx", folder / f"quantize_static_{'products' if operators else 'all'}.onnx"
    quant_pre_process(str(float_file), str(prepared))
    ort.quantize_static(
        str(prepared), str(result), Reader(), per_channel=True,
        activation_type=ort.QuantType.QUInt8, weight_type=ort.QuantType.QInt8, op_types_to_quantize=operators,
    )  # fmt: skip
    return result


def optimum(float_file: Path, feeds: list[Arrays], folder: Path) -> Path | None:
    try:
        from optimum.onnxruntime import ORTQuantizer  # pyright: ignore[reportMissingImports]
        from optimum.onnxruntime.configuration import (  # pyright: ignore[reportMissingImports]
            AutoQuantizationConfig,
            CalibrationConfig,
        )
        from transformers.configuration_utils import PretrainedConfig  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        print(f"ORTQuantizer is not measured: {error}", file=sys.stderr)
        return None
    from onnxruntime.quantization import CalibrationMethod

    quantizer = ORTQuantizer(float_file, config=PretrainedConfig())
    config = AutoQuantizationConfig.avx512_vnni(is_static=True, per_channel=True)
    samples = [{name: array[0] for name, array in each.items()} for each in feeds]
    method = CalibrationConfig(CALIBRATION, "", "", len(feeds), CalibrationMethod.MinMax)
    operators = config.operators_to_quantize
    ranges = quantizer.fit(samples, method, folder / "augmented.onnx", operators)
    quantizer.quantize(config, folder / "optimum", calibration_tensors_range=ranges)
    return next((folder / "optimum").glob("*.onnx"))


def judged(files: dict[str, Path], model: Deployable, samples: int, preset: str, threads: int) -> dict[str, Any]:
    """Accuracy, size and interleaved times of each file; `float` is the baseline of all ratios."""
    test, exact = draw(TEST, model.task, samples, side_of(model)), eager(model)
    opened = {name: over_artifacts(model, {"model": path}, "onnx", threads) for name, path in files.items()}
    calls = {name: model_call(each, test[0].query) for name, each in opened.items()}
    traces = time_calls(calls, preset, threads)
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
        files: dict[str, Path | None] = {"float": get_exporter("onnx").export(model, folder / "float", "fp32")}
        drawn = draw(CALIBRATION, model.task, arguments.calibrate, side_of(model))
        feeds = list(rows(eager(model), drawn))
        with contextlib.redirect_stdout(said):  # both libraries print as they go
            files["ours"] = ours(model, folder, arguments.calibrate)
            for name, operators in (("quantize_static", None), ("quantize_static, products", PRODUCTS)):
                files[name] = quantize_static(folder / "float" / "model.onnx", feeds, folder, operators)
            files["ORTQuantizer"] = optimum(folder / "float" / "model.onnx", feeds, folder)
        there = {name: path for name, path in files.items() if path}
        result = judged(there, model, arguments.samples, arguments.preset, arguments.threads)
    print(json.dumps(result, indent=1)) if arguments.json else show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
