"""What a detector or a classifier ends with: non-maximum suppression, classify.

Definitions: coremltools' MIL reference, iOS15 and iOS17 (`tensor_operation.py`, `classify.py`).
"""

import math

import torch
from torch import Tensor

from .ops import Kernel, Node, mil_op


@mil_op("classify", operands=("probabilities",), exact=True)
def _classify(node: Node) -> Kernel:
    """The place of the best class, and the probabilities in a row. What the classes are called `program.py` knows."""

    def classify(probabilities: Tensor) -> tuple[Tensor, Tensor]:
        flat = probabilities.flatten()
        return flat.argmax().to(torch.int32), flat

    return classify


@mil_op("non_maximum_suppression", operands=("boxes", "scores"), exact=True)
def _non_maximum_suppression(node: Node) -> Kernel:
    """A box counts with the best of its class scores. iOS17 puts the boxes last, and has neither a score threshold nor
    the count of boxes. What is not filled is 0, its index -1. If the threshold leaves nothing, the best box is kept."""
    limit, per_class = node.param("iou_threshold"), node.param("per_class_suppression", False)
    most, boxes_last = node.param("max_boxes"), not node.has("score_threshold")
    threshold = -math.inf if boxes_last else node.param("score_threshold")

    def suppress(boxes: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
        if boxes_last:
            boxes, scores = boxes.mT, scores.mT
        kept = [_keep(b, s, limit, threshold, most, per_class) for b, s in zip(boxes, scores)]
        picked = [torch.stack([_padded(rows[ids], most) for rows, ids in zip(part, kept)]) for part in (boxes, scores)]
        indices = torch.stack([_padded(ids.int() + 1, most) - 1 for ids in kept])
        if boxes_last:
            return picked[0].mT, picked[1].mT, indices
        return picked[0], picked[1], indices, torch.tensor([len(ids) for ids in kept], dtype=torch.int32)

    return suppress


def _keep(boxes: Tensor, scores: Tensor, limit: float, threshold: float, most: int, per_class: bool) -> Tensor:
    """Indices of the boxes that stay, best first. boxes: [B, 4] (center x, center y, width, height); scores: [B, K]."""
    best, classes = scores.max(1)
    order = torch.argsort(best, descending=True, stable=True)
    overlaps = _iou(boxes) > limit
    if per_class:
        overlaps &= classes[:, None] == classes[None, :]
    kept: list[int] = []
    for index in order.tolist():
        if best[index] >= threshold and not overlaps[index, kept].any():
            kept.append(index)
    return torch.tensor((kept or order[:1].tolist())[:most], dtype=torch.long)


def _iou(boxes: Tensor) -> Tensor:
    """Intersection over union of every pair, [B, B]; 0 for two empty boxes."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    shared = (torch.minimum(high[:, None], high) - torch.maximum(low[:, None], low)).clamp(min=0).prod(-1)
    area = boxes[:, 2] * boxes[:, 3]
    return torch.nan_to_num(shared / (area[:, None] + area - shared))


def _padded(rows: Tensor, count: int) -> Tensor:
    padding = rows.new_zeros((count - len(rows), *rows.shape[1:]))
    return torch.cat([rows, padding])
