"""The pretraining losses, one file each, found by name in `LOSSES`.

Every loss is a module that owns its heads (they exist in pretraining only) and is called as
`loss(core, batch, visual_BVD) -> {name: scalar tensor}`. Weights live in the criterion, never here.

The seed abstract (arXiv 2301.07236) names three types of visual loss without defining them; `object`, `semantic_map`
and `region_distillation` are this project's reading of it. `region_labels` is for the region-feature model.
"""

from edgevl.training.losses.base import LOSSES, LossContext, PretrainingLoss
from edgevl.training.losses.criterion import Criterion
from edgevl.training.losses.itc import ContrastLoss
from edgevl.training.losses.itm import MatchingLoss
from edgevl.training.losses.mlm import MaskedLanguageLoss
from edgevl.training.losses.object import ObjectLoss
from edgevl.training.losses.pixels import PixelLoss
from edgevl.training.losses.region_distillation import RegionDistillationLoss
from edgevl.training.losses.region_labels import RegionLabelLoss
from edgevl.training.losses.semantic_map import SemanticMapLoss
from edgevl.training.losses.words import WordContrastLoss

__all__ = [
    "LOSSES",
    "ContrastLoss",
    "Criterion",
    "LossContext",
    "MaskedLanguageLoss",
    "MatchingLoss",
    "ObjectLoss",
    "PixelLoss",
    "PretrainingLoss",
    "RegionDistillationLoss",
    "RegionLabelLoss",
    "SemanticMapLoss",
    "WordContrastLoss",
]
