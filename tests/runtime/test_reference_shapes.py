"""Operator families against torch over drawn shapes, axes, broadcasts and dtypes.

Hypothesis draws lists of configurations, and each list becomes one program, saved and loaded: writing it is what costs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mil_programs import Case, run_cases  # pyright: ignore[reportMissingImports]

few = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    database=None,
    phases=[Phase.generate],  # shrinking writes hundreds of programs
)
RNG = np.random.default_rng(29)


def check_all(run_mil: Callable, cases: list[Case]) -> None:
    for index, outputs in run_cases(run_mil, cases).items():
        cases[index].check(outputs)


def array(shape: tuple[int, ...], kind: str = "normal") -> np.ndarray:
    if kind == "int32":
        return RNG.integers(1, 9, shape).astype(np.int32)
    values = RNG.standard_normal(shape).astype(np.float32)
    return np.abs(values) + np.float32(0.2) if kind == "positive" else values


def shapes(low: int = 1, high: int = 4, side: int = 5) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(1, side), min_size=low, max_size=high).map(tuple)


def listed(strategy: st.SearchStrategy[Case], count: int = 12) -> st.SearchStrategy[list[Case]]:
    return st.lists(strategy, min_size=count, max_size=count)


BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "real_div": torch.div,
    "floor_div": torch.floor_divide,
    "mod": torch.remainder,
    "pow": torch.pow,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "greater": torch.gt,
    "less_equal": torch.le,
    "not_equal": torch.ne,
}


@st.composite
def binaries(draw: st.DrawFn) -> Case:
    """Two operands that broadcast: sides of 1, and a second operand of lower rank."""
    op, kind = draw(st.sampled_from(list(BINARY))), draw(st.sampled_from(["positive", "positive", "int32"]))
    if op in ("pow", "real_div"):
        kind = "positive"  # torch divides integers to floats
    full = draw(shapes())
    thinned = [tuple(1 if draw(st.booleans()) else side for side in full) for _ in range(2)]
    second = thinned[1][draw(st.integers(0, len(full) - 1)) :]
    inputs = {"x": array(thinned[0], kind), "y": array(second, kind)}
    return Case(op, inputs, lambda x, y: BINARY[op](x, y), tolerance=1e-4)


@few
@given(listed(binaries()))
def test_elementwise_operands_broadcast(run_mil, cases: list[Case]) -> None:
    check_all(run_mil, cases)


REDUCE: dict[str, Callable] = {
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "reduce_mean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "reduce_max": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "reduce_min": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "reduce_l2_norm": lambda x, axes, keep: torch.linalg.vector_norm(x, dim=axes, keepdim=keep),
    "reduce_log_sum_exp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keepdim=keep),
}


@st.composite
def reductions(draw: st.DrawFn) -> Case:
    op, shape, keep = draw(st.sampled_from(list(REDUCE))), draw(shapes(2)), draw(st.booleans())
    axes = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape), unique=True))
    if len(axes) == len(shape):
        keep = True  # coremltools makes [1] of what would be a scalar
    signed = [axis - len(shape) if draw(st.booleans()) else axis for axis in axes]
    params = {"axes": signed, "keep_dims": keep}
    return Case(op, {"x": array(shape)}, lambda x: REDUCE[op](x, axes, keep), params=params, tolerance=1e-4)


@few
@given(listed(reductions()))
def test_reductions_over_any_axes(run_mil, cases: list[Case]) -> None:
    check_all(run_mil, cases)


@st.composite
def along_axis(draw: st.DrawFn) -> Case:
    """Softmax, cumsum, argmax, argsort, reverse, split, stack: one axis, counted from either end."""
    shape = draw(shapes(2))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    halves = shape[axis] // 2
    options: list[tuple[str, dict[str, Any], Callable]] = [
        ("softmax", {"axis": axis}, lambda x: torch.softmax(x, axis)),
        ("cumsum", {"axis": axis % len(shape)}, lambda x: x.cumsum(axis)),  # coremltools refuses -2
        ("reduce_argmax", {"axis": axis}, lambda x: x.argmax(axis)),
        ("argsort", {"axis": axis, "ascending": True}, lambda x: x.argsort(axis)),
        ("reverse", {"axes": [axis]}, lambda x: x.flip(axis)),
        ("topk", {"axis": axis, "k": 1}, lambda x: x.topk(1, axis)),
    ]
    if halves:
        sizes = [halves, shape[axis] - halves]
        options.append(("split", {"axis": axis, "split_sizes": sizes}, lambda x: x.split(sizes, axis)))
    op, params, reference = draw(st.sampled_from(options))
    return Case(op, {"x": array(shape)}, reference, params=params)


@few
@given(listed(along_axis()))
def test_operators_along_any_axis(run_mil, cases: list[Case]) -> None:
    check_all(run_mil, cases)


@st.composite
def norms(draw: st.DrawFn) -> Case:
    n, c, spatial = draw(st.integers(1, 2)), draw(st.integers(1, 6)), draw(st.integers(1, 2))
    shape = (n, c, *draw(st.tuples(*[st.integers(2, 5)] * spatial)))
    x, gamma, beta = array(shape), array((c,), "positive"), array((c,))
    affine, epsilon = draw(st.booleans()), draw(st.sampled_from([1e-5, 1e-2]))
    scale = {"gamma": gamma, "beta": beta} if affine else {}
    weight, bias = (torch.tensor(gamma), torch.tensor(beta)) if affine else (None, None)
    kind = draw(st.sampled_from(["batch_norm", "instance_norm", "layer_norm", "layer_norm over channels"]))
    if kind == "batch_norm":
        mean, variance = array((c,)), array((c,), "positive")
        stats = torch.tensor(mean), torch.tensor(variance)
        params = {"mean": mean, "variance": variance, "epsilon": epsilon, **scale}
        return Case(kind, {"x": x}, lambda x: F.batch_norm(x, *stats, weight, bias, eps=epsilon), params=params)
    if kind == "instance_norm":
        params = {"epsilon": epsilon, **scale}
        return Case(kind, {"x": x}, lambda x: F.instance_norm(x, weight=weight, bias=bias, eps=epsilon), params=params)
    if kind == "layer_norm":
        last = shape[2:]
        axes = list(range(-len(last), 0))
        params = {"axes": axes, "epsilon": epsilon}
        return Case(kind, {"x": x}, lambda x: F.layer_norm(x, last, eps=epsilon), params=params, tolerance=1e-4)
    return Case(
        "layer_norm",
        {"x": x},
        lambda x: F.layer_norm(x.movedim(1, -1), (c,), weight, bias, epsilon).movedim(-1, 1),
        params={"axes": [1], "epsilon": epsilon, **scale},
        tolerance=1e-4,
    )


@few
@given(listed(norms()))
def test_norms_over_shapes_and_axes(run_mil, cases: list[Case]) -> None:
    check_all(run_mil, cases)


@st.composite
def products(draw: st.DrawFn) -> Case:
    """Matrix products with batches that broadcast and either operand transposed."""
    n, k, m = draw(st.tuples(*[st.integers(1, 70)] * 3))
    batch = draw(shapes(0, 2, 3))
    thinned = tuple(1 if draw(st.booleans()) else side for side in batch)
    left, right = draw(st.booleans()), draw(st.booleans())
    x = array((*batch, *((k, n) if left else (n, k))))
    y = array((*thinned, *((m, k) if right else (k, m))))
    return Case(
        "matmul",
        {"x": x, "y": y},
        lambda x, y: torch.matmul(x.mT if left else x, y.mT if right else y),
        params={"transpose_x": left, "transpose_y": right},
        tolerance=2e-4,
    )


@few
@given(listed(products(), 8))
def test_matrix_products(run_mil, cases: list[Case]) -> None:
    check_all(run_mil, cases)


@st.composite
def paddings(draw: st.DrawFn) -> Case:
    shape = draw(st.tuples(*[st.integers(3, 6)] * draw(st.integers(2, 4))))
    mode = draw(st.sampled_from(["constant", "reflect", "replicate"]))
    depth = draw(st.integers(1, 2))
    pairs = [draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in range(depth)]
    numpy_mode: Any = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[mode]
    value = {"constant_val": 0.5} if mode == "constant" else {}
    widths = [(0, 0)] * (len(shape) - depth) + pairs
    fill: Any = {"constant_values": 0.5} if mode == "constant" else {}
    return Case(
        "pad",
        {"x": array(shape)},
        lambda x: torch.tensor(np.pad(x.numpy(), widths, mode=numpy_mode, **fill)),
        params={"pad": [side for pair in pairs for side in pair], "mode": mode, **value},
    )


@few
@given(listed(paddings()))
def test_paddings(run_mil, cases: list[Case]) -> None:
    check_all(run_mil, cases)


@st.composite
def picks(draw: st.DrawFn) -> Case:
    """Gather and slices along any axis, indices counted from either end."""
    shape = draw(shapes(2, 4, 6))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    side = shape[axis]
    x = array(shape)
    kind = draw(st.sampled_from(["gather", "gather_along_axis", "slice_by_size", "transpose"]))
    if kind == "gather":
        places = RNG.integers(-side, side, draw(shapes(1, 2, 4))).astype(np.int32)
        where = axis % len(shape)
        out = (*shape[:where], *places.shape, *shape[where + 1 :])
        return Case(
            kind,
            {"x": x, "indices": places},
            lambda x, indices: x.index_select(where, indices.flatten().long() % side).reshape(out),
            params={"axis": axis},
        )
    if kind == "gather_along_axis":
        wanted = list(shape)
        wanted[axis] = draw(st.integers(1, 7))
        places = RNG.integers(-side, side, wanted).astype(np.int32)
        return Case(
            kind,
            {"x": x, "indices": places},
            lambda x, indices: torch.gather(x, axis, indices.long() % side),
            params={"axis": axis},
        )
    if kind == "slice_by_size":
        begin = [draw(st.integers(0, s - 1)) for s in shape]
        size = [draw(st.sampled_from([-1, 1, s - b])) for s, b in zip(shape, begin)]
        cut = tuple(slice(b, s if w == -1 else b + w) for b, w, s in zip(begin, size, shape))
        return Case(kind, {"x": x}, lambda x: x[cut], params={"begin": begin, "size": size})
    perm = draw(st.permutations(range(len(shape))))
    return Case(kind, {"x": x}, lambda x: x.permute(perm), params={"perm": list(perm)})


@few
@given(listed(picks()))
def test_gathers_slices_and_transposes(run_mil, cases: list[Case]) -> None:
    check_all(run_mil, cases)


@st.composite
def resizes(draw: st.DrawFn) -> Case:
    c, height, width, out_height, out_width = draw(st.tuples(*[st.integers(1, 9)] * 5))
    align = draw(st.booleans())
    mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS"
    return Case(
        "resize_bilinear",
        {"x": array((1, c, height, width))},
        lambda x: F.interpolate(x, (out_height, out_width), mode="bilinear", align_corners=align),
        params={"target_size_height": out_height, "target_size_width": out_width, "sampling_mode": mode},
    )


@few
@given(listed(resizes()))
def test_bilinear_resizes(run_mil, cases: list[Case]) -> None:
    check_all(run_mil, cases)


CASTS = {"int32": torch.int32, "fp32": torch.float32, "bool": torch.bool, "int8": torch.int8, "uint8": torch.uint8}


@st.composite
def casts(draw: st.DrawFn) -> Case:
    """Between every two dtypes that iOS17 casts; values that all of them hold."""
    through, to = draw(st.tuples(st.sampled_from(list(CASTS)), st.sampled_from(["fp32", "int32", "bool"])))
    x = RNG.integers(0, 100, draw(shapes(1, 3))).astype(np.float32)
    return Case(
        "cast",
        {"x": x},
        lambda x: x.to(CASTS[through]).to(CASTS[to]),
        build=lambda mb, x: mb.cast(x=mb.cast(x=x, dtype=through), dtype=to),
        target="iOS17",
    )


@few
@given(listed(casts()))
def test_casts(run_mil, cases: list[Case]) -> None:
    check_all(run_mil, cases)
