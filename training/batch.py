"""What objectives do with a batch before their losses."""

from collections.abc import Mapping

import torch
from torch import Tensor

from edgevl.models.core import VisionLanguageCore
from edgevl.regions.model import RegionVqaModel


def visual_tokens(core: VisionLanguageCore | RegionVqaModel, batch: Mapping[str, Tensor]) -> Tensor:
    """Tokens [B, V, D] of the pictures of a batch, or [B, K, D] of their regions where the model takes regions."""
    if isinstance(core, RegionVqaModel):
        return core.encode_regions(batch["region_features"], batch["region_boxes"])
    return core.encode_image(batch["image"].float().contiguous(memory_format=torch.channels_last))


def trim(batch: Mapping[str, Tensor], *keys: str) -> dict[str, Tensor]:
    """Drop the last columns of the texts under `keys` that are padding in all of them: they only cost time."""
    longest = max(int((batch[key] != 0).sum(-1).max()) for key in keys)
    return {**batch, **{key: batch[key][..., :longest] for key in keys}}
