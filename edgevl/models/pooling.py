"""Many tokens become one vector: attention pooling by learned queries, and vectors of length 1.

Shapes: B batch, L tokens, D width, Q queries.
"""

import torch
from torch import Tensor, nn

from edgevl.models.fusion import MASKED


class AttentionPool(nn.Module):
    """`forward(tokens [B, L, D], keep [B, L]) -> [B, Q * D]`: for each learned query a weighted mean of the tokens.

    A query and a key projection together are one linear map from a token to its score, so that is all there is.
    """

    def __init__(self, width: int, queries: int):
        super().__init__()
        self.score = nn.Linear(width, queries, bias=False)

    def forward(self, tokens_BLD: Tensor, keep_BL: Tensor | None = None) -> Tensor:
        scores_BQL = self.score(tokens_BLD).transpose(1, 2)
        if keep_BL is not None:
            scores_BQL = scores_BQL + ((1.0 - keep_BL) * MASKED)[:, None]
        return (torch.softmax(scores_BQL, dim=-1) @ tokens_BLD).flatten(1)


def unit_length(vectors: Tensor) -> Tensor:
    """Return vectors [..., D] divided by their length."""
    return vectors / vectors.norm(dim=-1, keepdim=True)
