"""The single-stream transformer that fuses words and visual tokens.

Shapes: B batch, L sequence (text then visual tokens), R tokens that are read out, D width, H heads,
E = D / H channels of a head.

Export-friendly on purpose: explicit matmul and softmax (every quantizer and converter knows them), rank 4 at most, an
additive mask of -1e4, which is finite in fp16.
"""

import torch
from torch import Tensor, nn

MASKED = -1e4  # added to the attention logits of padding; exp(-1e4) is 0 and -1e4 is finite in fp16


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)  # a key bias shifts every logit of a query alike: no effect
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self._mimetic_init()

    def _mimetic_init(self) -> None:
        """Start with W_q^T W_k near the identity, so that tokens that look alike attend to each other at once.

        Trockman and Kolter, "Mimetic Initialization of Self-Attention Layers" (arXiv 2305.09828), in its simplest form:
        the key starts as a copy of the query. It matters here because a word must find the visual token it names.
        """
        with torch.no_grad():
            nn.init.orthogonal_(self.query.weight)
            self.key.weight.copy_(self.query.weight)
        nn.init.zeros_(self.query.bias)

    def _split(self, x_BLD: Tensor) -> Tensor:
        batch, length, width = x_BLD.shape
        return x_BLD.reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)

    def forward(self, x_BLD: Tensor, mask_B11L: Tensor, readout: int | None = None) -> Tensor:
        asking_BRD = x_BLD if readout is None else x_BLD[:, :readout]
        q_BHRE = self._split(self.query(asking_BRD) * self.scale)
        k_BHLE, v_BHLE = self._split(self.key(x_BLD)), self._split(self.value(x_BLD))
        weights_BHRL = torch.softmax(q_BHRE @ k_BHLE.transpose(-2, -1) + mask_B11L, dim=-1)
        mixed_BRD = (weights_BHRL @ v_BHLE).transpose(1, 2).reshape(asking_BRD.shape)
        return self.out(mixed_BRD)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp_ratio: int, dropout: float = 0.0):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, width * mlp_ratio), nn.GELU(), nn.Linear(width * mlp_ratio, width), nn.Dropout(dropout)
        )

    def forward(self, x_BLD: Tensor, mask_B11L: Tensor, readout: int | None = None) -> Tensor:
        kept_BRD = x_BLD if readout is None else x_BLD[:, :readout]
        kept_BRD = kept_BRD + self.attention(self.attention_norm(x_BLD), mask_B11L, readout)
        return kept_BRD + self.mlp(self.mlp_norm(kept_BRD))


class Fusion(nn.Module):
    """Blocks and a final norm over any sequence of tokens. The region-feature baseline uses the same class.

    Args:
        width, depth, heads, mlp_ratio, dropout: plain numbers of the transformer.
    """

    def __init__(self, width: int, depth: int, heads: int, mlp_ratio: int = 4, dropout: float = 0.0):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():  # GPT-2's: the residual stream keeps its size at any depth
            if name.endswith(("attention.out.weight", "mlp.2.weight")):
                nn.init.normal_(parameter, std=(2 * depth * width) ** -0.5)

    def forward(self, x_BLD: Tensor, keep_BL: Tensor, readout: int | None = None) -> Tensor:
        """Fuse tokens `x_BLD`; `keep_BL` is 1.0 for a real token and 0.0 for padding.

        Returns [B, R, D]: the states of the first `readout` tokens, or of all. The last block asks for these only,
        for nobody reads the others: with one of four blocks that is a fifth of the multiply-adds.
        """
        mask_B11L = ((1.0 - keep_BL) * MASKED)[:, None, None, :]
        *inner, last = self.blocks
        for block in inner:
            x_BLD = block(x_BLD, mask_B11L)
        return self.norm(last(x_BLD, mask_B11L, readout))
