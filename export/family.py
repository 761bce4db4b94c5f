"""The family that every target is tested on: one small model per timm backbone, and the named configs.

The backbones are what people put on phones and boards: convolutional, re-parameterized, hybrid, and plain transformers.
Their weights are untrained: what is proved of them is that the artifact computes what PyTorch does.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevl.config import ModelConfig

if TYPE_CHECKING:
    from torch.nn import Module

_SIZE = 64
# backbone -> (index of the feature map, pixels per token, options for timm, side of the picture)
_BACKBONES: dict[str, tuple[int, int, dict[str, Any], int]] = {
    "resnet10t": (3, 16, {}, _SIZE),
    "resnet18": (3, 16, {}, _SIZE),
    "resnet50": (3, 16, {}, _SIZE),
    "regnety_002": (3, 16, {}, _SIZE),
    "mobilenetv3_small_050": (3, 16, {}, _SIZE),
    "mobilenetv4_conv_small_050": (3, 16, {}, _SIZE),
    "mobilenetv4_hybrid_medium": (3, 16, {}, _SIZE),
    "efficientnet_lite0": (3, 16, {}, _SIZE),
    "ghostnet_100": (3, 16, {}, _SIZE),
    "repvit_m0_9": (2, 16, {}, _SIZE),
    "mobileone_s0": (3, 16, {}, _SIZE),
    "fastvit_t8": (2, 16, {}, _SIZE),
    "convnext_atto": (2, 16, {}, _SIZE),
    "convnextv2_atto": (2, 16, {}, _SIZE),
    "efficientvit_b0": (2, 16, {}, _SIZE),
    "efficientvit_m0": (0, 16, {}, _SIZE),
    "edgenext_xx_small": (2, 16, {}, _SIZE),
    "mobilevit_xxs": (3, 16, {}, _SIZE),
    "poolformerv2_s12": (2, 16, {}, _SIZE),
    "pvt_v2_b0": (2, 16, {}, _SIZE),
    "levit_128s": (0, 16, {}, 224),
    "tiny_vit_5m_224": (2, 16, {}, 224),
    "swin_tiny_patch4_window7_224": (2, 16, {"img_size": _SIZE, "window_size": 4}, _SIZE),
    "vit_tiny_patch16_224": (2, 16, {"img_size": _SIZE}, _SIZE),
    "deit_tiny_patch16_224": (2, 16, {"img_size": _SIZE}, _SIZE),
}


def _config(backbone: str) -> ModelConfig:
    index, stride, options, side = _BACKBONES[backbone]
    return ModelConfig(
        name=backbone,
        backbone=backbone,
        backbone_options=options,
        out_index=index,
        stride=stride,
        image_size=side,
        width=64,
        depth=2,
        heads=2,
    )


FAMILY: dict[str, ModelConfig] = {name: _config(name) for name in _BACKBONES}


def write_untrained(config: ModelConfig, folder: Path, seed: int = 1) -> Path:
    """Write a model folder with seeded random weights, the words of Scenes and its answers. Returns the folder.

    Batch norms hold the statistics of a few pictures, so that signals have the scale that training gives them (with the
    trivial ones MobileOne overflows float16), and the logits are spread, so that a wrong one shows.
    """
    import torch
    from torch import nn

    from edgevl.checkpoint import save_model
    from edgevl.data.scenes import ANSWERS
    from edgevl.data.scenes.vocabulary import VOCABULARY
    from edgevl.models import build_model
    from edgevl.tokenizer import Tokenizer

    tokenizer, labels = Tokenizer.from_words(VOCABULARY), list(ANSWERS)
    torch.manual_seed(seed)
    model = build_model(config.replace(vocab_size=tokenizer.vocab_size, num_answers=len(labels)))
    nn.init.normal_(model.head[-1].weight, std=0.6)  # pyright: ignore[reportArgumentType]
    _set_batch_statistics(model.core.vision, config.image_size)
    return save_model(folder, model, tokenizer, labels)


def _set_batch_statistics(vision: "Module", size: int, pictures: int = 8) -> None:
    """Let every batch norm take the statistics of some pictures of Scenes."""
    import torch
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    from edgevl.data.scenes import Scenes

    scenes = Scenes("train", size=max(size, 32))
    images = [torch.from_numpy(scenes[index].image) for index in range(pictures)]
    norms = [module for module in vision.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        if norm.weight is not None and not norm.weight.any():
            nn.init.ones_(norm.weight)  # timm starts residual branches at zero, and a converter folds them away
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        vision(torch.stack(images).permute(0, 3, 1, 2).float())
    vision.eval()
