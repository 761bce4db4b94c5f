"""Distillation losses: what a student takes over from a teacher that sees the same pictures and questions.

Shapes: B pictures, N questions, V = G * G visual tokens, T text tokens, L = T + V, D width, H heads, E = D / H,
A answers. The teacher's G and D may differ from the student's: its grid is interpolated to the student's, and where
widths must agree a linear map, which is not saved with the model, leads from the student's to the teacher's.
"""

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevl.config import ModelConfig
from edgevl.errors import InputError, unknown_name
from edgevl.models import VqaModel
from edgevl.models.core import PAD_ID
from edgevl.models.fusion import MASKED, Block
from edgevl.registry import Registry

PLACES = ("vision", "fusion")  # visual tokens before the transformer; all tokens as its last block reads them


@dataclasses.dataclass(frozen=True)
class Trace:
    """What one model computed for a batch: the losses compare two of these."""

    model: VqaModel
    input_ids_NT: Tensor
    visual_BVD: Tensor  # before the transformer
    states_NLD: Tensor  # what its last block reads
    logits_NA: Tensor

    def tokens(self, place: str, cells: int) -> Tensor:
        """Normalized tokens at one of `PLACES`: [B, cells, D] or [N, T + cells, D], the visual ones resized."""
        if place == "vision":
            found = resize_grid(self.visual_BVD, cells)
        else:
            text_NTD, visual_NVD = self.states_NLD.split([self.text_length, self.cells], 1)
            found = torch.cat([text_NTD, resize_grid(visual_NVD, cells)], 1)
        return F.layer_norm(found.float(), found.shape[-1:])

    def weights(self, place: str, cells: int) -> Tensor:
        """1 for a token, 0 for padding: what to average over, shaped like `tokens` without its last axis."""
        if place == "vision":
            return self.visual_BVD.new_ones(len(self.visual_BVD), cells)
        return torch.cat([self.kept_NT, self.kept_NT.new_ones(len(self.kept_NT), cells)], 1)

    def attention(self, cells: int) -> Tensor:
        """Where [CLS] looks in the last block, mean over heads: shares [N, T + cells]."""
        block = self.model.core.fusion.blocks[-1]
        assert isinstance(block, Block)
        layer, x_NLD = block.attention, block.attention_norm(self.states_NLD)
        batch = len(x_NLD)
        query_NHRE = layer._split(layer.query(x_NLD[:, 0]) * layer.scale, batch)
        scores_NHRL = (query_NHRE @ layer._split(layer.key(x_NLD.flatten(0, 1)), batch).transpose(-2, -1)).float()
        mask_NL = F.pad((1 - self.kept_NT) * MASKED, (0, self.cells))
        shares_NL = torch.softmax(scores_NHRL + mask_NL[:, None, None], -1).mean(1).squeeze(1)
        text_NT, visual_NV = shares_NL.split([self.text_length, self.cells], 1)
        moved_NV = resize_grid(visual_NV[..., None], cells).squeeze(-1)
        return torch.cat([text_NT, moved_NV * (visual_NV.sum(1) / moved_NV.sum(1))[:, None]], 1)

    @property
    def cells(self) -> int:
        return self.visual_BVD.shape[1]

    @property
    def text_length(self) -> int:
        return self.input_ids_NT.shape[1]

    @property
    def kept_NT(self) -> Tensor:
        return (self.input_ids_NT != PAD_ID).float()


def resize_grid(tokens_BVD: Tensor, cells: int) -> Tensor:
    """Interpolate a square grid of tokens to one of `cells` tokens, [B, cells, D]."""
    if tokens_BVD.shape[1] == cells:
        return tokens_BVD
    old, new = round(tokens_BVD.shape[1] ** 0.5), round(cells**0.5)
    map_BDGG = tokens_BVD.float().transpose(1, 2).unflatten(2, (old, old))
    return F.interpolate(map_BDGG, (new, new), mode="bilinear", antialias=True).flatten(2).transpose(1, 2)


class DistillationLoss(nn.Module):
    """Base of the losses. `forward` takes the traces of student and teacher and returns named scalars.

    Args:
        student, teacher: the two models' configs.
    """

    def __init__(self, student: ModelConfig, teacher: ModelConfig):
        super().__init__()

    def forward(self, student: Trace, teacher: Trace) -> dict[str, Tensor]:
        raise NotImplementedError


DISTILLATION: Registry[type[DistillationLoss]] = Registry("distillation loss")


@DISTILLATION.register("logits")
class LogitsLoss(DistillationLoss):
    """The teacher's answers with their doubts: KL at a temperature (Hinton et al. 2015, arXiv 1503.02531).

    Args:
        temperature: flattens both distributions; the loss is scaled by its square, so that gradients keep their size.
    """

    def __init__(self, student: ModelConfig, teacher: ModelConfig, temperature: float = 2.0):
        super().__init__(student, teacher)
        if temperature <= 0:
            raise InputError(f"temperature {temperature} must be above 0")
        self.temperature = temperature

    def forward(self, student: Trace, teacher: Trace) -> dict[str, Tensor]:
        ours, theirs = (F.log_softmax(t.logits_NA.float() / self.temperature, -1) for t in (student, teacher))
        return {"logits": F.kl_div(ours, theirs, log_target=True, reduction="batchmean") * self.temperature**2}


class _TokenLoss(DistillationLoss):
    """Base of losses over tokens.

    Args:
        at: which of `PLACES` to compare.
    """

    def __init__(self, student: ModelConfig, teacher: ModelConfig, at: Sequence[str] = ("vision",)):
        super().__init__(student, teacher)
        self.at = [at] if isinstance(at, str) else list(at)
        for place in self.at:
            if place not in PLACES:
                raise unknown_name("place to compare tokens at", place, PLACES)


@DISTILLATION.register("features")
class FeaturesLoss(_TokenLoss):
    """Tokens match the teacher's: squared error of normalized tokens, after a linear map when widths differ.

    After FitNets (Romero et al. 2015, arXiv 1412.6550).
    """

    def __init__(self, student: ModelConfig, teacher: ModelConfig, at: Sequence[str] = ("vision",)):
        super().__init__(student, teacher, at)
        same = student.width == teacher.width
        self.maps = nn.ModuleDict(
            {p: nn.Identity() if same else nn.Linear(student.width, teacher.width) for p in self.at}
        )

    def forward(self, student: Trace, teacher: Trace) -> dict[str, Tensor]:
        losses = {}
        for place, linear in self.maps.items():
            ours, theirs = (t.tokens(place, student.cells) for t in (student, teacher))
            error = (linear(ours).float() - theirs).square().mean(-1)
            weights = student.weights(place, student.cells)
            losses[f"features.{place}"] = (error * weights).sum() / weights.sum()
        return losses


@DISTILLATION.register("relation")
class RelationLoss(_TokenLoss):
    """Tokens are as alike as the teacher's: squared error of the cosines between all pairs of one sample's tokens.

    After similarity-preserving distillation (Tung and Mori 2019, arXiv 1907.09682), between tokens instead of samples.
    No map is needed: the matrices are [L, L] whatever the width.
    """

    def forward(self, student: Trace, teacher: Trace) -> dict[str, Tensor]:
        losses = {}
        for place in self.at:
            unit = [F.normalize(t.tokens(place, student.cells), dim=-1) for t in (student, teacher)]
            ours, theirs = (tokens @ tokens.transpose(1, 2) for tokens in unit)
            weights = student.weights(place, student.cells)
            pairs = weights[:, :, None] * weights[:, None]
            losses[f"relation.{place}"] = ((ours - theirs).square() * pairs).sum() / pairs.sum()
        return losses


@DISTILLATION.register("attention")
class AttentionLoss(DistillationLoss):
    """[CLS] looks where the teacher's looks: KL between the attention maps of the last blocks, mean over heads.

    After MiniLM (Wang et al. 2020, arXiv 2002.10957), which also takes the last block alone: depths may differ.
    """

    def forward(self, student: Trace, teacher: Trace) -> dict[str, Tensor]:
        ours, theirs = (t.attention(student.cells).clamp(min=1e-6).log() for t in (student, teacher))
        return {"attention": F.kl_div(ours, theirs, log_target=True, reduction="batchmean")}
