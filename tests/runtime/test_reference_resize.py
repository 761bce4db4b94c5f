"""Nearest resizing by any factor and to any size: against torch, and against numbers of coremltools' own tests.

Apple runs those tests on Macs, so the numbers are Core ML's.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from mil_programs import Case, coremltools, run_cases  # pyright: ignore[reportMissingImports]
from test_reference_shapes import array, check_all, few, listed  # pyright: ignore[reportMissingImports]

from edgevl.runtime.coreml_quiet import quiet_coremltools
from edgevl.runtime.coreml_reference import MLProgram

# side and factor; the first five were wrong by 18 dB and more when the executor read sizes in place of the factor
FRACTIONS = [(7, 0.4), (13, 0.3), (11, 1.7), (10, 2.3), (9, 0.6), (6, 3.4), (7, 5.8), (20, 4.6), (3, 1.12), (10, 1.25)]


class Interpolates(torch.nn.Module):
    """Several inputs, each resized by a factor of its own."""

    def forward(self, *pictures: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(F.interpolate(x, scale_factor=factor) for x, (_, factor) in zip(pictures, FRACTIONS))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_fractional_factor_converted_from_torch_is_torchs(tmp_path: Path, precision: str) -> None:
    pictures = tuple(torch.randn(1, 2, side, side).half().float() for side, _ in FRACTIONS)
    module, ct = Interpolates().eval(), coremltools()
    with quiet_coremltools():
        ct.convert(
            torch.export.export(module, pictures).run_decompositions({}),
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16,
            skip_model_load=True,
        ).save(str(tmp_path / "nearest.mlpackage"))
    program = MLProgram.load(tmp_path / "nearest.mlpackage")
    outputs = program.predict({spec.name: x.numpy() for spec, x in zip(program.inputs, pictures)})
    for output, expected in zip(outputs.values(), module(*pictures)):
        np.testing.assert_array_equal(output, expected.numpy())


def upsample(x: np.ndarray, factors: tuple[float, float], reference: Callable) -> Case:
    height, width = (np.float32(factor) for factor in factors)
    params = {"scale_factor_height": height, "scale_factor_width": width}
    return Case("upsample_nearest_neighbor", {"x": x}, lambda x: reference(x), params=params, tolerance=0.0)


@st.composite
def factors(draw: st.DrawFn) -> Case:
    """Factors with one or two decimals, whole ones, and those that the converters write for a size."""
    height, width = draw(st.tuples(*[st.integers(1, 40)] * 2))
    kind = draw(st.sampled_from(["fraction", "whole", "size"]))
    if kind == "size":
        sizes = draw(st.tuples(*[st.integers(1, 60)] * 2))
        pair = tuple(
            size / side if size % side == 0 else (size + 1e-4) / side for size, side in zip(sizes, (height, width))
        )
        return upsample(array((1, 2, height, width)), pair, lambda x: F.interpolate(x, sizes))  # pyright: ignore
    steps = st.integers(1, 12).map(float) if kind == "whole" else st.integers(10, 600).map(lambda k: k / 100)
    pair = draw(st.tuples(steps, steps))
    pair = tuple(max(factor, 1 / side + 0.01) for factor, side in zip(pair, (height, width)))
    return upsample(array((1, 2, height, width)), pair, lambda x: F.interpolate(x, scale_factor=pair))  # pyright: ignore


@few
@given(listed(factors(), 24))
def test_any_factor_is_torchs(run_mil, cases: list[Case]) -> None:
    check_all(run_mil, cases)


@st.composite
def centered(draw: st.DrawFn) -> Case:
    """Half-pixel centers: TensorFlow's, and torch's `nearest-exact`. One sample is another matter, see below."""
    height, width, out_height, out_width = draw(st.tuples(*[st.integers(2, 30)] * 4))
    x, size = array((1, 2, height, width)), (out_height, out_width)
    if draw(st.booleans()):
        params = {"target_size_height": out_height, "target_size_width": out_width}
        return Case("resize_nearest_neighbor", {"x": x}, lambda x: _cell_of_center(x, size), params=params)
    params = {"shape": size, "resized_dims": np.uint32(2), "interpolation_mode": "NEAREST_NEIGHBOR"}
    return Case("resize", {"x": x}, lambda x: _cell_of_center(x, size), params=params, target="iOS17")


def _cell_of_center(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The definition, in whole numbers: floor((i + 0.5) * side / size)."""
    rows, columns = (
        [math.floor((2 * i + 1) * side / (2 * n)) for i in range(n)] for side, n in zip(x.shape[-2:], size)
    )
    return x[..., rows, :][..., columns]


@few
@given(listed(centered(), 24))
def test_a_size_takes_the_cell_that_a_samples_center_lies_in(run_mil, cases: list[Case]) -> None:
    check_all(run_mil, cases)


ROW = np.array([[[[1.5, -2.5, 3.5]]]], np.float32)
PAIR = np.array([[[[-6.174], [9.371]]]], np.float32)
# From coremltools 9: TestUpsampleNearestNeighborFractionalScales (iOS15), TestResizeNearestNeighbor (iOS14) and
# TestResize (iOS17). The last line is why TensorFlow's tests of a size of (1, 1) are marked as failing (rdar://79699954).
ON_A_MAC = [
    upsample(ROW, (3.17, 0.67), lambda x: torch.tensor([[[[1.5, -2.5]] * 3]]).reshape(1, 1, 3, 2)),
    upsample(ROW, (2.0, 1.12), lambda x: torch.tensor([[[[1.5, -2.5, 3.5]] * 2]]).reshape(1, 1, 2, 3)),
    Case(
        "resize_nearest_neighbor",
        {"x": PAIR},
        lambda x: x.expand(1, 1, 2, 3),
        params={"target_size_height": 2, "target_size_width": 3},
    ),
    Case(
        "resize",
        {"x": PAIR},
        lambda x: torch.tensor([[[[-6.174] * 2, [9.371] * 2, [9.371] * 2]]]),
        params={"shape": [1, 1, 3, 2], "resized_dims": np.uint32(2), "interpolation_mode": "NEAREST_NEIGHBOR"},
        target="iOS17",
    ),
    Case(
        "resize_nearest_neighbor",
        {"x": PAIR},
        lambda x: x[:, :, :1],
        params={"target_size_height": 1, "target_size_width": 1},
    ),
]


def test_numbers_of_a_mac(run_mil) -> None:
    for index, outputs in run_cases(run_mil, ON_A_MAC).items():
        ON_A_MAC[index].check(outputs)
