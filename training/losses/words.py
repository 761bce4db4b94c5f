"""Word contrast: the words of a caption are found among the visual tokens of its own picture, one by one.

Shapes: B pictures, K captions a picture, N = B * K, T text tokens, V visual tokens, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevl.models.core import VisionLanguageCore
from edgevl.training.losses.base import LOSSES, Batch, LossContext, PretrainingLoss, is_word, special_ids


@LOSSES.register("words")
class WordContrastLoss(PretrainingLoss):
    """Late interaction, after FILIP (Yao et al. 2021, arXiv 2111.07783), of words and tokens before fusion.

    A word fits a picture by the log of the sum, over visual tokens, of the exponentials of scaled cosines: it is enough
    that one token shows it. A caption fits by the sum over its words. It is nearer to its own picture than to the rest
    of the batch (`words.pictures`), and than the same caption with one fact changed is (`words.twins`).

    Captions alone teach here what the classifiers over names learn from boxes: a thing looks like its word.
    """

    def __init__(self, context: LossContext):
        super().__init__(context)
        self.special_ids = special_ids(context.tokenizer)
        self.log_scale = nn.Parameter(torch.tensor(8.0).log())

    def fits(self, cosines: Tensor, ids_NT: Tensor) -> Tensor:
        """How well texts fit pictures [N, ...], from the cosines of their words and visual tokens [N, T, ..., V]."""
        fits = torch.logsumexp(self.log_scale.exp().clamp(max=100) * cosines.float(), dim=-1)
        words_NT = is_word(ids_NT, self.special_ids)
        return (fits * words_NT.reshape(*words_NT.shape, *[1] * (fits.ndim - 2))).sum(1)

    def forward(self, core: VisionLanguageCore, batch: Batch, visual_BVD: Tensor) -> dict[str, Tensor]:
        true_NT, false_NT = (batch[key].flatten(0, 1) for key in ("captions", "negatives"))
        said_NTD, false_NTD = (F.normalize(core.text.norm(core.text.words(ids)), dim=-1) for ids in (true_NT, false_NT))
        seen_BVD = F.normalize(visual_BVD, dim=-1)
        own_N = torch.arange(len(seen_BVD), device=seen_BVD.device).repeat_interleave(batch["captions"].shape[1])
        fits_NB = self.fits(torch.einsum("ntd,bvd->ntbv", said_NTD, seen_BVD), true_NT)
        false_N = self.fits(false_NTD @ seen_BVD[own_N].transpose(1, 2), false_NT)
        true_N = fits_NB.gather(1, own_N[:, None]).squeeze(1)
        return {"words.pictures": F.cross_entropy(fits_NB, own_N), "words.twins": F.softplus(false_N - true_N).mean()}
