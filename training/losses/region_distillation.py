"""Region distillation loss: visual tokens pooled inside a box match a teacher's feature of that region.

Shapes: B pictures, N objects a picture at most, R regions of the batch, D width, F teacher channels, G grid side.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from edgevl.models.core import VisionLanguageCore
from edgevl.regions.detector import load_detector
from edgevl.training.losses.base import LOSSES, Batch, LossContext, PretrainingLoss, Reading
from edgevl.training.teachers import TEACHERS


@LOSSES.register("region_distillation")
class RegionDistillationLoss(PretrainingLoss):
    """Cosine distance between linearly mapped pooled tokens and the teacher's region feature.

    Args:
        teacher: name of a region teacher (training/teachers.py), which sees the annotated boxes, or the folder of a
            detector, whose own regions and their features are read from the batch: no annotation is needed.
        min_score: of a detector's regions, those below it are left out.

    A named teacher costs as much as the student, so a quarter of each batch is compared where the recipe gives no
    fraction; the regions of a detector are computed once and cost nothing.
    """

    reading = Reading(fraction=0.25)

    def __init__(self, context: LossContext, teacher: str = "efficientnet_lite0", min_score: float = 0.5):
        super().__init__(context)
        self.min_score = min_score
        self.grid = context.config.grid
        # In a list: frozen, and no part of this module's parameters.
        self._teacher = [] if is_detector(teacher) else [TEACHERS[teacher]()]
        channels = self._teacher[0].channels if self._teacher else load_detector(teacher).config.feature_width
        self.map = nn.Linear(context.config.width, channels)

    def forward(self, core: VisionLanguageCore, batch: Batch, visual_BVD: Tensor) -> dict[str, Tensor]:
        boxes, teacher_RF = (self._annotated if self._teacher else self._detected)(batch)
        tokens_BDGG = visual_BVD.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        mapped_RF = self.map(pool_regions(tokens_BDGG.float(), boxes))
        similar_R = F.cosine_similarity(mapped_RF.float(), teacher_RF, dim=-1)
        return {"region_distillation": (1 - similar_R).sum() / max(1, len(similar_R))}

    def _annotated(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Annotated boxes, one tensor a picture, and the teacher's feature of each [R, F]."""
        boxes = [boxes_N4[:n] for boxes_N4, n in zip(batch["boxes"], batch["box_count"], strict=True)]
        image = batch["image"]
        with torch.no_grad():
            return boxes, pool_regions(self._teacher[0].to(image.device)(image).float(), boxes)

    def _detected(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """The same of a detector's own regions."""
        kept_BK = batch["region_scores"] >= self.min_score
        boxes = [boxes_K4[kept_K] for boxes_K4, kept_K in zip(batch["region_boxes"], kept_BK, strict=True)]
        return boxes, batch["region_features"][kept_BK]


def is_detector(teacher: str) -> bool:
    """Is this the folder of a detector, not a name? A path that does not exist counts, for a clear message later."""
    return teacher not in TEACHERS and ("/" in teacher or Path(teacher).is_dir())


def pool_regions(features_BCGG: Tensor, boxes: list[Tensor]) -> Tensor:
    """Mean feature [R, C] of each box; boxes as fractions of the side, (x0, y0, x1, y1), one tensor a picture."""
    side = features_BCGG.shape[-1]
    pooled = roi_align(features_BCGG, [b.to(features_BCGG.dtype) * side for b in boxes], output_size=2, aligned=True)
    return pooled.mean((2, 3))
