"""Semantic map loss: a class for every cell of the visual grid, background included (dense segmentation).

Shapes: B pictures, V = G * G cells, D width, C classes.
"""

import torch.nn.functional as F
from torch import Tensor

from edgevl.models.core import VisionLanguageCore
from edgevl.training.losses.base import LOSSES, Batch, LossContext, NameClassifier, PretrainingLoss


@LOSSES.register("semantic_map")
class SemanticMapLoss(PretrainingLoss):
    """Cross entropy of each cell against the class that covers most of it (`batch["class_grid"]`, 0 is background)."""

    def __init__(self, context: LossContext):
        super().__init__(context)
        self.classifier = NameClassifier(context.tokenizer, context.classes, context.config.width, background=True)

    def forward(self, core: VisionLanguageCore, batch: Batch, visual_BVD: Tensor) -> dict[str, Tensor]:
        logits_BVC = self.classifier(core.text, visual_BVD)
        return {"semantic_map": F.cross_entropy(logits_BVC.flatten(0, 1).float(), batch["class_grid"].flatten())}
