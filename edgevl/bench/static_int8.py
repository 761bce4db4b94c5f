"""ONNX files in static int8 as onnxruntime's own quantizer makes them: what others would ship, beside our own int8."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgevl.errors import MissingDependency
from edgevl.quiet import quiet_python

PRODUCTS = ("Conv", "MatMul", "Gemm")
_FREE = 16  # of a side that is not fixed: how many regions, in calibration


def quantize_static(
    source: Path, result: Path, feeds: Iterable[Mapping[str, np.ndarray]], operators: Sequence[str] | None = None
) -> Path:
    """Write `source` with uint8 activations and int8 weights for each channel, after `quant_pre_process`.

    Args:
        feeds: inputs that ranges are taken from. operators: types to quantize; None is onnxruntime's own choice.
    """
    try:
        import onnxruntime.quantization as ort
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise MissingDependency(str(error.name), "onnx", "quantizing an opponent") from error

    class Reader(ort.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(feeds)

        def get_next(self) -> Any:
            return next(self.left, None)

    prepared = result.with_suffix(".prepared.onnx")
    with quiet_python():
        # The symbolic inference of shapes fails on a TopK; the converter of torch has written shapes already.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        ort.quantize_static(
            str(prepared), str(result), Reader(), per_channel=True, activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8, op_types_to_quantize=operators and list(operators),
        )  # fmt: skip
    prepared.unlink()
    return result


def quantize_untrained(path: Path, operators: Sequence[str] | None = None) -> None:
    """Replace a file whose weights mean nothing by its int8 form, with ranges of one random input of each kind."""
    result = quantize_static(path, path.with_suffix(".int8.onnx"), [random_feeds(path)], operators)
    result.replace(path)


def random_feeds(path: Path) -> dict[str, np.ndarray]:
    """Seeded inputs of a file: any pixels, one word, normal features, and boxes (`rois`) with positive sides."""
    import onnx

    rng, feeds = np.random.default_rng(0), {}
    for value in onnx.load(path, load_external_data=False).graph.input:
        tensor = value.type.tensor_type
        shape = [side.dim_value or _FREE for side in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if np.issubdtype(dtype, np.integer):
            array = rng.integers(0, 256, shape) if dtype == np.uint8 else np.ones(shape)  # a token of any vocabulary
        elif value.name.startswith(("rois", "boxes")):
            array = rng.random(shape).cumsum(axis=-1)
            array[..., 0] *= not value.name.startswith("rois")  # the index of the picture
        else:
            array = rng.normal(size=shape)
        feeds[value.name] = array.astype(dtype)
    return feeds
