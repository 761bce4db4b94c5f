"""ViLT (Kim et al., arXiv 2102.03334): the end-to-end model that people know, for comparison of time.

Patches of 32 x 32 pixels are embedded by one linear layer, and a ViT-B/BERT-base-sized pre-norm transformer reads them
together with the words. There is no backbone and no detector. The weights are untrained. The transformer is the class
of our own model; a test compares the whole with transformers' `ViltForQuestionAnswering`.

Shapes: B batch, S image side, P patches, T text tokens, D width, A answers.
"""

import dataclasses

import torch
from torch import Tensor, nn

from edgevl.models.core import PAD_ID
from edgevl.models.fusion import Fusion


@dataclasses.dataclass(frozen=True)
class ViltConfig:
    """ViLT-B/32 as published; only the tests make it smaller."""

    text_length: int  # T
    num_answers: int  # A
    image_size: int = 384
    patch: int = 32
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: int = 4
    vocab_size: int = 30522
    seed: int = 0


class Vilt(nn.Module):
    """forward: `image` uint8 [B, S, S, 3] RGB, `input_ids` int [B, T], 0 is padding -> logits float [B, A]."""

    def __init__(self, config: ViltConfig):
        super().__init__()
        width, patches = config.width, (config.image_size // config.patch) ** 2
        self.words = nn.Embedding(config.vocab_size, width)
        self.word_position = nn.Parameter(0.02 * torch.randn(config.text_length, width))
        self.word_type = nn.Parameter(0.02 * torch.randn(width))  # BERT's segment: a question has one
        self.word_norm = nn.LayerNorm(width)
        self.patches = nn.Conv2d(3, width, kernel_size=config.patch, stride=config.patch)
        self.cls = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, patches + 1, width))
        self.modality = nn.Parameter(0.02 * torch.randn(2, width))  # of words, of pixels
        self.fusion = Fusion(width, config.depth, config.heads, config.mlp_ratio)
        self.pooler = nn.Linear(width, width)
        self.head = nn.Sequential(
            nn.Linear(width, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, config.num_answers)
        )

    def forward(self, image: Tensor, input_ids: Tensor) -> Tensor:
        words = self.word_norm(self.words(input_ids) + self.word_type + self.word_position) + self.modality[0]
        pixels = image.float().permute(0, 3, 1, 2) / 127.5 - 1
        patches = self.patches(pixels).flatten(2).transpose(1, 2)
        visual = torch.cat([self.cls.expand(len(patches), -1, -1), patches], dim=1) + self.position + self.modality[1]
        keep = torch.cat([(input_ids != PAD_ID).to(visual.dtype), torch.ones_like(visual[:, :, 0])], dim=1)
        states = self.fusion(torch.cat([words, visual], dim=1), keep, readout=1)
        return self.head(torch.tanh(self.pooler(states[:, 0])))


def build_vilt(config: ViltConfig) -> Vilt:
    """Fresh weights from `config.seed`, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Vilt(config).eval()
