"""Visual question answering: one of A answers, read from the [CLS] state."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from edgevl.config import ModelConfig
from edgevl.models.core import VisionLanguageCore

if TYPE_CHECKING:
    from edgevl.contracts import Program


class AnswerHead(nn.Sequential):
    """Two-layer classifier [B, D] -> [B, A], as BERT's and ViLT's."""

    def __init__(self, width: int, num_answers: int):
        super().__init__(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, num_answers))


class VqaModel(nn.Module):
    """`forward(image, input_ids) -> logits`: the deployed program behind an image adapter.

    Args:
        image: float [B, 3, S, S] in 0..255, RGB.
        input_ids: int [B, T]; 0 is padding.
    Returns:
        logits: float [B, A].
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.core = VisionLanguageCore(config)
        self.head = AnswerHead(config.width, config.num_answers)

    def forward(self, image: Tensor, input_ids: Tensor) -> Tensor:
        return self.answer(self.core.encode_image(image), input_ids)

    def programs(self, layout: str = "single") -> "Sequence[Program]":
        """Return what an exporter captures: see `edgevl.models.question_answering.answering_programs`."""
        from edgevl.models.question_answering import answering_programs

        return answering_programs(self, layout)

    def answer(self, visual_BVD: Tensor, input_ids: Tensor) -> Tensor:
        """Logits [B, A] from visual tokens that are there already: many questions about one picture."""
        return self.head(self.core.fuse(input_ids, visual_BVD, readout=1)[:, 0])
