"""Convolution, pooling and slicing against plain NumPy, over shapes, strides, dilations, groups and paddings.

Hypothesis draws lists of configurations; each list becomes one program, because writing a program is what costs.
"""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

few = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    database=None,
    phases=[Phase.generate],  # shrinking writes hundreds of programs
)
RNG = np.random.default_rng(3)


def same_pads(side: int, kernel: int, stride: int, dilation: int, lower: bool) -> tuple[int, int]:
    """TensorFlow's SAME padding (https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2)."""
    reach = (kernel - 1) * dilation + 1
    total = max(reach - stride, 0) if side % stride == 0 else max(reach - side % stride, 0)
    return (total - total // 2, total // 2) if lower else (total // 2, total - total // 2)


def pads_of(config: dict[str, Any], sides: tuple[int, ...], kernel: tuple[int, ...]) -> list[tuple[int, int]]:
    kind = config["pad_type"]
    if kind == "custom":
        return [tuple(config["pad"][2 * i : 2 * i + 2]) for i in range(len(sides))]
    if kind == "valid":
        return [(0, 0)] * len(sides)
    dims = zip(sides, kernel, config["strides"], config.get("dilations", [1] * len(sides)))
    return [same_pads(*dim, lower=kind == "same_lower") for dim in dims]


def windows(x: np.ndarray, kernel: tuple[int, ...], strides: list[int], dilations: list[int]) -> np.ndarray:
    """[N, C, *sides] to [N, C, *outputs, *kernel], cell by cell of the kernel."""
    sides = x.shape[2:]
    outs = [(side - (k - 1) * d - 1) // s + 1 for side, k, s, d in zip(sides, kernel, strides, dilations)]
    result = np.empty((*x.shape[:2], *outs, *kernel), x.dtype)
    for cell in itertools.product(*map(range, kernel)):
        take = tuple(slice(c * d, c * d + (o - 1) * s + 1, s) for c, d, o, s in zip(cell, dilations, outs, strides))
        result[(..., *cell)] = x[(slice(None), slice(None), *take)]
    return result


def numpy_conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    rank, groups = x.ndim - 2, config["groups"]
    padded = np.pad(x, [(0, 0), (0, 0), *pads_of(config, x.shape[2:], weight.shape[2:])])
    cells = windows(padded, weight.shape[2:], config["strides"], config["dilations"])
    parts = [
        np.tensordot(c, w, axes=([1, *range(2 + rank, 2 + 2 * rank)], list(range(1, 2 + rank))))
        for c, w in zip(np.split(cells, groups, 1), np.split(weight, groups, 0))
    ]
    return np.moveaxis(np.concatenate(parts, -1) + bias, -1, 1)


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    rank = draw(st.sampled_from([1, 2, 2, 2, 3]))
    groups, per_group_in, per_group_out = draw(st.sampled_from([(1, 3, 4), (2, 2, 3), (4, 1, 1), (3, 1, 2)]))
    kernel = tuple(draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank)))
    dilations = draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))
    return {
        "shape": (draw(st.integers(1, 2)), groups * per_group_in, *draw(st.tuples(*[st.integers(7, 10)] * rank))),
        "weight": (groups * per_group_out, per_group_in, *kernel),
        "strides": draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank)),
        "dilations": dilations,
        "groups": groups,
        "pad_type": draw(st.sampled_from(["valid", "custom", "same", "same_lower"])),
        "pad": draw(st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank)),
    }


def mil_params(config: dict[str, Any], *names: str) -> dict[str, Any]:
    params = {name: config[name] for name in (*names, "strides", "pad_type")}
    return {**params, "pad": config["pad"]} if config["pad_type"] == "custom" else params


@few
@given(st.lists(convolutions(), min_size=10, max_size=10))
def test_conv(run_mil, configs: list[dict[str, Any]]) -> None:
    inputs = {f"x{i}": RNG.standard_normal(config["shape"]).astype(np.float32) for i, config in enumerate(configs)}
    weights = [RNG.standard_normal(config["weight"]).astype(np.float32) for config in configs]
    biases = [RNG.standard_normal(weight.shape[0]).astype(np.float32) for weight in weights]

    def build(mb, *xs):
        return tuple(
            mb.conv(x=x, weight=weight, bias=bias, **mil_params(config, "dilations", "groups"))
            for x, weight, bias, config in zip(xs, weights, biases, configs)
        )

    for got, x, weight, bias, config in zip(run_mil(build, inputs), inputs.values(), weights, biases, configs):
        np.testing.assert_allclose(got, numpy_conv(x, weight, bias, config), rtol=1e-4, atol=1e-4, err_msg=str(config))


@st.composite
def poolings(draw: st.DrawFn) -> dict[str, Any]:
    rank = draw(st.sampled_from([1, 2, 2]))
    kernel = draw(st.lists(st.integers(2, 4), min_size=rank, max_size=rank))
    return {
        "shape": (1, 2, *draw(st.tuples(*[st.integers(6, 11)] * rank))),
        "kernel_sizes": kernel,
        "strides": draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank)),
        "pad_type": draw(st.sampled_from(["valid", "custom", "same", "same_lower"])),
        "pad": [draw(st.integers(0, k // 2)) for k in kernel for _ in range(2)],
        "exclude_padding_from_average": draw(st.booleans()),
    }


def numpy_pool(x: np.ndarray, config: dict[str, Any], average: bool) -> np.ndarray:
    kernel, ones = tuple(config["kernel_sizes"]), [1] * (x.ndim - 2)
    pads = [(0, 0), (0, 0), *pads_of(config, x.shape[2:], kernel)]
    axes = tuple(range(-len(kernel), 0))
    cells = windows(np.pad(x, pads, constant_values=0 if average else -np.inf), kernel, config["strides"], ones)
    if not average:
        return cells.max(axes)
    counted = np.pad(np.ones_like(x), pads, constant_values=0 if config["exclude_padding_from_average"] else 1)
    return cells.sum(axes) / windows(counted, kernel, config["strides"], ones).sum(axes)


@few
@given(st.lists(poolings(), min_size=10, max_size=10))
def test_max_and_average_pool(run_mil, configs: list[dict[str, Any]]) -> None:
    inputs = {f"x{i}": RNG.standard_normal(config["shape"]).astype(np.float32) for i, config in enumerate(configs)}

    def build(mb, *xs):
        outputs = []
        for x, config in zip(xs, configs):
            outputs.append(mb.max_pool(x=x, **mil_params(config, "kernel_sizes")))
            outputs.append(mb.avg_pool(x=x, **mil_params(config, "kernel_sizes", "exclude_padding_from_average")))
        return tuple(outputs)

    results = iter(run_mil(build, inputs))
    for x, config in zip(inputs.values(), configs):
        for average in (False, True):
            expected = numpy_pool(x, config, average)
            np.testing.assert_allclose(next(results), expected, rtol=1e-5, atol=1e-5, err_msg=f"{average} {config}")


@pytest.mark.parametrize("side", [7, 8, 9])
def test_ceil_mode_is_torchs(run_mil, side: int) -> None:
    """`ceil_mode` lets the last window hang over the padded input; what hangs over never counts in an average."""
    x = RNG.standard_normal((1, 2, side, side + 1)).astype(np.float32)
    params = {"kernel_sizes": [3, 3], "strides": [2, 2], "pad_type": "custom", "pad": [1, 1, 1, 1], "ceil_mode": True}

    def build(mb, x):
        return (
            mb.max_pool(x=x, **params),
            mb.avg_pool(x=x, **params),
            mb.avg_pool(x=x, **params, exclude_padding_from_average=True),
            mb.avg_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid", ceil_mode=True),
        )

    tensor = torch.tensor(x)
    expected = (
        F.max_pool2d(tensor, 3, 2, 1, ceil_mode=True),
        F.avg_pool2d(tensor, 3, 2, 1, ceil_mode=True),
        F.avg_pool2d(tensor, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        F.avg_pool2d(tensor, 2, 2, 0, ceil_mode=True),
    )
    for got, want in zip(run_mil(build, {"x": x}), expected):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-5)


def test_l2_pool(run_mil) -> None:
    x = RNG.standard_normal((1, 2, 6, 6)).astype(np.float32)
    (got,) = run_mil(lambda mb, x: mb.l2_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid"), {"x": x})
    np.testing.assert_allclose(got, F.lp_pool2d(torch.tensor(x), 2.0, 2).numpy(), rtol=1e-5)


def test_conv_transpose_is_torchs(run_mil) -> None:
    x = RNG.standard_normal((1, 4, 5, 6)).astype(np.float32)
    weight = RNG.standard_normal((4, 3, 3, 4)).astype(np.float32)
    grouped = RNG.standard_normal((4, 2, 3, 3)).astype(np.float32)
    bias = RNG.standard_normal(3).astype(np.float32)

    def build(mb, x):
        return (
            mb.conv_transpose(x=x, weight=weight, bias=bias, strides=[2, 2], pad_type="valid"),
            mb.conv_transpose(x=x, weight=weight, strides=[2, 3], pad_type="custom", pad=[1, 1, 2, 2]),
            mb.conv_transpose(x=x, weight=grouped, strides=[1, 1], dilations=[2, 1], groups=2, pad_type="valid"),
            mb.conv_transpose(  # output_padding of torch: a larger output asked for
                x=x,
                weight=grouped,
                strides=[2, 2],
                groups=2,
                pad_type="custom",
                pad=[1, 1, 1, 1],
                output_shape=[1, 4, 10, 12],
            ),
        )

    tensor, w, g = torch.tensor(x), torch.tensor(weight), torch.tensor(grouped)
    expected = (
        F.conv_transpose2d(tensor, w, torch.tensor(bias), stride=2),
        F.conv_transpose2d(tensor, w, stride=(2, 3), padding=(1, 2)),
        F.conv_transpose2d(tensor, g, dilation=(2, 1), groups=2),
        F.conv_transpose2d(tensor, g, stride=2, padding=1, output_padding=1, groups=2),
    )
    for got, want in zip(run_mil(build, {"x": x}), expected):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-4)


@st.composite
def slices(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(st.lists(st.integers(4, 6), min_size=1, max_size=4))
    picks: dict[str, list] = {
        "begin": [],
        "end": [],
        "stride": [],
        "begin_mask": [],
        "end_mask": [],
        "squeeze_mask": [],
    }
    for side in shape:
        stride = draw(st.sampled_from([1, 2, -1, -2]))
        begin, end = draw(st.integers(0, 1)), draw(st.integers(side - 2, side))
        if stride < 0:
            begin, end = draw(st.integers(side - 2, side - 1)), draw(st.integers(0, 1))
        single = draw(st.booleans()) and draw(st.booleans()) and len(shape) > 1 and not any(picks["squeeze_mask"])
        negative = draw(st.booleans()) and begin > 0
        picks["begin"].append(begin - side if negative else begin)
        picks["end"].append(end)
        picks["stride"].append(1 if single else stride)
        picks["begin_mask"].append(not single and draw(st.booleans()))
        picks["end_mask"].append(not single and draw(st.booleans()))
        picks["squeeze_mask"].append(single)
    return {"shape": shape, **picks}


def numpy_slice(x: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    names = ("begin", "end", "stride", "begin_mask", "end_mask", "squeeze_mask")
    index = [
        begin if single else slice(None if open_begin else begin, None if open_end else end, stride)
        for begin, end, stride, open_begin, open_end, single in zip(*(config[name] for name in names))
    ]
    return x[tuple(index)]


@few
@given(st.lists(slices(), min_size=12, max_size=12))
def test_slice_by_index(run_mil, configs: list[dict[str, Any]]) -> None:
    inputs = {
        f"x{i}": np.arange(math.prod(config["shape"]), dtype=np.float32).reshape(config["shape"])
        for i, config in enumerate(configs)
    }

    def build(mb, *xs):
        return tuple(
            mb.slice_by_index(x=x, **{name: value for name, value in config.items() if name != "shape"})
            for x, config in zip(xs, configs)
        )

    for got, x, config in zip(run_mil(build, inputs), inputs.values(), configs):
        np.testing.assert_array_equal(got, numpy_slice(x, config), err_msg=str(config))
