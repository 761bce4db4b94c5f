"""Image-text matching: does this sentence describe this picture?

Shapes: B pictures, K captions a picture, N = B * K, T text tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevl.models.core import VisionLanguageCore
from edgevl.training.losses.base import LOSSES, Batch, LossContext, PretrainingLoss


@LOSSES.register("itm")
class MatchingLoss(PretrainingLoss):
    """Binary loss on [CLS]. A negative is another picture's caption, or the true one with one fact changed.

    A negative with one changed fact (`batch["negatives"]`) is what forces words and pixels to be bound; another
    picture's caption is mostly told apart by its nouns.

    Args:
        hard: share of the negatives that have one fact changed.
        compared: read every caption and a negative of it, and ask also that the caption scores higher (`itm.order`).
            What is alike in both, the picture before all, then cancels. The texts are twice as many.
    """

    def __init__(self, context: LossContext, hard: float = 0.75, compared: bool = False):
        super().__init__(context)
        self.hard, self.compared = hard, compared
        self.head = nn.Linear(context.config.width, 1)

    def false(self, batch: Batch) -> Tensor:
        """Return a false text for every caption, [B, K, T]."""
        captions_BKT = batch["captions"]
        hard_BK = torch.rand(captions_BKT.shape[:2], device=captions_BKT.device) < self.hard
        return torch.where(hard_BK[..., None], batch["negatives"], captions_BKT.roll(1, dims=0))

    def pairs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return texts [N, T], half of them false, and labels [N] (1.0 = true)."""
        captions_BKT, false_BKT = batch["captions"], self.false(batch)
        label_BK = torch.rand(captions_BKT.shape[:2], device=captions_BKT.device) < 0.5
        texts_BKT = torch.where(label_BK[..., None], captions_BKT, false_BKT)
        return texts_BKT.flatten(0, 1), label_BK.flatten().float()

    def score(self, core: VisionLanguageCore, texts_NT: Tensor, visual_NVD: Tensor) -> Tensor:
        """Logit [N] that each text describes its picture."""
        return self.head(core.fuse(texts_NT, visual_NVD, readout=1)[:, 0]).squeeze(-1).float()

    def forward(self, core: VisionLanguageCore, batch: Batch, visual_BVD: Tensor) -> dict[str, Tensor]:
        visual_NVD = visual_BVD.repeat_interleave(batch["captions"].shape[1], 0)
        if self.compared:
            texts_NT = torch.cat([batch["captions"].flatten(0, 1), self.false(batch).flatten(0, 1)])
            scores_N = self.score(core, texts_NT, visual_NVD.repeat(2, 1, 1))
            true_N, false_N = scores_N.chunk(2)
            judged = (F.softplus(-true_N).mean() + F.softplus(false_N).mean()) / 2
            return {"itm": judged, "itm.order": F.softplus(false_N - true_N).mean()}
        texts_NT, labels_N = self.pairs(batch)
        return {"itm": F.binary_cross_entropy_with_logits(self.score(core, texts_NT, visual_NVD), labels_N)}
