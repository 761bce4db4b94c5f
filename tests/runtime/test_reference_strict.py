"""Strict half precision: the rules of `strict.py`, operator by operator."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mil_programs import save_mil  # pyright: ignore[reportMissingImports]
from test_reference_ops import CASES  # pyright: ignore[reportMissingImports]

from edgevl.runtime.coreml_reference import MLProgram
from edgevl.runtime.coreml_reference.ops import operators, strict_kernels

RNG = np.random.default_rng(23)

# Operators whose rounded result is all there is to round: one elementary step, or a choice that half precision does not
# change. Interpolation (resize and its like) mixes neighbors of one size, so it counts as one step.
ONE_STEP = {
    *("add", "sub", "mul", "real_div", "floor_div", "mod", "pow", "square", "sqrt"),
    *("acos", "asin", "atan", "atanh", "cos", "cosh", "erf", "exp", "exp2", "sin", "sinh", "tan", "tanh"),
    *("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"),
    *("logical_and", "logical_not", "logical_or", "logical_xor"),
    *("cast", "clamped_relu", "leaky_relu", "prelu", "dequantize"),
    *("resize", "resize_bilinear", "upsample_bilinear", "resample", "affine", "crop_resize"),
    *("scatter", "scatter_along_axis", "scatter_nd"),
}


def test_every_operator_is_exact_or_one_step_or_strict() -> None:
    exact = {name for name, definition in operators().items() if definition.exact}
    strict = set(strict_kernels())
    assert exact | ONE_STEP | strict == set(operators())
    assert not exact & ONE_STEP and not exact & strict and not ONE_STEP & strict


def half_program(path: Path, build: Callable[..., Any], inputs: dict[str, np.ndarray]) -> dict[str, MLProgram]:
    """Save a half-precision program; return it in default and in strict half precision."""
    save_mil(path, build, inputs, target="iOS18", precision="fp16")
    return {precision: MLProgram.load(path, precision=precision) for precision in ("fp16", "strict_fp16")}


CHOSEN = [
    case
    for case in CASES
    if case.op in strict_kernels() and all(value.dtype == np.float32 for value in case.inputs.values())
]


@pytest.fixture(scope="module")
def strict_results(tmp_path_factory) -> list[np.ndarray]:
    inputs = {f"c{index}_{name}": value for index, case in enumerate(CHOSEN) for name, value in case.inputs.items()}

    def build(mb: Any, *variables: Any) -> tuple[Any, ...]:
        named = dict(zip(inputs, variables))
        outputs = []
        for index, case in enumerate(CHOSEN):
            (made,) = case.variables(mb, {name: named[f"c{index}_{name}"] for name in case.inputs})
            outputs.append(made)
        return tuple(outputs)

    program = half_program(tmp_path_factory.mktemp("strict") / "all.mlpackage", build, inputs)["strict_fp16"]
    return list(program.predict(inputs).values())


@pytest.mark.parametrize("index", range(len(CHOSEN)), ids=[f"{i}-{case.op}" for i, case in enumerate(CHOSEN)])
def test_strict_results_stay_near_torchs(index: int, strict_results: list[np.ndarray]) -> None:
    """On values of ordinary size the strict kernel computes the same function, to half precision."""
    case = CHOSEN[index]
    expected = case.reference(**{name: torch.tensor(value) for name, value in case.inputs.items()}).numpy()
    assert np.linalg.norm(strict_results[index] - expected) < 4e-3 * np.linalg.norm(expected)
    assert (strict_results[index].astype(np.float16) == strict_results[index]).all()


def naive_product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Half-precision matrix product, written from the rule: partial sums of 64 products, rounded totals."""
    total = np.zeros((x.shape[0], y.shape[1]), np.float16)
    for start in range(0, x.shape[1], 64):
        part = x[:, start : start + 64].astype(np.float64) @ y[start : start + 64].astype(np.float64)
        with np.errstate(over="ignore"):
            total = total + part.astype(np.float16)
    return total


def test_products_round_partial_sums(tmp_path: Path) -> None:
    x, y = RNG.standard_normal((5, 300)).astype(np.float16), RNG.standard_normal((300, 7)).astype(np.float16)
    feeds = {"x": x.astype(np.float32), "y": y.astype(np.float32)}
    programs = half_program(tmp_path / "p.mlpackage", lambda mb, x, y: mb.matmul(x=x, y=y, name="z"), feeds)
    got = programs["strict_fp16"].predict(feeds)["z"]
    np.testing.assert_allclose(got, naive_product(x, y).astype(np.float32), rtol=1e-3, atol=2e-3)
    exact = x.astype(np.float64) @ y.astype(np.float64)
    error = {name: np.abs(program.predict(feeds)["z"] - exact).mean() for name, program in programs.items()}
    assert error["strict_fp16"] > 1.5 * error["fp16"]  # rounding the totals costs something


BIG = np.full((1, 4, 12, 12), 200.0, np.float32)
ROWS = np.full((1, 2, 400), 300.0, np.float32)
KERNEL = np.where(np.arange(4 * 49) % 2, -6.0, 6.0).reshape(1, 4, 7, 7).astype(np.float32)
# The result fits easily; what is added up on the way does not.
INNER_OVERFLOWS = {
    "reduce_mean": (ROWS, lambda mb, x: mb.reduce_mean(x=x, axes=[-1])),
    "avg_pool": (BIG * 3, lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[12, 12], pad_type="valid")),
    "layer_norm": (ROWS * np.sign(RNG.standard_normal(ROWS.shape)), lambda mb, x: mb.layer_norm(x=x, axes=[-1])),
    "instance_norm": (BIG * np.sign(RNG.standard_normal(BIG.shape)), lambda mb, x: mb.instance_norm(x=x)),
    "l2_norm": (BIG, lambda mb, x: mb.l2_norm(x=x)),
    "reduce_l2_norm": (ROWS, lambda mb, x: mb.reduce_l2_norm(x=x, axes=[-1])),
    "matmul": (  # 300 * 300 * 200 up, and down again
        ROWS,
        lambda mb, x: mb.matmul(x=x, y=np.repeat([[300.0], [-300.0]], 200, 0).astype(np.float32)),
    ),
    "linear": (
        ROWS,
        lambda mb, x: mb.linear(x=x, weight=np.repeat([300.0, -300.0], 200)[None].astype(np.float32)),
    ),
    "conv": (
        np.full((1, 128, 2, 2), 300.0, np.float32),
        lambda mb, x: mb.conv(x=x, weight=np.repeat([300.0, -300.0], 64).reshape(1, 128, 1, 1).astype(np.float32)),
    ),
    "conv_transpose": (
        np.full((1, 128, 2, 2), 300.0, np.float32),
        lambda mb, x: mb.conv_transpose(
            x=x, weight=np.repeat([300.0, -300.0], 64).reshape(128, 1, 1, 1).astype(np.float32)
        ),
    ),
}


@pytest.mark.parametrize("op", INNER_OVERFLOWS)
def test_sums_overflow_inside_strict_operators_only(tmp_path: Path, op: str) -> None:
    value, build = INNER_OVERFLOWS[op]
    feeds = {"x": value.astype(np.float32)}
    programs = half_program(tmp_path / "o.mlpackage", build, feeds)
    assert programs["fp16"].find_fault(feeds) is None
    fault = programs["strict_fp16"].find_fault(feeds)
    assert fault is not None and fault.op_type == op
    assert "overflow" in fault.kind


def test_a_large_total_swallows_small_terms(tmp_path: Path) -> None:
    """Beyond 2048 half precision counts in twos, beyond 4096 in fours: 64 ones at a time still arrive, ones do not."""
    x = np.ones((1, 6000), np.float32)
    x[0, 0] = 40000.0
    programs = half_program(tmp_path / "s.mlpackage", lambda mb, x: mb.reduce_sum(x=x, axes=[1], name="y"), {"x": x})
    assert programs["fp16"].predict({"x": x})["y"] == np.float16(45999)
    steps = np.float16(40063)
    for _ in range(93):
        steps = np.float16(steps + np.float16(64 if _ < 92 else 6000 - 93 * 64))
    assert programs["strict_fp16"].predict({"x": x})["y"] == steps


def test_strict_layer_norm_is_torchs_half_by_half(tmp_path: Path) -> None:
    """Fewer values than one partial sum: every step can be repeated with torch's own half-precision arithmetic."""
    x = RNG.standard_normal((3, 50)).astype(np.float16)
    feeds = {"x": x.astype(np.float32)}
    programs = half_program(
        tmp_path / "n.mlpackage", lambda mb, x: mb.layer_norm(x=x, axes=[-1], epsilon=1e-3, name="y"), feeds
    )
    half = torch.tensor(x)
    away = half - half.float().sum(-1, keepdim=True).half() / 50
    variance = (away * away).float().sum(-1, keepdim=True).half() / 50
    root = torch.rsqrt((variance + torch.tensor(1e-3).half()).float()).half()  # torch's own takes two steps
    expected = away * root
    np.testing.assert_array_equal(programs["strict_fp16"].predict(feeds)["y"], expected.float().numpy())
    exact = F.layer_norm(half.double(), (50,), eps=1e-3).numpy()
    np.testing.assert_allclose(programs["fp16"].predict(feeds)["y"], exact, rtol=2e-3, atol=1e-3)
