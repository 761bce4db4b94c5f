"""The detectors of the region-feature models, all torchvision's own modules, cut where a suppression sits.

`RegionTrunk` is everything dense in front of the first NMS, `RegionHead` what computes a feature for each box. One
`Layout` says how a detector is built and which of its feature maps are pooled.

Shapes: H x W picture, N anchors, R proposals, F region feature, C classes with background.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edgevl.errors import unknown_name
from edgevl.regions.answerer import RegionConfig

SETTLED_STD = 0.2  # of a box's move in anchor sizes: proposals overlap as neighbors do
SETTLING_REGIONS = 64  # that give the box head's batch norms their statistics


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one kind of detector is put together."""

    build: Callable[[RegionConfig], Any]
    strides: tuple[int, ...]  # of the maps that have anchors, in pixels a cell
    pooled: int  # how many of these maps, from the first, RoIAlign reads
    moves: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)  # what deltas of anchors are divided by
    cells: int = 7  # along each side of a pooled region
    samples: int = 2  # points that RoIAlign averages along each side of a cell; 2 is torchvision's value
    small_map: bool = False  # RoIAlign as a matrix product: faster where the map has few cells

    @property
    def scales(self) -> tuple[float, ...]:
        """Cells a pixel of the pooled maps."""
        return tuple(1 / stride for stride in self.strides[: self.pooled])

    @property
    def levels(self) -> tuple[int, int]:
        """Base-2 logarithms of the strides of the first and the last pooled map."""
        return self.strides[0].bit_length() - 1, self.strides[self.pooled - 1].bit_length() - 1


def layout_of(config: RegionConfig) -> Layout:
    """Raises `InputError` for an unknown detector."""
    if config.detector not in LAYOUTS:
        raise unknown_name("detector", config.detector, LAYOUTS)
    return LAYOUTS[config.detector]


def build_detector(config: RegionConfig) -> Any:
    """torchvision's `FasterRCNN` or `SSD`, fresh weights from `config.seed`, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return layout_of(config).build(config).eval()


def _faster_rcnn(backbone: nn.Module, config: RegionConfig, **parts: Any) -> Any:
    from torchvision.models.detection import FasterRCNN

    return FasterRCNN(
        backbone,
        num_classes=None if "box_predictor" in parts else config.classes,
        min_size=config.height,
        max_size=config.width,
        rpn_pre_nms_top_n_test=config.pre_nms,
        rpn_post_nms_top_n_test=config.post_nms,
        rpn_nms_thresh=config.proposal_iou,
        box_score_thresh=config.score_threshold,
        box_nms_thresh=config.class_iou,
        **parts,
    )


def _resnet_fpn(config: RegionConfig) -> Any:
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    backbone = resnet_fpn_backbone(
        backbone_name=config.backbone, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    return _faster_rcnn(backbone, config)


def _resnet_c4(config: RegionConfig) -> Any:
    """One map of stride 16 (conv4) with 12 anchors a cell; conv5 is the box head, as in Anderson et al.

    conv5 keeps its 7 x 7 cells, with stride 1, as in Mask R-CNN's C4 head (arXiv 1703.06870, figure 4).
    """
    from torchvision.models import get_model
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
    from torchvision.models.detection.rpn import RPNHead
    from torchvision.ops import Conv2dNormActivation, MultiScaleRoIAlign

    resnet: Any = get_model(config.backbone, weights=None)
    stem = (resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
    backbone: Any = nn.Sequential(*stem, resnet.layer1, resnet.layer2, resnet.layer3)
    width = backbone.out_channels = resnet.layer4[0].conv1.in_channels
    for module in resnet.layer4.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
    rpn: Any = RPNHead(512, num_anchors=12)
    rpn.conv = Conv2dNormActivation(width, 512, norm_layer=None)
    return _faster_rcnn(
        backbone,
        config,
        rpn_anchor_generator=AnchorGenerator(((64, 128, 256, 512),), ((0.5, 1.0, 2.0),)),
        rpn_head=rpn,
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=7, sampling_ratio=2),
        box_head=nn.Sequential(resnet.layer4, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        box_predictor=FastRCNNPredictor(config.feature_width, config.classes),
    )


def _mobilenet_fpn(config: RegionConfig) -> Any:
    """torchvision's constructor. Both of its backbone maps have stride 32, so RoIAlign always reads the first."""
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    return fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=config.classes)


def _ssdlite(config: RegionConfig) -> Any:
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    return ssdlite320_mobilenet_v3_large(
        weights=None,
        weights_backbone=None,
        num_classes=config.classes,
        topk_candidates=config.pre_nms,
        nms_thresh=config.proposal_iou,
    )


def _scenes(config: RegionConfig) -> Any:
    """`edgevl.regions.detector`'s: the one that is trained here."""
    from edgevl.regions.detector import Detector, DetectorConfig

    classes = tuple(map(str, range(config.classes - 1)))
    return Detector(DetectorConfig(image_size=config.height, classes=classes, proposals=config.post_nms)).network


LAYOUTS: dict[str, Layout] = {
    "scenes": Layout(_scenes, (8, 16), pooled=2, cells=5, samples=1),
    "resnet-fpn": Layout(_resnet_fpn, (4, 8, 16, 32, 64), pooled=4),
    "resnet-c4": Layout(_resnet_c4, (16,), pooled=1),
    "mobilenet-fpn": Layout(_mobilenet_fpn, (32, 32, 64), pooled=1, small_map=True),
    # One cell of 14 x 14 points is the mean of 7 x 7 cells of 2 x 2 points.
    "ssdlite": Layout(
        _ssdlite,
        (16, 32, 64, 128, 256, 512),
        pooled=1,
        moves=(10.0, 10.0, 5.0, 5.0),
        cells=1,
        samples=14,
        small_map=True,
    ),
}


class RegionTrunk(nn.Module):
    """Backbone and anchor head of a detector: everything dense, in front of the first NMS.

    forward: `image` uint8 [1, H, W, 3] RGB -> the maps that RoIAlign reads, float [1, channels, h, w], then
    `objectness` float [N] (a logit, or SSD's best class probability) and `deltas` float [N, 4] in torchvision's order
    of anchors (level, row, column, anchor).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, detector: Any, config: RegionConfig):
        super().__init__()
        self.backbone = detector.backbone
        self.score = _RpnScores(detector.rpn.head) if config.two_stage else _SsdScores(detector.head)
        self.pooled = layout_of(config).pooled
        height, width = config.padded
        self.padding = (0, width - config.width, 0, height - config.height)
        for name in ("mean", "std"):
            channels = torch.tensor(getattr(detector.transform, f"image_{name}"))
            self.register_buffer(name, 255.0 * channels.reshape(1, 3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        pixels = (image.float().permute(0, 3, 1, 2) - self.mean) / self.std
        maps = self.backbone(nn.functional.pad(pixels, self.padding))
        maps = [maps] if isinstance(maps, Tensor) else list(maps.values())
        return (*maps[: self.pooled], *self.score(maps))


class _RpnScores(nn.Module):
    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        objectness, deltas = self.head(maps)
        flat = torch.cat([level.permute(0, 2, 3, 1).reshape(-1) for level in objectness])
        return flat, torch.cat([per_anchor(level) for level in deltas])


def per_anchor(deltas: Tensor) -> Tensor:
    """[1, anchors * 4, h, w] -> [h * w * anchors, 4], torchvision's order."""
    _, channels, height, width = deltas.shape
    return deltas.reshape(channels // 4, 4, height, width).permute(2, 3, 0, 1).reshape(-1, 4)


class _SsdScores(nn.Module):
    """An anchor's score is the probability of its best class: the NMS that follows does not ask which one."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        found = self.head(maps)
        return found["cls_logits"][0].softmax(dim=-1)[:, 1:].amax(dim=-1), found["bbox_regression"][0]


class RegionHead(nn.Module):
    """RoIAlign and what follows it for each region.

    forward: maps as `RegionTrunk` gives them and, for each map, the regions to pool from it, float [n, 5] (0, then
    x0, y0, x1, y1 in pixels) -> `features` [R, F] in order of maps; of a two-stage detector also `logits` [R, C], and
    `deltas` [R, C * 4] where boxes are refined.
    """

    def __init__(self, detector: Any, config: RegionConfig):
        super().__init__()
        self.layout = layout_of(config)
        heads = detector.roi_heads if config.two_stage else None
        self.features = heads.box_head if heads else nn.Flatten()
        layers = [heads.box_predictor.cls_score, heads.box_predictor.bbox_pred] if heads else []
        self.layers = nn.ModuleList(layers if config.refine else layers[:1])

    def forward(self, maps: list[Tensor], rois: list[Tensor]) -> tuple[Tensor, ...]:
        from torchvision.ops import roi_align

        layout = self.layout
        align = align_by_product if layout.small_map else roi_align
        pooled = [
            align(level, boxes, layout.cells, scale, layout.samples)
            for level, boxes, scale in zip(maps, rois, layout.scales, strict=True)
        ]
        features = self.features(torch.cat(pooled))
        return (features, *(layer(features) for layer in self.layers))


def align_by_product(values: Tensor, rois: Tensor, cells: int, scale: float, samples: int) -> Tensor:
    """torchvision's `roi_align` (aligned=False) of one picture, for boxes inside it, as one matrix product.

    A pooled cell is a weighted mean of the map's cells, and bilinear weights are those of the row times those of the
    column.

    Args:
        values: [1, channels, h, w]. rois: [R, 5]. cells, samples: along each side of a region, of a cell.
    Returns:
        [R, channels, cells, cells].
    """
    _, channels, height, width = values.shape
    columns = _bilinear(rois[:, 1], rois[:, 3], width, cells, scale, samples)  # [R, cells, w]
    rows = _bilinear(rois[:, 2], rois[:, 4], height, cells, scale, samples)
    weights = (rows[:, :, None, :, None] * columns[:, None, :, None, :]).reshape(-1, cells * cells, height * width)
    pooled = values[0].reshape(channels, height * width) @ weights.transpose(1, 2)
    return pooled.reshape(-1, channels, cells, cells)


def _bilinear(start: Tensor, stop: Tensor, size: int, cells: int, scale: float, samples: int) -> Tensor:
    """Weights [R, cells, size] of a map's rows (or columns) in each cell of regions from `start` to `stop` [R]."""
    length = ((stop - start) * scale).clamp(min=1.0)
    steps = (torch.arange(cells * samples) + 0.5) / (cells * samples)
    points = start[:, None] * scale + length[:, None] * steps
    inside = (points <= size).to(points.dtype)  # a region shorter than a cell may end outside: such a point counts as 0
    weights = (1 - (points.clamp(0, size - 1)[:, :, None] - torch.arange(size)).abs()).clamp(min=0) * inside[:, :, None]
    return weights.reshape(-1, cells, samples, size).mean(dim=2)


def settle(detector: Any, config: RegionConfig, image: Tensor) -> None:
    """Give untrained weights sane magnitudes, once, from one picture (uint8 [1, H, W, 3]), in place.

    Batch norm takes the picture's own statistics, so that features have unit scale in every layer (and no number is so
    small that the processor slows down). The layers that move anchors are scaled so that moves have a standard
    deviation of 0.2, so that boxes stay near their anchors.
    """
    norms = [module for module in detector.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    if not config.two_stage:  # its last map is one cell, and batch norm wants two values: the picture and its mirror
        image = torch.cat([image, image.flip(2)])
    with torch.no_grad():
        *maps, _, deltas = RegionTrunk(detector, config)(image)
        RegionHead(detector, config)(maps, _random_regions(config, len(maps)))
        wanted = SETTLED_STD * torch.tensor(layout_of(config).moves)
        _scale_moves(detector, config, wanted / deltas.std(dim=0).clamp(min=1e-6))
    for norm in norms:
        norm.eval()


def _random_regions(config: RegionConfig, maps: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(config.seed)
    size = torch.tensor([config.width, config.height], dtype=torch.float32)
    corners = (size * torch.rand(SETTLING_REGIONS, 2, 2, generator=rng)).sort(dim=1).values
    rois = torch.cat([torch.zeros(SETTLING_REGIONS, 1), corners.flatten(1)], dim=1)
    return list(rois.chunk(maps))


def _scale_moves(detector: Any, config: RegionConfig, factor: Tensor) -> None:
    """Scale what the anchor head says of dx, dy, dw and dh by `factor` [4]; biases become 0."""
    if config.two_stage:
        layers = [detector.rpn.head.bbox_pred]
    else:
        layers = [block[-1] for block in detector.head.regression_head.module_list]
    for layer in layers:
        layer.weight.mul_(factor.repeat(len(layer.weight) // 4)[:, None, None, None])
        layer.bias.zero_()


def make_anchors(detector: Any, config: RegionConfig) -> tuple[Tensor, list[int]]:
    """All anchors float [N, 4] (x0, y0, x1, y1 pixels) and how many there are for each choice of the best.

    A two-stage detector chooses on each pyramid level, SSD among all anchors.
    """
    from torchvision.models.detection.image_list import ImageList

    height, width = config.padded
    sides = [(-(-height // stride), -(-width // stride)) for stride in layout_of(config).strides]
    images = ImageList(torch.empty(1, 3, height, width), [(height, width)])
    generator = detector.rpn.anchor_generator if config.two_stage else detector.anchor_generator
    anchors = generator(images, [torch.empty(1, 1, *side) for side in sides])[0]
    if not config.two_stage:
        return anchors, [len(anchors)]
    per_cell = generator.num_anchors_per_location()
    return anchors, [count * rows * columns for count, (rows, columns) in zip(per_cell, sides, strict=True)]
