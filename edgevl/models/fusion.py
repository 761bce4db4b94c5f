"""The single-stream transformer that fuses words and visual tokens.

Shapes: B batch, L sequence (text then visual tokens), R tokens that are read out, N = B * L rows of all sequences,
M = B * R, D width, H heads, E = D / H channels of a head. Tokens are rows [N, D] from the first block to the last norm:
a linear layer of rank 3 becomes a product between two reshapes in most converters.

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

    def _split(self, x_ND: Tensor, batch: int) -> Tensor:
        rows, width = x_ND.shape
        return x_ND.reshape(batch, rows // batch, self.heads, width // self.heads).transpose(1, 2)

    def forward(self, x_ND: Tensor, asking_MD: Tensor, mask_B11L: Tensor) -> Tensor:
        batch = mask_B11L.shape[0]
        q_BHRE = self._split(self.query(asking_MD) * self.scale, batch)
        k_BHLE, v_BHLE = self._split(self.key(x_ND), batch), self._split(self.value(x_ND), batch)
        weights_BHRL = torch.softmax(q_BHRE @ k_BHLE.transpose(-2, -1) + mask_B11L, dim=-1)
        mixed_MD = (weights_BHRL @ v_BHLE).transpose(1, 2).reshape(asking_MD.shape)
        return self.out(mixed_MD)


def first_tokens(x_ND: Tensor, batch: int, count: int | None) -> Tensor:
    """Return the rows of the first `count` tokens of each sequence, [B * count, D]; None: all rows."""
    if count is None:
        return x_ND
    return x_ND.reshape(batch, x_ND.shape[0] // batch, x_ND.shape[1])[:, :count].reshape(batch * count, x_ND.shape[1])


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

    def forward(self, x_ND: Tensor, mask_B11L: Tensor, readout: int | None = None) -> Tensor:
        batch, normed_ND = mask_B11L.shape[0], self.attention_norm(x_ND)
        attended_MD = self.attention(normed_ND, first_tokens(normed_ND, batch, readout), mask_B11L)
        kept_MD = first_tokens(x_ND, batch, readout) + attended_MD
        return kept_MD + self.mlp(self.mlp_norm(kept_MD))


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
        batch, length, width = x_BLD.shape
        x_ND = x_BLD.reshape(batch * length, width)
        *inner, last = self.blocks
        for block in inner:
            x_ND = block(x_ND, mask_B11L)
        return self.norm(last(x_ND, mask_B11L, readout)).reshape(batch, readout or length, width)
