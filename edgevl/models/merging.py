"""What is settled in a backbone before it is captured: branches are merged, standardized filters folded."""

import copy
from typing import TypeVar

from torch import nn

from edgevl.models.core import VisionEncoder
from edgevl.models.filters import fold_standardized

M = TypeVar("M", bound=nn.Module)
_METHODS = ("fuse", "reparameterize", "switch_to_deploy")


def deployed(model: M) -> M:
    """Return a copy to capture, in eval mode: RepViT's, FastViT's and MobileOne's branches merged, filters folded.

    Only backbones are looked at: our own modules have a `fuse` of another meaning.
    """
    from timm.utils.model import reparameterize_model

    copied = copy.deepcopy(model).eval()
    for vision in [module for module in copied.modules() if isinstance(module, VisionEncoder)]:
        if any(hasattr(module, name) for module in vision.backbone.modules() for name in _METHODS):
            vision.backbone = reparameterize_model(vision.backbone, inplace=True)
        fold_standardized(vision)
    return copied
