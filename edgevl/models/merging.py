"""What is settled in a backbone before it is captured: branches are merged, standardized filters folded."""

import copy
from typing import TYPE_CHECKING

from edgevl.models.filters import fold_standardized

if TYPE_CHECKING:
    from edgevl.models.vqa import VqaModel

_METHODS = ("fuse", "reparameterize", "switch_to_deploy")


def deployed(model: "VqaModel") -> "VqaModel":
    """Return a copy to capture, in eval mode: RepViT's, FastViT's and MobileOne's branches merged, filters folded.

    Only the backbone is looked at: our own modules have a `fuse` of another meaning.
    """
    from timm.utils.model import reparameterize_model

    copied = copy.deepcopy(model).eval()
    backbone = copied.core.vision.backbone
    if any(hasattr(module, name) for module in backbone.modules() for name in _METHODS):
        copied.core.vision.backbone = reparameterize_model(backbone, inplace=True)
    fold_standardized(copied.core.vision)
    return copied
