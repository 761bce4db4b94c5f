"""What Core ML's documentation leaves open: questions, each a small program, with the answers that are possible.

The executor has to choose one of them, or refuses the program. Only a Mac can say which is right: see `mac.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
Build = Callable[[Any], Callable[..., Any]]  # coremltools' Builder to a function of the inputs that gives output "y"


@dataclass(frozen=True)
class Question:
    """One program, its inputs, and what it may give."""

    text: str
    build: Build
    inputs: Mapping[str, Array]
    answers: Mapping[str, Any]  # in words: an array (of what is nan nothing is asked), or a label
    ours: str | None  # which of them the executor gives; None: it refuses the program
    target: str = "iOS17"
    half: bool = False  # a half-precision program?
    kind: str = "arrays"  # or image (its output is one), classifier


def _row(*values: float, dtype: type = np.float32) -> Array:
    return np.array([values], dtype)


def _cells(picks: Array, side: int) -> Array:
    """A row of `side` cells, seen at the given cells."""
    return np.arange(side, dtype=np.float32)[picks].reshape(1, 1, 1, -1)


def _width(side: int) -> dict[str, Array]:
    return {"x": np.arange(side, dtype=np.float32).reshape(1, 1, 1, side)}


def _ints(*values: int) -> Array:
    return np.array(values, np.int32)


def _upsampled(mb: Any, x: Any, factor: float) -> Any:
    height, width = np.float32(1), np.float32(factor)
    return mb.upsample_nearest_neighbor(x=x, scale_factor_height=height, scale_factor_width=width, name="y")


_SAMPLES = np.arange(25)
_TIES = np.array([0, 1, 1, 2, 2, 3, 3])  # 4 cells at 7 points 0, 0.5, 1, ...: each tie goes up
_NORM = np.array([1.0, 2.0, 4.0, 8.0], np.float32)
_PIXELS = np.array([0, 1, 2, 3, 6, 10, 206, 255], np.uint8).reshape(1, 1, 8, 1)
_EXACT = _PIXELS * np.float32(1.25) - 2  # -2, -0.75, 0.5, 1.75, 5.5, 10.5, 255.5, 316.75


def _lrn(before: int, after: int, over: int = 0) -> Array:
    padded = np.pad(np.square(_NORM), (before, after))
    sums = np.array([padded[i : i + before + after + 1].sum() for i in range(len(_NORM))])
    return (_NORM / (1 + sums / (over or before + after + 1)) ** 0.75).reshape(1, -1, 1, 1)


QUESTIONS: dict[str, Question] = {
    "nearest-factor": Question(
        "upsample_nearest_neighbor by 1.7, 11 cells to 18: the file's factor, or the ratio of the sizes?",
        lambda mb: lambda x: _upsampled(mb, x, 1.7),
        _width(11),
        {
            "the file's factor": _cells((np.arange(18) / 1.7).astype(int), 11),
            "the ratio of the sizes": _cells(np.arange(18) * 11 // 18, 11),
        },
        "the file's factor",
        "iOS15",
    ),
    "nearest-factor-of-a-size": Question(
        "upsample_nearest_neighbor by 2.50001, which the converters write for 10 cells to 25: is 2.5 meant?",
        lambda mb: lambda x: _upsampled(mb, x, 2.50001),
        _width(10),
        {"the size": _cells(_SAMPLES * 10 // 25, 10), "the factor": _cells((_SAMPLES / 2.50001).astype(int), 10)},
        "the size",
        "iOS15",
    ),
    "nearest-size": Question(
        "resize_nearest_neighbor of 10 cells to 25: the cell of a sample's center, or of its left edge?",
        lambda mb: lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=1, target_size_width=25, name="y"),
        _width(10),
        {"the center": _cells((2 * _SAMPLES + 1) * 10 // 50, 10), "the edge": _cells(_SAMPLES * 10 // 25, 10)},
        "the center",
        "iOS15",
    ),
    "nearest-one-sample": Question(
        "resize_nearest_neighbor of 5 cells to 1: the first or the middle one?",
        lambda mb: lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=1, target_size_width=1, name="y"),
        _width(5),
        {"the first": _cells(np.array([0]), 5), "the middle": _cells(np.array([2]), 5)},
        "the first",
        "iOS15",
    ),
    "nearest-aligned": Question(
        "resize, NEAREST_NEIGHBOR with STRICT_ALIGN_CORNERS, 4 cells to 7: where do samples between two cells go?",
        lambda mb: (
            lambda x: mb.resize(
                x=x,
                shape=[1, 7],
                resized_dims=np.uint32(2),
                interpolation_mode="NEAREST_NEIGHBOR",
                sampling_mode="STRICT_ALIGN_CORNERS",
                name="y",
            )
        ),
        _width(4),
        {
            "up": _cells(_TIES, 4),
            "down": _cells(np.arange(7) // 2, 4),
            "to even": _cells(np.rint(np.arange(7) / 2).astype(int), 4),
        },
        None,
    ),
    "image-rounding": Question(
        "an image output: how are fractions rounded, and what is below 0 or above 255?",
        lambda mb: lambda x: mb.sub(x=mb.mul(x=x, y=np.float32(1.25)), y=np.float32(2.0), name="y"),
        {"x": _PIXELS},
        {
            "nearest, ties to even, kept in 0..255": np.rint(_EXACT).clip(0, 255),
            "nearest, ties up, kept in 0..255": np.floor(_EXACT + 0.5).clip(0, 255),
            "cut off, kept in 0..255": np.trunc(_EXACT).clip(0, 255),
        },
        "nearest, ties to even, kept in 0..255",
        "iOS16",
        kind="image",
    ),
    "mean-of-integers": Question(
        "reduce_mean of int32 pairs (1, 2), (-1, -2), (3, 4): cut off, rounded down or to the nearest?",
        lambda mb: lambda x: mb.reduce_mean(x=x, axes=[1], name="y"),
        {"x": np.array([[1, 2], [-1, -2], [3, 4]], np.int32)},
        {"cut off": _ints(1, -1, 3), "down": _ints(1, -2, 3), "nearest, ties to even": _ints(2, -2, 4)},
        "cut off",
    ),
    "integer-division": Question(
        "real_div of int32 7 / 2 and -7 / 2: cut off or rounded down?",
        lambda mb: lambda x: mb.real_div(x=x, y=_ints(2, 2), name="y"),
        {"x": _ints(7, -7)},
        {"cut off": _ints(3, -3), "down": _ints(3, -4)},
        "cut off",
    ),
    "integer-floor-division": Question(
        "floor_div of int32 -7 / 2 and 7 / -2",
        lambda mb: lambda x: mb.floor_div(x=x, y=_ints(2, -2), name="y"),
        {"x": _ints(-7, 7)},
        {"down": _ints(-4, -4), "cut off": _ints(-3, -3)},
        "down",
    ),
    "integer-remainder": Question(
        "mod of int32 -7 by 2 and 7 by -2: the divisor's sign or the dividend's?",
        lambda mb: lambda x: mb.mod(x=x, y=_ints(2, -2), name="y"),
        {"x": _ints(-7, 7)},
        {"the divisor's": _ints(1, -1), "the dividend's": _ints(-1, 1)},
        "the divisor's",
    ),
    "cast-to-16-bits": Question(
        "cast of int32 40000, -40000 and 70000 to int16 and back, as the converters do with token ids",
        lambda mb: lambda x: mb.cast(x=mb.cast(x=x, dtype="int16"), dtype="int32", name="y"),
        {"x": _ints(40000, -40000, 70000)},
        {"wraps around": _ints(-25536, 25536, 4464), "saturates": _ints(32767, -32768, 32767)},
        "wraps around",
    ),
    "round-ties": Question(
        "round of 0.5, 1.5, 2.5 and -0.5",
        lambda mb: lambda x: mb.round(x=x, name="y"),
        {"x": _row(0.5, 1.5, 2.5, -0.5)},
        {"to even": _row(0, 2, 2, 0), "away from zero": _row(1, 2, 3, -1)},
        "to even",
        "iOS15",
    ),
    "argmax-ties": Question(
        "reduce_argmax of 1, 3, 3, 2",
        lambda mb: lambda x: mb.reduce_argmax(x=x, axis=1, keep_dims=True, name="y"),
        {"x": _row(1, 3, 3, 2)},
        {"the first": _row(1, dtype=np.int32), "the last": _row(2, dtype=np.int32)},
        "the first",
        "iOS15",
    ),
    "maximum-of-nan": Question(
        "maximum of 1 and what is no number (0 / 0)",
        lambda mb: (
            lambda x: mb.select(
                cond=mb.equal(x=mb.maximum(x=mb.real_div(x=x, y=x), y=np.float32(1)), y=np.float32(1)),
                a=np.float32(1),
                b=np.float32(0),
                name="y",
            )
        ),
        {"x": _row(0)},
        {"no number": _row(0), "1": _row(1)},
        "no number",
        "iOS15",
    ),
    "scatter-twice": Question(
        "scatter_along_axis, update, of 5 and 7 to one place",
        lambda mb: (
            lambda x: mb.scatter_along_axis(
                data=x, indices=_ints(1, 1).reshape(1, 2), updates=_row(5, 7), axis=1, mode="update", name="y"
            )
        ),
        {"x": _row(0, 0, 0)},
        {"the last": _row(0, 7, 0), "the first": _row(0, 5, 0)},
        "the last",
    ),
    "gather-outside": Question(
        "gather of place 4 in a row of 3: what lies outside?",
        lambda mb: lambda x, i: mb.gather(x=x, indices=i, axis=1, name="y"),
        {"x": _row(1, 2, 3), "i": _ints(4)},
        {"zero": _row(0), "the last entry": _row(3), "the entry at 4 modulo 3": _row(2)},
        None,
    ),
    "slice-outside": Question(
        "slice_by_size of 2 entries from a computed begin of 2 in a row of 3",
        lambda mb: (
            lambda x, i: mb.slice_by_size(
                x=x, begin=mb.concat(values=[_ints(0), i], axis=0), size=_ints(1, 2), name="y"
            )
        ),
        {"x": _row(1, 2, 3), "i": _ints(2)},
        {"moved back inside": _row(2, 3), "zeros": _row(3, 0)},
        None,
    ),
    "local-response-even": Question(
        "local_response_norm of size 2: the channel before, the one after, or neither?",
        lambda mb: lambda x: mb.local_response_norm(x=x, size=2, alpha=1.0, beta=0.75, k=1.0, name="y"),
        {"x": _NORM.reshape(1, -1, 1, 1)},
        {"before": _lrn(1, 0), "after": _lrn(0, 1), "neither": _lrn(0, 0, over=2)},
        "neither",
        "iOS15",
    ),
    "half-sums": Question(
        "reduce_mean of 400 times 300 in half precision, whose sum passes 65504",
        lambda mb: lambda x: mb.reduce_mean(x=x, axes=[1], keep_dims=True, name="y"),
        {"x": np.full((1, 400), 300, np.float32)},
        {"added in more than half precision": _row(300), "overflows": _row(np.inf)},
        "added in more than half precision",
        half=True,
    ),
    "half-squares": Question(
        "layer_norm of 400 values of +-300 in half precision: their squares pass 65504",
        lambda mb: lambda x: mb.layer_norm(x=x, axes=[1], epsilon=1e-5, name="y"),
        {"x": np.where(np.arange(400) % 2, 300, -300).astype(np.float32)[None]},
        {
            "computed in more than half precision": np.where(np.arange(400) % 2, 1.0, -1.0)[None],
            "overflows to 0": np.zeros((1, 400)),
        },
        "computed in more than half precision",
        half=True,
    ),
    "half-subnormals": Question(
        "2^-12 times 2^-12 in half precision, which is a subnormal number, times 2^14",
        lambda mb: lambda x: mb.mul(x=mb.mul(x=mb.mul(x=x, y=x), y=np.float32(2**7)), y=np.float32(2**7), name="y"),
        {"x": _row(2.0**-12)},
        {"kept": _row(2.0**-10), "flushed to 0": _row(0)},
        "kept",
        half=True,
    ),
    "classifier-tie": Question(
        "a classifier whose two best classes have the same probability",
        lambda mb: lambda x: mb.softmax(x=x, axis=-1, name="y"),
        {"x": _row(0, 2, 2)},
        {"the first": "b", "the last": "c"},
        "the first",
        "iOS16",
        kind="classifier",
    ),
}
LABELS = ["a", "b", "c"]  # of the classifier
