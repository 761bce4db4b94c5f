"""Distillation of a dual encoder: what a student takes over from a teacher's embeddings of the same pictures and texts.

Shapes: B pictures with a text each, E channels of an embedding; the teacher's E may differ.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from edgevl.errors import InputError
from edgevl.models.dual_encoder import PICTURES, TEXTS
from edgevl.models.pooling import unit_length
from edgevl.registry import Registry

Values = Mapping[str, Tensor]  # embeddings of length 1, [B, E], by name, and the `scale` of their products, []


class EmbeddingLoss(nn.Module):
    """Base of the losses. `forward` takes what student and teacher say of the same pairs and returns named scalars.

    Args:
        student, teacher: channels of their embeddings.
    """

    def __init__(self, student: int, teacher: int):
        super().__init__()

    def forward(self, student: Values, teacher: Values) -> dict[str, Tensor]:
        raise NotImplementedError


EMBEDDING_DISTILLATION: Registry[type[EmbeddingLoss]] = Registry("distillation loss of a dual encoder")


@EMBEDDING_DISTILLATION.register("similarities")
class SimilaritiesLoss(EmbeddingLoss):
    """Who is how near to whom in a batch, both ways: KL between the shares of the products, each with its own scale.

    Affinity mimicking of TinyCLIP (Wu et al. 2023, arXiv 2309.12314). The sizes of embeddings may differ.
    """

    def forward(self, student: Values, teacher: Values) -> dict[str, Tensor]:
        ours_BB, theirs_BB = (each["scale"] * each[TEXTS] @ each[PICTURES].T for each in (student, teacher))
        return {"similarities": (_divergence(ours_BB, theirs_BB) + _divergence(ours_BB.T, theirs_BB.T)) / 2}


@EMBEDDING_DISTILLATION.register("embeddings")
class EmbeddingsLoss(EmbeddingLoss):
    """Embeddings match the teacher's: squared distance, 0 to 4. Feature distillation of CLIP-KD (arXiv 2307.12732).

    Args:
        project: match them behind a linear map, which is not saved with the model: sizes may differ then.
    """

    def __init__(self, student: int, teacher: int, project: bool = False):
        super().__init__(student, teacher)
        if student != teacher and not project:
            raise InputError(
                f"losses.embeddings: the teacher's embeddings have {teacher} channels, the student's {student}: set "
                "losses.embeddings.project=true, which puts a linear map between them, or use losses.similarities"
            )
        self.maps = nn.ModuleDict(
            {name: nn.Linear(student, teacher) if project else nn.Identity() for name in (PICTURES, TEXTS)}
        )

    def forward(self, student: Values, teacher: Values) -> dict[str, Tensor]:
        apart = [
            (unit_length(linear(student[name]).float()) - teacher[name]).square().sum(-1).mean()
            for name, linear in self.maps.items()
        ]
        return {"embeddings.pictures": apart[0], "embeddings.texts": apart[1]}


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    return F.kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), log_target=True, reduction="batchmean")
