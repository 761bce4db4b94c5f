"""Word contrast: the words of a caption are found among the visual tokens of its own picture, one by one.

Shapes: B pictures, K captions a picture, N = B * K, T text tokens, V visual tokens, D width, W words.
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

    Captions alone teach here what the classifiers over names learn from boxes: a thing looks like its word. The cost
    hardly depends on the number of captions: a word that many of them have meets each picture once.

    Args:
        scale: what the cosines are multiplied by when training begins; it is learned.
    """

    def __init__(self, context: LossContext, scale: float = 16.0):
        super().__init__(context)
        self.special_ids = special_ids(context.tokenizer)
        self.log_scale = nn.Parameter(torch.tensor(scale).log())

    def words_of(self, ids_NT: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ids [W] that texts consist of, and how often each text has each as a word [N, W], in float32."""
        ids_W, places_NT = ids_NT.unique(return_inverse=True)
        counts_NW = torch.zeros(len(ids_NT), len(ids_W), device=ids_NT.device)
        return ids_W, counts_NW.scatter_add_(1, places_NT, is_word(ids_NT, self.special_ids).float())

    def forward(self, core: VisionLanguageCore, batch: Batch, visual_BVD: Tensor) -> dict[str, Tensor]:
        ids_W, counts_NW = self.words_of(torch.cat([batch[key].flatten(0, 1) for key in ("captions", "negatives")]))
        said_NW, false_NW = counts_NW.chunk(2)
        words_WD = F.normalize(core.text.norm(core.text.words(ids_W)), dim=-1)
        cosines_BVW = (F.normalize(visual_BVD, dim=-1) @ words_WD.T).float()
        fits_BW = torch.logsumexp(self.log_scale.exp().clamp(max=100) * cosines_BVW, dim=1)
        own_N = torch.arange(len(fits_BW), device=fits_BW.device).repeat_interleave(batch["captions"].shape[1])
        with torch.autocast(fits_BW.device.type, enabled=False):  # sums of some twenty words: bf16 has three digits
            fits_NB = said_NW @ fits_BW.T
        nearer_N = ((false_NW - said_NW) * fits_BW[own_N]).sum(1)
        return {"words.pictures": F.cross_entropy(fits_NB, own_N), "words.twins": F.softplus(nearer_N).mean()}
