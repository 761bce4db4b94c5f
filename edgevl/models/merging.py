"""Merge the branches of re-parameterizable blocks (RepViT, FastViT, MobileOne) before a model is captured."""

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgevl.models.vqa import VqaModel

_METHODS = ("fuse", "reparameterize", "switch_to_deploy")


def merged_branches(model: "VqaModel") -> "VqaModel":
    """Return a copy in eval mode. Only the backbone is looked at: our own modules have a `fuse` of another meaning."""
    from timm.utils.model import reparameterize_model

    copied = copy.deepcopy(model).eval()
    backbone = copied.core.vision.backbone
    if any(hasattr(module, name) for module in backbone.modules() for name in _METHODS):
        copied.core.vision.backbone = reparameterize_model(backbone, inplace=True)
    return copied
