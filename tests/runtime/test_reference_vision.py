"""Operators of detectors and of pictures: suppression, crops, resampling, resizing, scatter, blocks.

Where torch has the operator it is the reference. Elsewhere the numbers are worked out by hand from the MIL reference.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from mil_programs import Case, run_cases  # pyright: ignore[reportMissingImports]

RNG = np.random.default_rng(17)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


GRID = RNG.uniform(-1.3, 1.3, (2, 5, 4, 2)).astype(np.float32)
PICTURE = normal(2, 3, 6, 7)
COUNT16 = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)


def resample_case(padding: str, mode: str, align: bool, torch_padding: str) -> Case:
    return Case(
        "resample",
        {"x": PICTURE, "coordinates": GRID},
        lambda x, coordinates: F.grid_sample(x, coordinates, mode, torch_padding, align_corners=align),
        params={
            "sampling_mode": mode,
            "padding_mode": padding,
            "padding_value": 0.0,
            "coordinates_mode": "normalized_minus_one_to_one",
            "align_corners": align,
        },
    )


def pixel_resample_case(value: float) -> Case:
    """Pixel coordinates, and a padding of its own: what is outside counts as `value`."""
    places = RNG.uniform(-2, 8, (2, 3, 4, 2)).astype(np.float32)

    def reference(x: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
        grid = coordinates / torch.tensor([6.0, 5.0]) * 2 - 1
        return F.grid_sample(x - value, grid, align_corners=True) + value

    params = {"sampling_mode": "bilinear", "padding_mode": "constant", "padding_value": value}
    return Case(
        "resample",
        {"x": PICTURE, "coordinates": places},
        reference,
        params={**params, "coordinates_mode": "unnormalized", "align_corners": True},
    )


RESAMPLE = [
    resample_case("constant", "bilinear", True, "zeros"),
    resample_case("constant", "bilinear", False, "zeros"),
    resample_case("border", "bilinear", True, "border"),
    resample_case("border", "nearest", False, "border"),
    resample_case("reflection", "bilinear", True, "reflection"),
    resample_case("symmetric", "bilinear", False, "reflection"),
    pixel_resample_case(0.0),
    pixel_resample_case(2.5),
    Case(
        "affine",
        {"x": PICTURE, "transform_matrix": np.array([[0.8, 0.1, -0.2, -0.3, 1.1, 0.1]], np.float32)},
        lambda x, transform_matrix: F.grid_sample(
            x,
            F.affine_grid(transform_matrix.reshape(1, 2, 3).expand(2, 2, 3), [2, 3, 4, 5], align_corners=True),
            align_corners=True,
        ),
        params={
            "output_height": 4,
            "output_width": 5,
            "sampling_mode": "bilinear",
            "padding_mode": "constant",
            "padding_value": 0.0,
            "coordinates_mode": "normalized_minus_one_to_one",
            "align_corners": True,
        },
    ),
]


def crop_case(expected: Any, boxes: list, target: str = "iOS16", x: np.ndarray = COUNT16, **params: Any) -> Case:
    array = np.array(boxes, np.float32)
    named = {"boxes": array} if target == "iOS17" else {"roi": array[:, None, :, None, None]}
    return Case(
        "crop_resize",
        {"x": x},
        lambda x: expected(x) if callable(expected) else torch.tensor(expected),
        build=lambda mb, x: mb.crop_resize(x=x, **named, **params),
        target=target,
        tolerance=1e-4,
    )


def roi_align(x: torch.Tensor) -> torch.Tensor:
    """torchvision's RoI align takes one sample at the center of each bin, as OFFSET_CORNERS does."""
    boxes = torch.tensor([[0, 0.5, 1.0, 4.5, 3.0], [1, 1.0, 0.0, 5.0, 4.4]])  # picture, x1, y1, x2, y2
    return torchvision.ops.roi_align(x, boxes, (3, 2), sampling_ratio=1, aligned=False)


INNER = [[6, 7], [10, 11]]
CROPS = [
    crop_case([[[INNER]]], [[1, 1, 2, 2]], target_height=2, target_width=2, sampling_mode="ALIGN_CORNERS"),
    crop_case([[[[[8.5]]]]], [[1, 1, 2, 2]], target_height=1, target_width=1, sampling_mode="ALIGN_CORNERS"),
    crop_case([[[[[11, 10], [7, 6]]]]], [[2, 2, 1, 1]], target_height=2, target_width=2, sampling_mode="ALIGN_CORNERS"),
    crop_case(  # five numbers: the picture's index first; coordinates as parts of the sides
        [[[[[1, 2], [5, 6]]]]],
        [[0, 0, 0, 1 / 3, 1 / 3]],
        target_height=2,
        target_width=2,
        normalized_coordinates=True,
        sampling_mode="STRICT_ALIGN_CORNERS",
    ),
    crop_case(
        [[INNER]],
        [[1.5, 1.5, 1, 1]],
        target="iOS17",
        target_height=2,
        target_width=2,
        sampling_mode="ALIGN_CORNERS",
        box_coordinate_mode="CENTER_SIZE_WIDTH_FIRST",
    ),
    crop_case(  # beyond the picture: the padding value, not the border's
        [[[[3.1, 5.2], [10, 10]]], [[[10, 7.9], [10, 13.9]]], [[[2.2, 3.1], [9.4, 10.3]]]],
        [[0.1, 0.3, 1.3, 1.0], [0.5, 1.8, 1.0, 0.3], [0.0, 0.4, 0.6, 0.7]],
        target="iOS17",
        box_indices=np.zeros(3, np.int32),
        target_height=2,
        target_width=2,
        normalized_coordinates=True,
        sampling_mode="ALIGN_CORNERS",
        pad_value=10.0,
    ),
    crop_case(
        roi_align,
        [[1.0, 0.5, 3.0, 4.5], [0.0, 1.0, 4.4, 5.0]],
        target="iOS17",
        x=PICTURE,
        box_indices=np.array([0, 1], np.int32),
        target_height=3,
        target_width=2,
        sampling_mode="OFFSET_CORNERS",
    ),
    crop_case(  # the whole picture: the same as resizing it
        lambda x: F.interpolate(x, (8, 3), mode="bilinear", align_corners=False),
        [[0, 0, 5, 6], [0, 0, 5, 6]],
        target="iOS17",
        x=PICTURE,
        target_height=8,
        target_width=3,
        sampling_mode="UNALIGN_CORNERS",
    ),
    crop_case([[[[[1, 3]]]]], [[0, 0, 0, 3]], target_height=1, target_width=2),  # DEFAULT: spacing 4 / 2 from the start
]

RESIZE = [
    Case(
        "resize",
        {"x": PICTURE},
        lambda x: F.interpolate(x, (9, 4), mode="bilinear"),
        params={"shape": [9, 4], "resized_dims": np.uint32(2), "sampling_mode": "UNALIGN_CORNERS"},
        target="iOS17",
    ),
    Case(  # a side of 0 keeps the input's
        "resize",
        {"x": PICTURE},
        lambda x: F.interpolate(x, (6, 14)),
        params={"shape": [5, 0, 14], "resized_dims": np.uint32(2), "interpolation_mode": "NEAREST_NEIGHBOR"},
        target="iOS17",
    ),
    Case(
        "resize",
        {"x": normal(2, 3, 4, 5, 6)},
        lambda x: F.interpolate(x, (8, 3, 6), mode="trilinear", align_corners=True),
        params={"shape": [8, 3, 6], "resized_dims": np.uint32(3), "sampling_mode": "STRICT_ALIGN_CORNERS"},
        target="iOS17",
    ),
]

SCATTER = {
    "update": lambda data, index, source: data.index_copy(1, index, source),
    "add": lambda data, index, source: data.index_add(1, index, source),
    "sub": lambda data, index, source: data.index_add(1, index, source, alpha=-1),
    "mul": lambda data, index, source: data.index_reduce(1, index, source, "prod"),
    "div": lambda data, index, source: data / torch.ones_like(data).index_reduce(1, index, source, "prod"),
    "max": lambda data, index, source: data.index_reduce(1, index, source, "amax"),
    "min": lambda data, index, source: data.index_reduce(1, index, source, "amin"),
}


def scatter_case(mode: str) -> Case:
    places = np.array([2, 0, -1] if mode == "update" else [2, 0, 2], np.int32)
    inputs = {"data": normal(2, 4, 3), "indices": places, "updates": normal(2, 3, 3)}
    return Case(
        "scatter",
        inputs,
        lambda data, indices, updates: SCATTER[mode](data, indices.long() % 4, updates),
        params={"axis": 1, "mode": mode},
    )


def scattered_nd(data: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
    places = tuple(indices.long().unbind(-1))
    return data.index_put(places, updates, accumulate=True)


SCATTERS = [
    *map(scatter_case, SCATTER),
    Case(
        "scatter_nd",
        {"data": normal(3, 4, 5), "indices": np.array([[0, 1], [2, 3], [0, 1]], np.int32), "updates": normal(3, 5)},
        scattered_nd,
    ),
    Case(
        "scatter_nd",
        {"data": normal(3, 4), "indices": np.array([[[0], [2]]], np.int32), "updates": normal(1, 2, 4)},
        lambda data, indices, updates: data.index_copy(0, indices.flatten().long(), updates[0]),
        params={"mode": "update"},
    ),
    Case(
        "gather_nd",
        {"x": normal(2, 3, 4, 5), "indices": RNG.integers(0, 3, (2, 6, 2)).astype(np.int32)},
        lambda x, indices: torch.stack([row[i[:, 0].long(), i[:, 1].long()] for row, i in zip(x, indices)]),
        params={"batch_dims": 1},
    ),
]

BLOCKS = [
    Case(
        "space_to_batch",
        {"x": np.arange(1, 17, dtype=np.float32).reshape(2, 1, 2, 4)},
        lambda x: torch.tensor(
            [[0, 1, 3], [0, 9, 11], [0, 2, 4], [0, 10, 12], [0, 5, 7], [0, 13, 15], [0, 6, 8], [0, 14, 16]]
        ).reshape(8, 1, 1, 3),
        params={"block_shape": [2, 2], "paddings": [[0, 0], [2, 0]]},
    ),
    Case(
        "batch_to_space",
        {"x": normal(2, 3, 4, 6)},
        lambda x: x[..., 1:, :-2],
        build=lambda mb, x: mb.batch_to_space(
            x=mb.space_to_batch(x=x, block_shape=[2, 3], paddings=[[0, 0], [0, 0]]),
            block_shape=[2, 3],
            crops=[[1, 0], [0, 2]],
        ),
    ),
    Case(
        "reverse_sequence",
        {"x": normal(3, 4, 2), "lengths": np.array([2, 4, 0], np.int32)},
        lambda x, lengths: torch.stack([torch.cat([row[:n].flip(0), row[n:]]) for row, n in zip(x, lengths.tolist())]),
        params={"seq_axis": 1, "batch_axis": 0},
    ),
]

CASES = [*RESAMPLE, *CROPS, *RESIZE, *SCATTERS, *BLOCKS]


@pytest.fixture(scope="module")
def results(run_mil) -> dict[int, list[np.ndarray]]:
    return run_cases(run_mil, CASES)


@pytest.mark.parametrize("index", range(len(CASES)), ids=[f"{index}-{case.op}" for index, case in enumerate(CASES)])
def test_operator_agrees(index: int, results: dict[int, list[np.ndarray]]) -> None:
    CASES[index].check(results[index])


def boxes_and_scores(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """40 boxes (center, size) in a crowd, with scores that all differ."""
    boxes = np.concatenate([RNG.uniform(0, 20, (2, 40, 2)), RNG.uniform(2, 9, (2, 40, 2))], -1).astype(np.float32)
    scores = RNG.permutation(2 * 40 * classes).reshape(2, 40, classes).astype(np.float32) / (80 * classes)
    return boxes, scores


def torch_nms(boxes: np.ndarray, scores: np.ndarray, limit: float, threshold: float, per_class: bool) -> list[int]:
    """torchvision's suppression, on boxes moved far apart where classes do not see each other."""
    best, classes = torch.tensor(scores).max(1)
    center, half = torch.tensor(boxes[:, :2]), torch.tensor(boxes[:, 2:]) / 2
    corners = torch.cat([center - half, center + half], 1) + (1000.0 * classes[:, None] if per_class else 0.0)
    chosen = torch.nonzero(best >= threshold).flatten()
    return chosen[torchvision.ops.nms(corners[chosen], best[chosen], limit)].tolist()


@pytest.mark.parametrize("target", ["iOS16", "iOS17"])
@pytest.mark.parametrize("per_class", [False, True])
def test_suppression_is_torchvisions(run_mil: Callable, target: str, per_class: bool) -> None:
    boxes, scores = boxes_and_scores(classes=3)
    new = target == "iOS17"
    threshold, most = -np.inf if new else 0.4, 12
    named = {} if new else {"score_threshold": 0.4}

    def build(mb: Any, boxes: Any, scores: Any) -> Any:
        return mb.non_maximum_suppression(
            boxes=boxes, scores=scores, iou_threshold=0.3, max_boxes=most, per_class_suppression=per_class, **named
        )

    feeds = (
        {"boxes": boxes.transpose(0, 2, 1), "scores": scores.transpose(0, 2, 1)}
        if new
        else {
            "boxes": boxes,
            "scores": scores,
        }
    )
    got = run_mil(build, {name: np.ascontiguousarray(value) for name, value in feeds.items()}, target=target)
    for batch in range(2):
        ids = torch_nms(boxes[batch], scores[batch], 0.3, threshold, per_class)[:most]
        assert got[2][batch].tolist() == ids + [-1] * (most - len(ids))
        picked = got[0][batch].T if new else got[0][batch]
        np.testing.assert_array_equal(picked[: len(ids)], boxes[batch][ids])
        np.testing.assert_array_equal(picked[len(ids) :], 0)
        if not new:
            assert got[3][batch] == len(ids)


def test_suppression_keeps_the_best_box_when_none_is_good_enough(run_mil: Callable) -> None:
    boxes, scores = boxes_and_scores(classes=1)

    def build(mb: Any, boxes: Any, scores: Any) -> Any:
        return mb.non_maximum_suppression(
            boxes=boxes, scores=scores, iou_threshold=0.3, score_threshold=2.0, max_boxes=3
        )

    got = run_mil(build, {"boxes": boxes, "scores": scores})
    assert got[2].tolist() == [[int(scores[batch].argmax()), -1, -1] for batch in range(2)]
    assert got[3].tolist() == [1, 1]
