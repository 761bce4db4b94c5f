"""The region-feature baseline: what a vision-language model did before it could read pixels.

A detector (torchvision's Faster R-CNN with ResNet-50 and FPN, 600 x 1000) finds boxes; the features of its 36 best
boxes are the visual tokens of the *same* fusion transformer and answer head as ours. This file holds the modules; the
timed pipeline around them, in the runtime of our model, is in `edgevl.bench`.

Shapes: B batch, H x W picture, N anchors, R proposals, K regions kept, F region feature, T text tokens, D width, A
answers.

The weights are untrained, because only time is claimed. What decides the time of a detector and does depend on the
weights is how much work its two suppressions (NMS) get; `settle` and `edgevl.bench.region_export` set that from
stated targets.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from edgevl.config import ModelConfig
from edgevl.errors import InputError
from edgevl.models.core import PAD_ID, TextEmbedding
from edgevl.models.fusion import Fusion
from edgevl.models.vqa import AnswerHead

PIXEL_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, as torchvision's detectors
PIXEL_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class RegionConfig:
    """torchvision's own numbers for Faster R-CNN at test time; only the tests make it smaller."""

    name: str = "region-r50"
    backbone: str = "resnet50"
    height: int = 600  # of the picture that the detector reads, in pixels
    width: int = 1000
    classes: int = 91  # COCO's, background included
    pre_nms: int = 1000  # proposals that enter NMS, per pyramid level
    post_nms: int = 1000  # proposals that leave NMS, in all
    proposal_iou: float = 0.7
    score_threshold: float = 0.05  # a class score below it is not a candidate
    class_iou: float = 0.5
    regions: int = 36  # K: boxes that become visual tokens (Anderson et al., arXiv 1707.07998)
    feature_width: int = 1024  # F: output of the box head
    candidates: int = 400  # class scores above the threshold that the untrained class head is calibrated to give
    seed: int = 0

    def __post_init__(self) -> None:
        if self.regions > self.post_nms:
            raise InputError(f"regions {self.regions} is more than the proposals that leave NMS, {self.post_nms}")

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width after padding to a multiple of 32, as torchvision batches pictures."""
        return -(-self.height // 32) * 32, -(-self.width // 32) * 32


def build_detector(config: RegionConfig) -> Any:
    """torchvision's Faster R-CNN with FPN, fresh weights from `config.seed`, in eval mode."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        backbone = resnet_fpn_backbone(
            backbone_name=config.backbone, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
        )
        return FasterRCNN(
            backbone,
            num_classes=config.classes,
            min_size=config.height,
            max_size=config.width,
            rpn_pre_nms_top_n_test=config.pre_nms,
            rpn_post_nms_top_n_test=config.post_nms,
            rpn_nms_thresh=config.proposal_iou,
            box_score_thresh=config.score_threshold,
            box_nms_thresh=config.class_iou,
        ).eval()


class RegionTrunk(nn.Module):
    """Backbone, FPN and RPN head of a detector: everything dense, in front of the first NMS.

    forward: `image` uint8 [1, H, W, 3] RGB -> four feature maps p2..p5 float [1, 256, h, w], `objectness` float [N] and
    `deltas` float [N, 4] in torchvision's order of anchors (level, row, column, anchor).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, detector: Any, config: RegionConfig):
        super().__init__()
        self.backbone = detector.backbone
        self.rpn_head = detector.rpn.head
        height, width = config.padded
        self.padding = (0, width - config.width, 0, height - config.height)
        self.register_buffer("mean", 255.0 * torch.tensor(PIXEL_MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("std", 255.0 * torch.tensor(PIXEL_STD).reshape(1, 3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        pixels = (image.float().permute(0, 3, 1, 2) - self.mean) / self.std
        levels = list(self.backbone(nn.functional.pad(pixels, self.padding)).values())
        objectness, deltas = self.rpn_head(levels)
        flat = torch.cat([level.permute(0, 2, 3, 1).reshape(-1) for level in objectness])
        return (*levels[:4], flat, torch.cat([per_anchor(level) for level in deltas]))


def per_anchor(deltas: Tensor) -> Tensor:
    """[1, anchors * 4, h, w] -> [h * w * anchors, 4], torchvision's order."""
    _, channels, height, width = deltas.shape
    return deltas.reshape(channels // 4, 4, height, width).permute(2, 3, 0, 1).reshape(-1, 4)


def settle(detector: Any, config: RegionConfig, image: Tensor) -> None:
    """Give untrained weights sane magnitudes, once, from one picture (uint8 [1, H, W, 3]), in place.

    Batch norm takes the picture's own statistics, so that features have unit scale in every layer; the last layer of
    the RPN is scaled so that box deltas have a standard deviation of 0.2, so that proposals stay near their anchors.
    """
    trunk = RegionTrunk(detector, config)
    norms = [module for module in detector.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        *_, deltas = trunk(image)
        head = detector.rpn.head.bbox_pred
        head.weight.mul_(0.2 / deltas.std().clamp(min=1e-6))
        head.bias.zero_()
    for norm in norms:
        norm.eval()


def make_anchors(detector: Any, config: RegionConfig) -> tuple[Tensor, list[int]]:
    """All anchors float [N, 4] (x0, y0, x1, y1 pixels) and how many there are per pyramid level."""
    from torchvision.models.detection.image_list import ImageList

    height, width = config.padded
    strides = (4, 8, 16, 32, 64)
    maps = [torch.empty(1, 1, -(-height // stride), -(-width // stride)) for stride in strides]
    images = ImageList(torch.empty(1, 3, height, width), [(height, width)])
    anchors = detector.rpn.anchor_generator(images, maps)[0]
    per_cell = detector.rpn.anchor_generator.num_anchors_per_location()
    counts = [count * level.shape[2] * level.shape[3] for count, level in zip(per_cell, maps, strict=True)]
    return anchors, counts


class RegionAnswerer(nn.Module):
    """Region features and words to an answer, with our model's text embedding, fusion transformer and answer head.

    A region token is the sum of its projected feature and of its projected geometry, as in UNITER (arXiv 1909.11740).

    forward: `features` float [B, K, F], `boxes` float [B, K, 4] in 0..1 (x0, y0, x1, y1), `input_ids` int [B, T]
    -> logits float [B, A].
    """

    def __init__(self, config: ModelConfig, feature_width: int):
        super().__init__()
        self.text = TextEmbedding(config)
        self.project = nn.Linear(feature_width, config.width)
        self.feature_norm = nn.LayerNorm(config.width)
        self.geometry = nn.Linear(7, config.width)
        self.geometry_norm = nn.LayerNorm(config.width)
        self.fusion = Fusion(config.width, config.depth, config.heads, config.mlp_ratio)
        self.head = AnswerHead(config.width, config.num_answers)

    def forward(self, features: Tensor, boxes: Tensor, input_ids: Tensor) -> Tensor:
        size = boxes[..., 2:] - boxes[..., :2]
        geometry = torch.cat([boxes, size, size[..., :1] * size[..., 1:]], dim=-1)
        regions = self.feature_norm(self.project(features)) + self.geometry_norm(self.geometry(geometry))
        keep_text = (input_ids != PAD_ID).to(features.dtype)
        keep = torch.cat([keep_text, torch.ones_like(boxes[..., 0])], dim=1)
        states = self.fusion(torch.cat([self.text(input_ids), regions], dim=1), keep, readout=1)
        return self.head(states[:, 0])
