"""The family that every target is tested on: one small model per timm backbone, and the named configs.

The backbones are what people put on phones and boards: convolutional, re-parameterized, hybrid, and plain transformers.
Their weights are untrained: what is proved of them is that the artifact computes what PyTorch does.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevl.config import ModelConfig
from edgevl.precisions import PRECISIONS

if TYPE_CHECKING:
    from torch.nn import Module

    from edgevl.verify.run import VerifyReport

_SIZE = 64
_CLOSED = 1e-2  # a scale below it closes its branch
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
# More of timm that people deploy: backbone -> index of the feature map of 16 pixels. `_SIZED` are told the side.
_WIDER = {
    "mobilenetv2_035": 3, "mobilenetv3_large_075": 3, "tf_mobilenetv3_small_minimal_100": 3,
    "mobilenetv4_conv_medium": 3, "mobilenet_edgetpu_v2_xs": 3, "efficientnet_b0": 3, "tf_efficientnetv2_b0": 3,
    "efficientnet_es": 3, "mixnet_s": 3, "mnasnet_small": 3, "hardcorenas_a": 3, "fbnetc_100": 3, "fbnetv3_b": 3,
    "tinynet_e": 3, "lcnet_035": 3, "ghostnetv2_100": 3, "ghostnetv3_050": 3, "repghostnet_050": 3, "rexnet_100": 3,
    "regnetx_002": 3, "resnet18d": 3, "resnext26ts": 3, "ecaresnet26t": 3, "resnest14d": 3, "skresnet18": 3,
    "res2net50_14w_8s": 3, "resnetblur18": 3, "resnetv2_50x1_bit": 3, "nf_regnet_b0": 3, "nf_resnet26": 3,
    "eca_nfnet_l0": 3, "convnext_zepto_rms": 2, "convnextv2_femto": 2, "inception_next_atto": 2, "mambaout_femto": 2,
    "repvgg_a0": 3, "repvit_m1": 2, "mobileone_s1": 3, "fastvit_sa12": 2, "mobilevit_xs": 3, "mobilevitv2_050": 3,
    "edgenext_x_small": 2, "poolformer_s12": 2, "efficientformer_l1": 2, "efficientformerv2_s0": 2, "starnet_s1": 2,
    "swiftformer_xs": 2, "shvit_s1": 0, "densenet121": 3, "vgg11_bn": 4, "dla46_c": 4, "hrnet_w18_small": 3,
    "selecsls42": 3, "cs3darknet_s": 3, "ese_vovnet19b_slim_dw": 3, "hgnetv2_b0": 2, "coatnet_pico_rw_224": 3,
    "swinv2_cr_tiny_224": 2, "xcit_nano_12_p16_224": 2, "visformer_tiny": 1,
}  # fmt: skip
# What these are tested on: what people ship, and every kind of quantization.
QUANTIZED = {
    "onnx": ("fp32", "w8", "w8a8"),
    "coreml": ("fp16", "w4", "w8a8"),
    "executorch": ("fp32", "w8a8"),
    "litert": ("fp32", "w8", "w8a8"),
}
_SIZED = {"efficientformerv2_s0", "coatnet_pico_rw_224", "swinv2_cr_tiny_224", "visformer_tiny"}


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


def _wider(backbone: str) -> ModelConfig:
    return ModelConfig(
        name=backbone,
        backbone=backbone,
        backbone_options={"img_size": _SIZE} if backbone in _SIZED else {},
        out_index=_WIDER[backbone],
        stride=16,
        image_size=_SIZE,
        width=64,  # narrower, the words' transformer has no weight that is worth 4 bits
        depth=1,
        heads=2,
    )


WIDER: dict[str, ModelConfig] = {name: _wider(name) for name in _WIDER}


def untrained_problems(report: "VerifyReport") -> list[str]:
    """Return sentences that say what is wrong with the artifact of an untrained model.

    Its values hardly depend on the picture: noise is large beside what the picture moves, and best answers are near
    ties. So noise is judged beside the largest value, and answers are not judged.
    """
    problems = [problem for problem in report.audit.problems if not problem.startswith(("parity", "accuracy"))]
    least, found = PRECISIONS[report.precision].untrained_psnr_db, report.parity and report.parity.psnr_db
    if found is None or found < least:
        problems.append(f"PSNR {found} dB, at least {least:g} dB is needed for {report.precision}")
    return problems


def write_untrained(config: ModelConfig, folder: Path, seed: int = 1) -> Path:
    """Write a model folder with seeded random weights, the words of Scenes and its answers. Returns the folder.

    Batch norms hold the statistics of a few pictures, so that signals have the scale that training gives them (with the
    trivial ones MobileOne overflows float16), branches that timm starts at zero count, and the logits are spread, so
    that a wrong one shows.
    """
    import torch
    from torch import nn

    from edgevl.data.scenes import ANSWERS
    from edgevl.data.scenes.vocabulary import VOCABULARY
    from edgevl.inputs.tokenizer import Tokenizer
    from edgevl.models import build_model
    from edgevl.models.checkpoint import save_model

    tokenizer, labels = Tokenizer.from_words(VOCABULARY), list(ANSWERS)
    torch.manual_seed(seed)
    model = build_model(config.replace(vocab_size=tokenizer.vocab_size, num_answers=len(labels)))
    nn.init.normal_(model.head[-1].weight, std=0.6)  # pyright: ignore[reportArgumentType]
    _open_branches(model.core.vision)
    _set_batch_statistics(model.core.vision, config.image_size)
    return save_model(folder, model, tokenizer, labels)


def _open_branches(vision: "Module") -> None:
    """Give layer scales, gains and attention biases, which timm starts at 0 to 1e-5, values as training gives them.

    Else a branch adds nothing that could be seen in a logit, whatever a converter makes of it, or is folded away.
    """
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    for module in vision.modules():
        for name, value in module.named_parameters(recurse=False):
            constant = value.numel() > 0 and value.min().item() == value.max().item()
            if constant and abs(value.max().item()) < _CLOSED and name != "bias" and not isinstance(module, _BatchNorm):
                nn.init.normal_(value, 0.3, 0.1)


def _set_batch_statistics(vision: "Module", size: int, pictures: int = 8) -> None:
    """Let every batch norm take the statistics of some pictures of Scenes."""
    import torch
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    from edgevl.data import open_scenes

    scenes = open_scenes("scenes:train", size=size)
    images = [torch.from_numpy(scenes[index].pictures[0]) for index in range(pictures)]
    norms = [module for module in vision.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        if norm.weight is not None and not norm.weight.any():
            nn.init.ones_(norm.weight)  # timm starts residual branches at zero, and a converter folds them away
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        vision(torch.stack(images).permute(0, 3, 1, 2).float())
    vision.eval()
