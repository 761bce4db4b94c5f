"""The parts of a region-feature pipeline that no graph holds: proposals, level assignment, suppression.

They are torchvision's own steps (`RegionProposalNetwork.filter_proposals`, `LevelMapper` and
`RoIHeads.postprocess_detections`) with its own kernels, reordered in the detector's favor where the result stays the
same: boxes are decoded after the best were chosen, not before, so that 5 000 boxes are decoded and not 155 000, and
NMS orders by the raw objectness, since a sigmoid would not change the order.

Shapes: N anchors, R proposals, C classes, K regions kept. Boxes are x0, y0, x1, y1 in pixels.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image, nms, remove_small_boxes

from edgevl.regions.answerer import RegionConfig
from edgevl.regions.parts import layout_of

LOG_CLIP = math.log(1000.0 / 16)  # torchvision's bound of a box's growth
CLASS_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # torchvision's scaling of class-specific box deltas


def decode_boxes(anchors: Tensor, deltas: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Move and scale `anchors` [n, 4] by `deltas` [n, 4] (dx, dy, dw, dh). Returns boxes [n, 4]."""
    size = anchors[:, 2:] - anchors[:, :2]
    center = anchors[:, :2] + 0.5 * size
    moved = deltas[:, :2] / torch.tensor(weights[:2]) * size + center
    half = 0.5 * torch.exp((deltas[:, 2:] / torch.tensor(weights[2:])).clamp(max=LOG_CLIP)) * size
    return torch.cat([moved - half, moved + half], dim=1)


def propose(config: RegionConfig, objectness: Tensor, deltas: Tensor, anchors: Tensor, counts: list[int]) -> Tensor:
    """Best anchors of each level, decoded, clipped and suppressed per level: boxes [R, 4], best first.

    When fewer than K survive, the best of the suppressed fill up, so that shapes stay fixed.
    """
    starts = np.cumsum([0, *counts])
    chosen, levels = [], []
    for level, (start, stop) in enumerate(itertools.pairwise(starts)):
        best = objectness[start:stop].topk(min(config.pre_nms, int(stop - start))).indices + int(start)
        chosen.append(best)
        levels.append(torch.full_like(best, level))
    index, level = torch.cat(chosen), torch.cat(levels)
    boxes = decode_boxes(anchors[index], deltas[index], layout_of(config).moves)
    boxes = clip_boxes_to_image(boxes, (config.height, config.width))
    keep = remove_small_boxes(boxes, min_size=1e-3)
    boxes, scores, level = boxes[keep], objectness[index[keep]], level[keep]
    kept = batched_nms(boxes, scores, level, config.proposal_iou)[: config.post_nms]
    return boxes[fill_up(kept, scores, config.regions)]


def fill_up(kept: Tensor, scores: Tensor, wanted: int) -> Tensor:
    """`kept` (indices of `scores`, best first), with the best of the others behind it if it has fewer than `wanted`."""
    if len(kept) >= wanted:
        return kept
    everything = [*kept.tolist(), *scores.argsort(descending=True).tolist()]
    return torch.tensor(list(dict.fromkeys(everything))[:wanted])


def split_by_level(config: RegionConfig, proposals: Tensor) -> list[Tensor]:
    """Proposals for each map that RoIAlign reads, by size (`RegionConfig.canonical`). Order inside a level is kept."""
    first, last = layout_of(config).levels
    if first == last:
        return [proposals]
    size = proposals[:, 2:] - proposals[:, :2]
    side, at = config.canonical
    level = torch.floor(at + torch.log2((size[:, 0] * size[:, 1]).sqrt() / side) + 1e-6).clamp(first, last)
    return [proposals[level == value] for value in range(first, last + 1)]


def refine_by_class(config: RegionConfig, proposals: Tensor, logits: Tensor, deltas: Tensor) -> Tensor:
    """Proposals [R, 4], moved as their best class says (`deltas` [R, C * 4])."""
    best = logits[:, 1:].argmax(dim=1) + 1
    moved = deltas.reshape(len(deltas), -1, 4)[torch.arange(len(best)), best]
    return clip_boxes_to_image(decode_boxes(proposals, moved, CLASS_WEIGHTS), (config.height, config.width))


def select_regions(
    config: RegionConfig, proposals: Tensor, logits: Tensor, deltas: Tensor | None = None
) -> tuple[Tensor, int]:
    """Indices [K] of the proposals behind the best detections: class scores, threshold, NMS, best K.

    Also returns how many class scores entered the suppression, which is the work that it had. A proposal counts once.
    Without `config.fill` there may be fewer than K.

    Args:
        proposals: [R, 4]. logits: [R, C], class 0 is background. deltas: [R, C * 4], only where boxes are refined.
    """
    scores = torch.softmax(logits, dim=1)[:, 1:]
    best = scores.amax(dim=1)
    if not config.per_class:
        kept = nms(proposals, best, config.class_iou)
        kept = fill_up(kept, best, config.regions) if config.fill else kept
        return kept[: config.regions], len(best)
    row, column = torch.where(scores > config.score_threshold)
    boxes = proposals[row]
    if deltas is not None:
        boxes = decode_boxes(boxes, deltas.reshape(len(deltas), -1, 4)[row, column + 1], CLASS_WEIGHTS)
        boxes = clip_boxes_to_image(boxes, (config.height, config.width))
    keep = batched_nms(boxes, scores[row, column], column, config.class_iou)
    detected = torch.tensor(list(dict.fromkeys(row[keep].tolist())), dtype=torch.int64)
    return fill_up(detected, best, config.regions)[: config.regions], len(row)
