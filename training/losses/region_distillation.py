"""Region distillation loss: visual tokens pooled inside a box match a teacher's feature of that region.

Shapes: B pictures, N objects a picture at most, R regions of the batch, D width, F teacher channels, G grid side.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from edgevl.models.core import VisionLanguageCore
from edgevl.training.losses.base import LOSSES, Batch, LossContext, PretrainingLoss
from edgevl.training.teachers import TEACHERS


@LOSSES.register("region_distillation")
class RegionDistillationLoss(PretrainingLoss):
    """Cosine distance between linearly mapped pooled tokens and the teacher's region feature.

    Args:
        teacher: name of a region teacher (training/teachers.py).
        fraction: share of each batch that the teacher looks at; it costs as much as the student.
    """

    def __init__(self, context: LossContext, teacher: str = "efficientnet_lite0", fraction: float = 0.25):
        super().__init__(context)
        self.fraction = fraction
        self.grid = context.config.grid
        self._teacher = [TEACHERS[teacher]()]  # in a list: frozen, and no part of this module's parameters
        self.map = nn.Linear(context.config.width, self._teacher[0].channels)

    def forward(self, core: VisionLanguageCore, batch: Batch, visual_BVD: Tensor) -> dict[str, Tensor]:
        count = max(1, int(len(visual_BVD) * self.fraction))
        boxes = [boxes_N4[:n] for boxes_N4, n in zip(batch["boxes"][:count], batch["box_count"][:count], strict=True)]
        tokens_BDGG = visual_BVD[:count].transpose(1, 2).unflatten(2, (self.grid, self.grid))
        mapped_RF = self.map(pool_regions(tokens_BDGG.float(), boxes))
        with torch.no_grad():
            teacher_RF = pool_regions(self._teacher[0].to(mapped_RF.device)(batch["image"][:count]).float(), boxes)
        return {"region_distillation": 1 - F.cosine_similarity(mapped_RF.float(), teacher_RF, dim=-1).mean()}


def pool_regions(features_BCGG: Tensor, boxes: list[Tensor]) -> Tensor:
    """Mean feature [R, C] of each box; boxes as fractions of the side, (x0, y0, x1, y1), one tensor a picture."""
    side = features_BCGG.shape[-1]
    pooled = roi_align(features_BCGG, [b.to(features_BCGG.dtype) * side for b in boxes], output_size=2, aligned=True)
    return pooled.mean((2, 3))
