"""Every operator of the Core ML reference executor against torch, each in a program saved to disk and loaded again.

All cases of one deployment target share one program, because writing a program costs more than all its operators.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mil_programs import Case, run_cases  # pyright: ignore[reportMissingImports]

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.1, 3.0, shape).astype(np.float32)


def inside(*shape: int) -> np.ndarray:
    """Values in (-1, 1), for inverse functions."""
    return RNG.uniform(-0.9, 0.9, shape).astype(np.float32)


def whole(low: int, high: int, *shape: int) -> np.ndarray:
    return RNG.integers(low, high, shape).astype(np.int32)


X, Y = normal(2, 3, 4, 5), normal(2, 3, 4, 5)
WHOLE = whole(-3, 4, 6, 5)
IDS, DIVISORS = whole(-9, 9, 2, 3, 4), whole(1, 5, 2, 3, 4)
MATRIX, IMAGE = normal(2, 4, 6), normal(1, 4, 6, 8)
GAMMA, BETA, MEAN, VARIANCE = positive(4), normal(4), normal(4), positive(4)
WEIGHT, BIAS = normal(7, 6), normal(7)
TIES = np.array([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.0, -0.0, 3.7]], np.float32)
ALPHA, SLOPE = positive(4), positive(4)


def unary(op: str, reference: Callable, x: np.ndarray = X, **params: Any) -> Case:
    return Case(op, {"x": x}, lambda x: reference(x), params=params)


def binary(op: str, reference: Callable, x: np.ndarray = X, y: np.ndarray = Y) -> Case:
    return Case(op, {"x": x, "y": y}, lambda x, y: reference(x, y))


def logical(op: str, reference: Callable) -> Case:
    return Case(
        op,
        {"x": X, "y": Y},
        lambda x, y: reference(x > 0, y > 0),
        build=lambda mb, x, y: getattr(mb, op)(x=mb.greater(x=x, y=0.0), y=mb.greater(x=y, y=0.0)),
    )


def on_constants(op: str, reference: Callable, **params: Any) -> Case:
    """An operator of constants alone, added to a zero input so that the program has something to do."""
    return Case(
        op,
        {"x": np.zeros(1, np.float32)},
        lambda x: reference(),
        build=lambda mb, x: mb.add(x=x, y=getattr(mb, op)(**params)),
    )


ELEMENTWISE = [
    binary("add", torch.add),
    binary("add", torch.add, X, normal(3, 1, 5)),
    binary("add", torch.add, IDS, DIVISORS),
    binary("sub", torch.sub),
    binary("mul", torch.mul, X, normal(1)),
    binary("real_div", torch.div, X, positive(2, 3, 4, 5)),
    binary("floor_div", torch.floor_divide, IDS, DIVISORS),
    binary("floor_div", torch.floor_divide, X, positive(2, 3, 4, 5)),
    binary("mod", torch.remainder, IDS, DIVISORS),
    binary("mod", torch.remainder, X, positive(2, 3, 4, 5)),
    binary("pow", torch.pow, positive(2, 3), normal(2, 3)),
    binary("maximum", torch.maximum),
    binary("minimum", torch.minimum),
    binary("equal", torch.eq, IDS, whole(-9, 9, 2, 3, 4)),
    binary("not_equal", torch.ne, IDS, whole(-9, 9, 2, 3, 4)),
    binary("greater", torch.gt),
    binary("greater_equal", torch.ge, IDS, DIVISORS),
    binary("less", torch.lt),
    binary("less_equal", torch.le, IDS, DIVISORS),
    logical("logical_and", torch.logical_and),
    logical("logical_or", torch.logical_or),
    logical("logical_xor", torch.logical_xor),
    Case("logical_not", {"x": X}, lambda x: x <= 0, build=lambda mb, x: mb.logical_not(x=mb.greater(x=x, y=0.0))),
    unary("abs", torch.abs),
    unary("acos", torch.acos, inside(3, 4)),
    unary("asin", torch.asin, inside(3, 4)),
    unary("atan", torch.atan),
    unary("atanh", torch.atanh, inside(3, 4)),
    unary("ceil", torch.ceil),
    unary("cos", torch.cos),
    unary("cosh", torch.cosh),
    unary("erf", torch.erf),
    unary("exp", torch.exp),
    unary("exp2", torch.exp2),
    unary("floor", torch.floor),
    unary("round", torch.round, TIES),
    unary("sign", torch.sign, TIES),
    unary("sin", torch.sin),
    unary("sinh", torch.sinh),
    unary("sqrt", torch.sqrt, positive(2, 3)),
    unary("square", torch.square),
    unary("tan", torch.tan, inside(3, 4)),
    unary("tanh", torch.tanh),
    unary("inverse", lambda x: 1 / (x + 0.5), positive(2, 3), epsilon=0.5),
    unary("inverse", lambda x: 1 / (x + 1e-4), positive(2, 3)),
    unary("log", lambda x: torch.log(x + 0.25), positive(2, 3), epsilon=0.25),
    unary("log", torch.log, positive(2, 3)),
    unary("rsqrt", lambda x: 1 / torch.sqrt(x + 0.125), positive(2, 3), epsilon=0.125),
    unary("clip", lambda x: x.clamp(-0.5, 0.25), alpha=-0.5, beta=0.25),
    unary("threshold", lambda x: x.clamp(min=0.3), alpha=0.3),
    unary("cast", lambda x: x.to(torch.int32), TIES, dtype="int32"),
    unary("cast", lambda x: x.float(), IDS, dtype="fp32"),
    unary("cast", lambda x: x != 0, TIES, dtype="bool"),
    unary("identity", lambda x: x),
    Case(
        "select",
        {"x": X, "y": Y},
        lambda x, y: torch.where(x > y, x, y * 2),
        build=lambda mb, x, y: mb.select(cond=mb.greater(x=x, y=y), a=x, b=mb.mul(x=y, y=2.0)),
    ),
]

ACTIVATION = [
    unary("relu", torch.relu),
    unary("relu6", F.relu6, 4 * X),
    unary("sigmoid", torch.sigmoid),
    unary("silu", F.silu),
    unary("softplus", F.softplus),
    unary("softsign", F.softsign),
    unary("gelu", F.gelu, mode="EXACT"),
    unary("gelu", lambda x: F.gelu(x, approximate="tanh"), mode="TANH_APPROXIMATION"),
    unary("gelu", lambda x: x * torch.sigmoid(1.702 * x), mode="SIGMOID_APPROXIMATION"),
    unary("softmax", lambda x: torch.softmax(x, 1), axis=1),
    unary("softmax", lambda x: torch.softmax(x, -1), axis=-1),
    unary("sigmoid_hard", lambda x: (x / 6 + 0.5).clamp(0, 1), 4 * X, alpha=1 / 6, beta=0.5),
    unary("thresholded_relu", lambda x: torch.where(x >= 0.5, x, 0.0), alpha=0.5),
    unary("thresholded_relu", lambda x: torch.where(x >= -0.5, x, 0.0), alpha=-0.5),
    unary("clamped_relu", lambda x: torch.where(x >= 0, x, 0.1 * x).clamp(max=0.7), alpha=0.1, beta=0.7),
    unary("leaky_relu", lambda x: F.leaky_relu(x, 0.2), alpha=0.2),
    unary("elu", lambda x: F.elu(x, 1.5), alpha=1.5),
    unary("prelu", lambda x: F.prelu(x, torch.tensor(ALPHA)), IMAGE, alpha=ALPHA),
    unary("linear_activation", lambda x: 2 * x + 0.5, alpha=2.0, beta=0.5),
    unary("scaled_tanh", lambda x: 1.2 * torch.tanh(0.7 * x), alpha=1.2, beta=0.7),
    unary(
        "softplus_parametric",
        lambda x: torch.tensor(ALPHA)[:, None, None] * torch.log1p(torch.exp(torch.tensor(SLOPE)[:, None, None] * x)),
        IMAGE,
        alpha=ALPHA,
        beta=SLOPE,
    ),
]

LINEAR = [
    unary("linear", lambda x: x @ torch.tensor(WEIGHT).T + torch.tensor(BIAS), MATRIX, weight=WEIGHT, bias=BIAS),
    unary("linear", lambda x: x @ torch.tensor(WEIGHT).T, MATRIX, weight=WEIGHT),
    Case("matmul", {"x": MATRIX, "y": normal(6, 3)}, lambda x, y: x @ y),
    # From iOS17 on one factor may be a constant of another dtype.
    Case(
        "matmul",
        {"y": MATRIX},
        lambda y: torch.tensor(WHOLE[:4]).T.float() @ y,
        params={"x": WHOLE[:4].T.copy()},
        target="iOS17",
    ),
    Case(
        "linear",
        {"x": MATRIX},
        lambda x: x @ torch.tensor(WHOLE).float(),
        params={"weight": WHOLE.T.copy()},
        target="iOS17",
    ),
    Case(
        "matmul", {"x": normal(2, 1, 4, 6), "y": normal(3, 5, 6)}, lambda x, y: x @ y.mT, params={"transpose_y": True}
    ),
    Case("matmul", {"x": normal(6, 4), "y": normal(2, 6, 5)}, lambda x, y: x.mT @ y, params={"transpose_x": True}),
    Case(
        "einsum",
        {"x": normal(2, 3, 4, 5), "y": normal(2, 5, 4, 6)},
        lambda x, y: torch.einsum("nchw,nwhu->nchu", x, y),
        build=lambda mb, x, y: mb.einsum(values=(x, y), equation="nchw,nwhu->nchu"),
    ),
    Case(
        "scaled_dot_product_attention",
        {
            "query": normal(1, 2, 4, 8),
            "key": normal(1, 2, 5, 8),
            "value": normal(1, 2, 5, 8),
            "attn_mask": normal(1, 1, 4, 5),
        },
        lambda query, key, value, attn_mask: torch.softmax(query @ key.mT / 8**0.5 + attn_mask, -1) @ value,
        target="iOS18",
    ),
]


def batch_norm(x: torch.Tensor) -> torch.Tensor:
    return F.batch_norm(x, *map(torch.tensor, (MEAN, VARIANCE, GAMMA, BETA)), eps=1e-3)  # pyright: ignore


REDUCE_NORM = [
    unary("reduce_sum", lambda x: x.sum((1, 3)), axes=[1, -1]),
    unary("reduce_sum", lambda x: x.sum((0, 1, 2), keepdim=True), IDS, keep_dims=True),
    unary("reduce_mean", lambda x: x.mean((2, 3), keepdim=True), axes=[2, 3], keep_dims=True),
    unary("reduce_mean", lambda x: x.mean((0, 1, 2, 3), keepdim=True), keep_dims=True),
    unary("reduce_max", lambda x: x.amax(1), axes=[1]),
    unary("reduce_min", lambda x: x.amin((0, 2), keepdim=True), axes=[0, 2], keep_dims=True),
    unary("reduce_prod", lambda x: x.prod(1).prod(2), axes=[1, 3]),
    unary("reduce_prod", lambda x: x.prod(-1, keepdim=True), axes=[-1], keep_dims=True),
    unary("reduce_l1_norm", lambda x: x.abs().sum(-1), axes=[-1]),
    unary("reduce_l2_norm", lambda x: x.square().sum((2, 3)).sqrt(), axes=[2, 3]),
    unary("reduce_log_sum", lambda x: x.sum(-1).log(), positive(2, 3), axes=[-1]),
    unary("reduce_log_sum_exp", lambda x: torch.logsumexp(x, (1, 2)), axes=[1, 2]),
    unary("reduce_sum_square", lambda x: x.square().sum(0), axes=[0]),
    unary("reduce_argmax", lambda x: x.argmax(1), axis=1),
    unary("reduce_argmin", lambda x: x.argmin(-1, keepdim=True), axis=-1, keep_dims=True),
    unary("cumsum", lambda x: x.cumsum(1), axis=1),
    unary("cumsum", lambda x: x.cumsum(1) - x, axis=1, exclusive=True),
    unary("cumsum", lambda x: x.flip(2).cumsum(2).flip(2), axis=2, reverse=True),
    unary("batch_norm", batch_norm, IMAGE, mean=MEAN, variance=VARIANCE, gamma=GAMMA, beta=BETA, epsilon=1e-3),
    unary(
        "batch_norm", batch_norm, normal(2, 4, 5), mean=MEAN, variance=VARIANCE, gamma=GAMMA, beta=BETA, epsilon=1e-3
    ),
    unary(
        "instance_norm",
        lambda x: F.instance_norm(x, weight=torch.tensor(GAMMA), bias=torch.tensor(BETA), eps=1e-3),
        IMAGE,
        gamma=GAMMA,
        beta=BETA,
        epsilon=1e-3,
    ),
    unary(
        "layer_norm",
        lambda x: F.layer_norm(x, (4,), torch.tensor(GAMMA), torch.tensor(BETA), 1e-3),
        normal(2, 3, 4),
        axes=[-1],
        gamma=GAMMA,
        beta=BETA,
        epsilon=1e-3,
    ),
    unary("layer_norm", lambda x: F.layer_norm(x, (4, 5)), axes=[2, 3]),
    unary(  # over the channels: what ConvNeXt's norm becomes
        "layer_norm",
        lambda x: F.layer_norm(x.movedim(1, -1), (4,), torch.tensor(GAMMA), torch.tensor(BETA)).movedim(-1, 1),
        IMAGE,
        axes=[1],
        gamma=GAMMA,
        beta=BETA,
    ),
    unary("l2_norm", lambda x: x / (x.square().sum((1, 2, 3), keepdim=True) + 1e-3).sqrt(), epsilon=1e-3),
    unary("local_response_norm", lambda x: F.local_response_norm(x, 3, 0.1, 0.75, 1.0), IMAGE, size=3, alpha=0.1),
    Case(  # the numbers of coremltools' own test
        "local_response_norm",
        {"x": np.array([[[1, -7], [5, -6], [-3, -5]]], np.float32)},
        lambda x: torch.tensor([[[0.99996257, -6.98716545], [4.99531746, -5.99191284], [-2.99898791, -4.99531746]]]),
        params={"size": 2},
    ),
]


def tf_space_to_depth(x: torch.Tensor) -> torch.Tensor:
    """TensorFlow's definition, cell by cell."""
    return torch.cat([x[:, :, row::2, column::2] for row in range(2) for column in range(2)], 1)


def tf_depth_to_space(x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    out = torch.zeros(n, c // 4, 2 * h, 2 * w)
    for cell, part in enumerate(x.split(c // 4, 1)):
        out[:, :, cell // 2 :: 2, cell % 2 :: 2] = part
    return out


def sliced_update(x: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[0:2, 1:5:2] = update
    return x


SHAPE = [
    unary("reshape", lambda x: x.reshape(6, 20), shape=[6, -1]),
    unary("expand_dims", lambda x: x[:, None, ..., None], normal(2, 3), axes=[1, -1]),
    unary("squeeze", lambda x: x[0, :, 0, 0], normal(1, 3, 1, 1, 2), axes=[0, 2, 3]),
    unary("flatten2d", lambda x: x.reshape(6, 20), axis=2),
    unary("transpose", lambda x: x.permute(0, 2, 3, 1), perm=[0, 2, -1, 1]),
    Case(
        "reshape_like",
        {"x": normal(6, 4), "like": normal(3, 8)},
        lambda x, like: x.reshape(3, 8),
        build=lambda mb, x, like: mb.reshape_like(x=x, ref_tensors=(like,), begins=(0,), ends=(2,), end_masks=(False,)),
    ),
    Case(
        "concat",
        {"x": X, "y": normal(2, 1, 4, 5)},
        lambda x, y: torch.cat([x, y], 1),
        build=lambda mb, x, y: mb.concat(values=[x, y], axis=1),
    ),
    Case(
        "concat",
        {"x": X, "y": Y},
        lambda x, y: torch.stack([x, y], 2).flatten(1, 2),
        build=lambda mb, x, y: mb.concat(values=[x, y], axis=1, interleave=True),
    ),
    Case(
        "concat",
        {"x": X, "y": Y},
        lambda x, y: torch.stack([x, y], 2).flatten(1, 2),
        build=lambda mb, x, y: mb.concat(values=[x, y], axis=1 - X.ndim, interleave=True),
    ),
    Case(
        "concat",
        {"x": X, "y": Y},
        lambda x, y: torch.stack([x, y], -1).flatten(-2),
        build=lambda mb, x, y: mb.concat(values=[x, y], axis=-1, interleave=True),
    ),
    unary(  # the norm of one value is 0, so the shift remains; torch refuses it
        "instance_norm",
        lambda x: torch.zeros_like(x) + torch.tensor(BETA).reshape(1, -1, 1, 1),
        IMAGE[:, :, :1, :1],
        gamma=GAMMA,
        beta=BETA,
        epsilon=1e-3,
    ),
    Case(
        "stack",
        {"x": X, "y": Y},
        lambda x, y: torch.stack([x, y], 2),
        build=lambda mb, x, y: mb.stack(values=[x, y], axis=2),
    ),
    unary("split", lambda x: x.split([1, 3], 2), split_sizes=[1, 3], axis=2),
    unary("split", lambda x: x.chunk(2, -2), num_splits=2, axis=-2),
    unary("slice_by_size", lambda x: x[1:2, 0:3, 1:4, 3:5], begin=[1, 0, 1, -2], size=[1, -1, 3, 2]),
    unary("tile", lambda x: x.repeat(2, 1, 3), normal(2, 3, 1), reps=[2, 1, 3]),
    unary("reverse", lambda x: x.flip(1, 3), axes=[1, 3]),
    unary("reverse", lambda x: x.flip(0, 1, 2, 3)),
    unary("pad", lambda x: F.pad(x, (2, 1, 0, 3), value=0.5), pad=[0, 3, 2, 1], constant_val=0.5),
    unary("pad", lambda x: F.pad(x, (2, 1, 3, 0), mode="reflect"), IMAGE, pad=[3, 0, 2, 1], mode="reflect"),
    unary("pad", lambda x: F.pad(x, (2, 1, 3, 0), mode="replicate"), IMAGE, pad=[3, 0, 2, 1], mode="replicate"),
    unary("crop", lambda x: x[..., 1:-2, 2:-1], IMAGE, crop_height=[1, 2], crop_width=[2, 1]),
    unary("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), IMAGE, upscale_factor=2),
    Case(
        "pixel_unshuffle",
        {"x": IMAGE},
        lambda x: F.pixel_unshuffle(x, 2),
        build=lambda mb, x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
    ),
    unary("space_to_depth", tf_space_to_depth, IMAGE, block_size=2),
    unary("depth_to_space", tf_depth_to_space, IMAGE, block_size=2),
    unary("sliding_windows", lambda x: torch.stack([x[:, :, i : i + 2] for i in (0, 2)], 2), axis=2, size=2, stride=2),
    unary("band_part", torch.triu, normal(2, 4, 5), lower=0, upper=-1),
    unary("band_part", lambda x: torch.tril(torch.triu(x, -1), 2), normal(2, 4, 5), lower=1, upper=2),
    on_constants("fill", lambda: torch.full((2, 3), 1.5), shape=[2, 3], value=1.5),
    on_constants("range_1d", lambda: torch.arange(1.0, 4.0, 0.5), start=1.0, end=4.0, step=0.5),
    Case(
        "fill_like",
        {"x": X},
        lambda x: torch.full_like(x, 2.5),
        build=lambda mb, x: mb.fill_like(ref_tensor=x, value=2.5),
    ),
    Case("shape", {"x": X}, lambda x: torch.tensor(x.shape), build=lambda mb, x: mb.shape(x=x)),
    Case(
        "slice_update",
        {"x": normal(3, 6), "update": normal(2, 2)},
        sliced_update,
        params={"begin": [0, 1], "end": [2, 5], "stride": [1, 2]},
        target="iOS18",
    ),
]

INDEX = whole(-3, 3, 2, 4)
SCATTER_AT = np.array([[0, 2, 2], [1, 0, 1]], np.int32)


def scattered(reduce: str, sign: float = 1.0) -> Callable:
    return lambda data, indices, updates: data.scatter_reduce(1, indices.long(), sign * updates, reduce=reduce)


def scatter_case(mode: str, reference: Callable) -> Case:
    inputs = {"data": normal(2, 4), "indices": SCATTER_AT, "updates": normal(2, 3)}
    return Case("scatter_along_axis", inputs, reference, params={"axis": 1, "mode": mode})


INDEXING = [
    Case("gather", {"x": X, "indices": INDEX}, lambda x, indices: x[:, indices.long()], params={"axis": 1}),
    Case(
        "gather",
        {"x": normal(9, 4), "indices": whole(0, 9, 1, 6)},
        lambda x, indices: x[indices.long()],
        params={"axis": 0},
    ),
    unary("gather", lambda x: x[:, 1], indices=np.int32(1), axis=1),
    Case(  # what an embedding becomes from iOS17 on
        "gather",
        {"x": normal(9, 4), "indices": whole(0, 9, 1, 6)},
        lambda x, indices: x[indices.long()],
        build=lambda mb, x, indices: mb.gather(x=x, indices=mb.cast(x=indices, dtype="int16"), axis=0),
        target="iOS17",
    ),
    Case(  # rows of a batch picked by that batch's own indices
        "gather",
        {"x": normal(2, 5, 3), "indices": whole(0, 5, 2, 4)},
        lambda x, indices: torch.stack([row[pick.long()] for row, pick in zip(x, indices)]),
        params={"axis": 1, "batch_dims": 1},
    ),
    Case(
        "gather",
        {"x": normal(2, 3, 5, 2), "indices": whole(0, 5, 2, 4)},
        lambda x, indices: torch.stack([row[:, pick.long()] for row, pick in zip(x, indices)]),
        params={"axis": 2, "batch_dims": 1},
    ),
    Case(
        "gather_along_axis",
        {"x": normal(3, 5), "indices": whole(-5, 5, 3, 2)},
        lambda x, indices: torch.gather(x, 1, indices.long() % 5),
        params={"axis": 1},
    ),
    Case(
        "gather_nd",
        {"x": normal(3, 4, 5), "indices": whole(0, 3, 6, 2)},
        lambda x, indices: x[indices[:, 0].long(), indices[:, 1].long()],
    ),
    scatter_case("add", scattered("sum")),
    scatter_case("sub", scattered("sum", -1.0)),
    scatter_case("mul", scattered("prod")),
    scatter_case("max", scattered("amax")),
    scatter_case("min", scattered("amin")),
    Case(
        "scatter_along_axis",
        {"data": normal(2, 4), "indices": np.array([[0, 2], [3, 1]], np.int32), "updates": normal(2, 2)},
        lambda data, indices, updates: data.scatter(1, indices.long(), updates),
        params={"axis": 1, "mode": "update"},
    ),
    unary("topk", lambda x: x.topk(2, 1), k=2, axis=1),
    unary("topk", lambda x: x.topk(3, -1, largest=False), k=3, axis=-1, ascending=True),
    unary("argsort", lambda x: x.argsort(-1, descending=True), axis=-1),
    unary("argsort", lambda x: x.argsort(1), axis=1, ascending=True),
    Case(
        "one_hot",
        {"indices": whole(0, 5, 2, 3)},
        lambda indices: F.one_hot(indices.long(), 5).movedim(-1, 1) * 2.0 + 1.0,
        build=lambda mb, indices: mb.one_hot(
            indices=indices, one_hot_vector_size=5, axis=1, on_value=3.0, off_value=1.0
        ),
    ),
]


def resized(size: tuple[int, int], align: bool) -> Callable:
    return lambda x: F.interpolate(x, size, mode="bilinear", align_corners=align)


def resize_case(mode: str, reference: Callable, x: np.ndarray = IMAGE, size: tuple[int, int] = (9, 5)) -> Case:
    params = {"target_size_height": size[0], "target_size_width": size[1], "sampling_mode": mode}
    return unary("resize_bilinear", reference, x, **params)


PAIR = np.array([[[0.0, 1.0]]], np.float32)  # the example of coremltools' reference: [0, 1] resized to five samples

RESIZE = [
    unary(
        "upsample_nearest_neighbor",
        lambda x: F.interpolate(x, (12, 24)),
        IMAGE,
        scale_factor_height=2,
        scale_factor_width=3,
    ),
    unary("upsample_bilinear", resized((12, 16), True), IMAGE, scale_factor_height=2, scale_factor_width=2),
    unary(
        "upsample_bilinear",
        resized((12, 24), False),
        IMAGE,
        scale_factor_height=2,
        scale_factor_width=3,
        align_corners=False,
    ),
    resize_case("STRICT_ALIGN_CORNERS", resized((9, 5), True)),
    resize_case("UNALIGN_CORNERS", resized((9, 5), False)),
    resize_case("DEFAULT", lambda x: torch.tensor([[[0.0, 0.4, 0.8, 1.0, 1.0]]]), PAIR, (1, 5)),
    resize_case("OFFSET_CORNERS", lambda x: torch.tensor([[[0.1, 0.3, 0.5, 0.7, 0.9]]]), PAIR, (1, 5)),
    resize_case("ALIGN_CORNERS", lambda x: torch.tensor([[[0.5]]]), PAIR, (1, 1)),
]

SCALE, ZERO = np.array([0.1, 0.2, 0.05, 0.3], np.float32), np.array([3, -5, 0, 7], np.int8)


def fake_quantized(x: torch.Tensor) -> torch.Tensor:
    scale, zero = torch.tensor(SCALE)[:, None, None], torch.tensor(ZERO).float()[:, None, None]
    return ((torch.round(x / scale) + zero).clamp(-128, 127) - zero) * scale


def quantize_build(mb: Any, x: Any) -> Any:
    codes = mb.quantize(input=x, scale=SCALE, zero_point=ZERO, axis=1, output_dtype="int8")
    return mb.dequantize(input=codes, scale=SCALE, zero_point=ZERO, axis=1)


QUANTIZED = [
    Case("quantize", {"x": 20 * IMAGE}, fake_quantized, build=quantize_build, target="iOS17"),
    Case(
        "dequantize",
        {"x": 20 * IMAGE},
        lambda x: torch.round(x / 0.5).clamp(0, 255) * 0.5,
        build=lambda mb, x: mb.dequantize(
            input=mb.quantize(input=x, scale=np.float32(0.5), output_dtype="uint8"), scale=np.float32(0.5)
        ),
        target="iOS17",
    ),
]

CASES = [*ELEMENTWISE, *ACTIVATION, *LINEAR, *REDUCE_NORM, *SHAPE, *INDEXING, *RESIZE, *QUANTIZED]
TESTED_ELSEWHERE = {
    "test_reference_windows.py": ["conv", "conv_transpose", "max_pool", "avg_pool", "l2_pool", "slice_by_index"],
    "test_reference_vision.py": [
        "affine",
        "batch_to_space",
        "crop_resize",
        "non_maximum_suppression",
        "resample",
        "resize",
        "reverse_sequence",
        "scatter",
        "scatter_nd",
        "space_to_batch",
    ],
    "test_reference_recurrent.py": ["gru", "lstm", "rnn"],
    "test_reference_resize.py": ["resize_nearest_neighbor"],
    "test_reference_flexible.py": ["non_zero"],
    "test_reference_interface.py": ["classify"],
    "test_reference_states.py": ["read_state", "coreml_update_state"],
}


@pytest.fixture(scope="module")
def results(run_mil) -> dict[int, list[np.ndarray]]:
    return run_cases(run_mil, CASES)


@pytest.mark.parametrize("index", range(len(CASES)), ids=[f"{index}-{case.op}" for index, case in enumerate(CASES)])
def test_operator_agrees_with_torch(index: int, results: dict[int, list[np.ndarray]]) -> None:
    CASES[index].check(results[index])


def test_every_operator_has_a_case() -> None:
    from edgevl.runtime.coreml_reference.ops import operators

    here = {case.op for case in CASES}
    for name, elsewhere in TESTED_ELSEWHERE.items():
        text = (Path(__file__).parent / name).read_text(encoding="utf-8")
        assert [op for op in elsewhere if f"mb.{op}(" not in text and f'"{op}"' not in text] == [], name
        here |= set(elsewhere)
    assert set(operators()) == here
