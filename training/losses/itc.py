"""Image-text contrast: a picture's vector is nearer to its own caption's than to those of the rest of the batch.

Shapes: B pictures, D width, E embedding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevl.models.core import VisionLanguageCore
from edgevl.training.losses.base import LOSSES, Batch, LossContext, PretrainingLoss


@LOSSES.register("itc")
class ContrastLoss(PretrainingLoss):
    """Symmetric InfoNCE with a learned temperature, as in CLIP (Radford et al. 2021), over the first caption.

    Args:
        embedding: channels E of the shared space.
    """

    def __init__(self, context: LossContext, embedding: int = 64):
        super().__init__(context)
        self.image_projection = nn.Linear(context.config.width, embedding)
        self.text_projection = nn.Linear(context.config.width, embedding)
        self.log_scale = nn.Parameter(torch.tensor(14.3).log())  # temperature 0.07

    def embed_images(self, visual_BVD: Tensor) -> Tensor:
        """Unit vectors [B, E] of visual tokens."""
        return F.normalize(self.image_projection(visual_BVD.mean(1)).float(), dim=-1)

    def embed_texts(self, core: VisionLanguageCore, ids_BT: Tensor) -> Tensor:
        """Unit vectors [B, E] of texts."""
        return F.normalize(self.text_projection(core.encode_text(ids_BT)[:, 0]).float(), dim=-1)

    def forward(self, core: VisionLanguageCore, batch: Batch, visual_BVD: Tensor) -> dict[str, Tensor]:
        image_BE, text_BE = self.embed_images(visual_BVD), self.embed_texts(core, batch["captions"][:, 0])
        logits_BB = self.log_scale.exp().clamp(max=100) * image_BE @ text_BE.T
        own_B = torch.arange(len(logits_BB), device=logits_BB.device)
        return {"itc": (F.cross_entropy(logits_BB, own_B) + F.cross_entropy(logits_BB.T, own_B)) / 2}
