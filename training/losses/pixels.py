"""Pixel loss: rebuild the picture from the visual tokens. The study's negative control, in no recipe of a model.

Shapes: B pictures, S side, V = G * G cells, D width, P = S / G pixels a cell's side.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from edgevl.models.core import VisionLanguageCore
from edgevl.training.losses.base import LOSSES, Batch, LossContext, PretrainingLoss


@LOSSES.register("pixels")
class PixelLoss(PretrainingLoss):
    """Mean squared error of every cell's pixels, from a linear map of its token.

    A target without meaning: ViLT (Kim et al. 2021) reports that predicting patches of pixels did not help it. No cell
    is hidden, for a token of a convolutional backbone sees its neighbors anyway.
    """

    def __init__(self, context: LossContext):
        super().__init__(context)
        self.cell = context.config.stride
        self.pixels = nn.Linear(context.config.width, 3 * self.cell**2)

    def forward(self, core: VisionLanguageCore, batch: Batch, visual_BVD: Tensor) -> dict[str, Tensor]:
        target_B3SS = batch["image"].float() / 127.5 - 1.0
        target_BVP = F.unfold(target_B3SS, self.cell, stride=self.cell).transpose(1, 2)
        return {"pixels": F.mse_loss(self.pixels(visual_BVD).float(), target_BVP)}
