"""Masked language modeling: guess the hidden words of a caption from the picture and the other words.

Shapes: B pictures, K captions a picture, N = B * K, T text tokens, D width, W vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevl.models.core import VisionLanguageCore
from edgevl.training.losses.base import LOSSES, Batch, LossContext, PretrainingLoss, is_word, special_ids

IGNORED = -100


@LOSSES.register("mlm")
class MaskedLanguageLoss(PretrainingLoss):
    """BERT's loss (Devlin et al. 2019) without its 10 % random and 10 % kept words: [MASK] is never seen downstream.

    Args:
        mask_rate: share of the words that are hidden; at least one per caption.
    """

    def __init__(self, context: LossContext, mask_rate: float = 0.3):
        super().__init__(context)
        width = context.config.width
        self.mask_rate = mask_rate
        self.mask_id = context.tokenizer.mask_id
        self.special_ids = special_ids(context.tokenizer)
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(context.config.vocab_size))

    def hide(self, ids_NT: Tensor) -> tuple[Tensor, Tensor]:
        """Return ids with [MASK] where a word is hidden, and the targets (IGNORED elsewhere)."""
        words_NT = is_word(ids_NT, self.special_ids)
        chance_NT = torch.rand(ids_NT.shape, device=ids_NT.device).masked_fill(~words_NT, 2.0)
        hidden_NT = (chance_NT < self.mask_rate) | ((chance_NT == chance_NT.amin(1, keepdim=True)) & words_NT)
        return ids_NT.masked_fill(hidden_NT, self.mask_id), ids_NT.masked_fill(~hidden_NT, IGNORED)

    def forward(self, core: VisionLanguageCore, batch: Batch, visual_BVD: Tensor) -> dict[str, Tensor]:
        captions_BKT = batch["captions"]
        masked_NT, targets_NT = self.hide(captions_BKT.flatten(0, 1))
        states_NTD = core.fuse(masked_NT, visual_BVD.repeat_interleave(captions_BKT.shape[1], 0))
        hidden_NT = targets_NT != IGNORED
        logits = self.transform(states_NTD[hidden_NT]) @ core.text.words.weight.T + self.bias
        return {"mlm": F.cross_entropy(logits.float(), targets_NT[hidden_NT])}
