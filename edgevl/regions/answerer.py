"""Region-feature models: what a vision-language model did before it could read pixels.

A detector finds boxes, the features of its 36 best boxes are the visual tokens, and a transformer fuses them with the
words. This file holds the named variants and the transformer; the detectors are in `edgevl.regions.parts`,
and the timed pipeline around them, in the runtime of our model, is in `edgevl.bench`.

Shapes: B batch, K regions kept, F region feature, T text tokens, D width, A answers.

The weights are untrained, because only time is claimed. What decides the time of a detector and does depend on the
weights is how much work its suppressions (NMS) get; `settle` and `edgevl.regions.export` set that from stated
targets.
"""

import dataclasses

import torch
from torch import Tensor, nn

from edgevl.config import ModelConfig
from edgevl.errors import InputError
from edgevl.models.core import PAD_ID, TextEmbedding
from edgevl.models.fusion import Fusion
from edgevl.models.vqa import AnswerHead

# BERT-base as ModelConfig fields: the transformer of UNITER-base (arXiv 1909.11740) and of ViLT (arXiv 2102.03334).
BERT_BASE = {"width": 768, "depth": 12, "heads": 12, "mlp_ratio": 4, "vocab_size": 30522}


@dataclasses.dataclass(frozen=True)
class RegionConfig:
    """A detector at test time and what follows it. The defaults are torchvision's Faster R-CNN R50-FPN."""

    name: str = "region-r50"
    detector: str = "resnet-fpn"  # a key of `edgevl.regions.parts.LAYOUTS`
    backbone: str = "resnet50"  # of torchvision
    height: int = 600  # of the picture that the detector reads, in pixels
    width: int = 1000
    padding: int = 32  # the picture is padded to a multiple of it; torchvision pads batches to 32
    classes: int = 91  # background included; 91 is COCO's
    pre_nms: int = 1000  # proposals that enter the first NMS, per pyramid level
    post_nms: int = 1000  # proposals that leave it, in all
    proposal_iou: float = 0.7
    two_stage: bool = True  # a box head scores the proposals and a second NMS chooses among them
    per_class: bool = True  # the second NMS knows classes; else a region has one score, that of its best class
    refine: bool = True  # the second NMS sees boxes that the class moved; else the proposals themselves
    score_threshold: float = 0.05  # a class score below it is not a candidate
    class_iou: float = 0.5
    regions: int = 36  # K: boxes that become visual tokens (Anderson et al., arXiv 1707.07998)
    feature_width: int = 1024  # F: output of the box head
    candidates: int = 400  # class scores above the threshold that the untrained class head is calibrated to give
    logit_std: float = 2.0  # of a class logit over the proposals, after calibration
    bert: bool = False  # a transformer of BERT-base's size fuses, and not ours
    # A region of side `canonical[0]` pixels is read from the map of stride 2 ** `canonical[1]`, and larger ones from
    # coarser maps (FPN, arXiv 1612.03144, equation 1).
    canonical: tuple[float, int] = (224, 4)
    fill: bool = True  # where fewer regions than K survive, the best of the suppressed follow; else zeros
    trained: bool = False
    seed: int = 0
    remarks: tuple[str, ...] = ()  # what a result must say of this variant

    def __post_init__(self) -> None:
        if self.regions > self.post_nms:
            raise InputError(f"regions {self.regions} is more than the proposals that leave NMS, {self.post_nms}")

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width after padding."""
        multiple = self.padding
        return -(-self.height // multiple) * multiple, -(-self.width // multiple) * multiple

    def fusion(self, model: ModelConfig) -> ModelConfig:
        """The shape of the transformer behind the detector; length of text and answers are always those of `model`."""
        return model.replace(**BERT_BASE) if self.bert else model


_GENOME = {  # of Visual Genome, as Anderson et al. trained on it: 1,600 classes, and regions are the proposals
    "classes": 1601,
    "refine": False,
    "candidates": 600,
    "logit_std": 4.0,
    "bert": True,
}
_LIGHT = {"backbone": "mobilenet_v3_large", "height": 320, "per_class": False, "refine": False}
_NO_EXTRAS = "no attribute head and no box refinement: nothing of them reaches the transformer"
_PUBLISHED_LOOP = (
    "the published code gives NMS every class score of every region, class by class in a loop; here only scores over "
    "the threshold enter, all classes in one call, which keeps the same regions"
)

REGION_CONFIGS: dict[str, RegionConfig] = {
    config.name: config
    for config in (
        RegionConfig(),
        RegionConfig(
            name="region-heavy",
            detector="resnet-c4",
            backbone="resnet101",
            padding=1,
            pre_nms=6000,
            post_nms=300,
            class_iou=0.3,
            feature_width=2048,
            remarks=(
                "res5 reads 7 x 7 cells a region; the published network reads 14 x 14, four times the work",
                _NO_EXTRAS,
                _PUBLISHED_LOOP,
            ),
            **_GENOME,
        ),
        RegionConfig(name="region-heavy-fpn", remarks=(_NO_EXTRAS, _PUBLISHED_LOOP), **_GENOME),
        RegionConfig(
            name="region-light-frcnn",
            detector="mobilenet-fpn",
            width=533,  # torchvision scales the shorter side to 320
            pre_nms=150,
            post_nms=150,
            **_LIGHT,
        ),
        RegionConfig(
            name="region-light-ssd",
            detector="ssdlite",
            width=320,
            pre_nms=300,
            post_nms=36,
            proposal_iou=0.55,
            two_stage=False,
            feature_width=672,
            remarks=("a region's feature is the mean of RoIAlign's 7 x 7 cells on the map of stride 16",),
            **_LIGHT,
        ),
    )
}


class RegionAnswerer(nn.Module):
    """Region features and words to an answer, with the text embedding, fusion transformer and answer head of our model.

    `config` gives their size: our model's own, or BERT-base's. (BERT normalizes after a block and ours before it, which
    takes the same operations.)

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
        return self.head(self.fuse(input_ids, self.encode_regions(features, boxes), readout=1)[:, 0])

    def encode_regions(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Region tokens [B, K, D]."""
        size = boxes[..., 2:] - boxes[..., :2]
        geometry = torch.cat([boxes, size, size[..., :1] * size[..., 1:]], dim=-1)
        return self.feature_norm(self.project(features)) + self.geometry_norm(self.geometry(geometry))

    def fuse(self, input_ids: Tensor, regions: Tensor, readout: int) -> Tensor:
        """States of the first `readout` text tokens, [B, readout, D], from words and region tokens."""
        keep_text = (input_ids != PAD_ID).to(regions.dtype)
        keep = torch.cat([keep_text, torch.ones_like(regions[..., 0])], dim=1)
        return self.fusion(torch.cat([self.text(input_ids), regions], dim=1), keep, readout)
