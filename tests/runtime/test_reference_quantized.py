"""Activation quantization against torch's own quantized tensors: int8 and uint8, per tensor and per channel."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mil_programs import save_mil  # pyright: ignore[reportMissingImports]

from edgevl.runtime.coreml_reference import MLProgram

TORCH = {"int8": torch.qint8, "uint8": torch.quint8}
RANGES = {"int8": (-128, 127), "uint8": (0, 255)}
RNG = np.random.default_rng(31)


@st.composite
def schemes(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(st.tuples(*[st.integers(2, 5)] * draw(st.integers(2, 4))))
    dtype, axis = draw(st.sampled_from(["int8", "uint8"])), draw(st.integers(-len(shape), len(shape) - 1))
    per_channel, low = draw(st.booleans()), RANGES[dtype][0]
    count = shape[axis] if per_channel else 1
    return {
        "x": 4 * RNG.standard_normal(shape).astype(np.float32),  # with these scales some values are beyond the range
        "dtype": dtype,
        "axis": axis if per_channel else None,
        "scale": RNG.choice([2**-7, 0.0125, 0.03, 0.25], count).astype(np.float32),
        "zero_point": RNG.integers(low + 100, low + 156, count) if draw(st.booleans()) else None,
    }


def params_of(scheme: dict[str, Any]) -> dict[str, Any]:
    squeeze = (lambda value: value) if scheme["axis"] is not None else (lambda value: value[0])
    params = {"scale": squeeze(scheme["scale"])}
    if scheme["axis"] is not None:
        params["axis"] = np.int32(scheme["axis"])
    if scheme["zero_point"] is not None:
        params["zero_point"] = squeeze(scheme["zero_point"].astype(scheme["dtype"]))
    return params


def torch_quantized(scheme: dict[str, Any]) -> torch.Tensor:
    x, scale = torch.tensor(scheme["x"]), torch.tensor(scheme["scale"])
    zero = torch.zeros(len(scale), dtype=torch.int64)
    if scheme["zero_point"] is not None:
        zero = torch.tensor(scheme["zero_point"])
    if scheme["axis"] is None:
        return torch.quantize_per_tensor(x, float(scale[0]), int(zero[0]), TORCH[scheme["dtype"]])
    # Torch takes one scale for each channel in float64; the same float32 scales lose nothing by it.
    return torch.quantize_per_channel(x, scale.double(), zero, scheme["axis"] % x.dim(), TORCH[scheme["dtype"]])


@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    database=None,
    phases=[Phase.generate],  # shrinking writes hundreds of programs
)
@given(st.lists(schemes(), min_size=12, max_size=12))
def test_quantize_and_dequantize_are_torchs(run_mil, chosen: list[dict[str, Any]]) -> None:
    inputs = {f"x{index}": scheme["x"] for index, scheme in enumerate(chosen)}

    def build(mb: Any, *xs: Any) -> tuple[Any, ...]:
        outputs = []
        for x, scheme in zip(xs, chosen):
            codes = mb.quantize(input=x, output_dtype=scheme["dtype"], **params_of(scheme))
            outputs += [mb.cast(x=codes, dtype="int32"), mb.dequantize(input=codes, **params_of(scheme))]
        return tuple(outputs)

    results = run_mil(build, inputs, target="iOS17")
    for index, scheme in enumerate(chosen):
        expected = torch_quantized(scheme)
        codes, values = results[2 * index : 2 * index + 2]
        exact = scheme["x"] / np.moveaxis(np.broadcast_to(steps(scheme), moved(scheme)), -1, scheme["axis"] or 0)
        sure = np.abs(exact - np.floor(exact) - 0.5) > 1e-4  # torch multiplies by 1 / scale, so ties may differ
        np.testing.assert_array_equal(codes[sure], expected.int_repr().numpy()[sure])
        np.testing.assert_allclose(values[sure], expected.dequantize().numpy()[sure], rtol=1e-6, atol=1e-6)


def moved(scheme: dict[str, Any]) -> tuple[int, ...]:
    """The shape with the channels last."""
    return np.moveaxis(scheme["x"], scheme["axis"] or 0, -1).shape


def steps(scheme: dict[str, Any]) -> np.ndarray:
    return scheme["scale"]


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_scales_of_half_precision(tmp_path: Path, dtype: str) -> None:
    """In a half-precision program x, the scale and the result are half-precision numbers; codes are exact."""
    x, scale = (3 * RNG.standard_normal((2, 6))).astype(np.float16), np.float16(0.0372)

    def build(mb: Any, x: Any) -> Any:
        codes = mb.quantize(input=x, scale=np.float32(scale), output_dtype=dtype)
        return mb.dequantize(input=codes, scale=np.float32(scale), name="y")

    path = tmp_path / "half.mlpackage"
    save_mil(path, build, {"x": x.astype(np.float32)}, target="iOS17", precision="fp16")
    program = MLProgram.load(path)
    assert {"quantize", "dequantize"} <= set(program.op_types)
    codes = np.round(x.astype(np.float32) / np.float32(scale)).clip(*RANGES[dtype])
    expected = (codes * np.float32(scale)).astype(np.float16)
    np.testing.assert_array_equal(program.predict({"x": x.astype(np.float32)})["y"].astype(np.float16), expected)
    if dtype == "int8":  # uint8 cuts half of the values off at zero, which is no fault of half precision
        assert program.find_fault({"x": x.astype(np.float32)}, min_snr_db=10.0) is None


def test_the_ends_of_the_range_saturate(run_mil) -> None:
    x = np.array([[-1e6, -129.0, -128.4, 126.6, 127.4, 128.0, 1e6]], np.float32)

    def build(mb: Any, x: Any) -> Any:
        codes = mb.quantize(input=x, scale=np.float32(1), zero_point=np.int8(0), output_dtype="int8")
        shifted = mb.quantize(input=x, scale=np.float32(1), zero_point=np.uint8(128), output_dtype="uint8")
        return mb.cast(x=codes, dtype="int32"), mb.cast(x=shifted, dtype="int32")

    signed, unsigned = run_mil(build, {"x": x}, target="iOS17")
    assert signed.tolist() == [[-128, -128, -128, 127, 127, 127, 127]]
    assert unsigned.tolist() == [[0, 0, 0, 255, 255, 255, 255]]
