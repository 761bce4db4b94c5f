"""A small object detector for the region-feature model, region distillation and pseudo-labels, and its folder.

torchvision's Faster R-CNN over two maps of a timm backbone, with heads for attributes on its box features, as the
detectors of region-feature models have (Anderson et al., arXiv 1707.07998).

Shapes: B pictures, S side, N objects of a picture, R proposals of all pictures, K regions a picture, F region feature.
Boxes are x0, y0, x1, y1; classes count from 0 outside of this file (torchvision's 0 is the background).
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevl.atomic import write_json
from edgevl.config import check_fields, check_options
from edgevl.errors import InputError
from edgevl.limits import check_name, check_real, check_text, check_whole
from edgevl.models.checkpoint import load_weights, save_weights
from edgevl.reading import read_json

FILES = ("config.json", "model.safetensors")
REGION_IOU = 0.5  # of two regions from which the worse is suppressed, whatever their classes


# The least and the most that a number of a config may be, as in `edgevl.config`.
_WHOLE = {"image_size": (16, 4096), "channels": (1, 4096), "feature_width": (1, 2**14), "pool": (1, 32)}
_WHOLE |= {"proposals": (1, 10_000)}
_MOST_LABELS = 10_000


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """The defaults fit Scenes: sides of 15 to 56 pixels in a picture of 128 (measured: docs/regions.md)."""

    name: str = "detector"
    backbone: str = "resnet10t"  # any timm model that offers features_only; nano's
    backbone_options: dict[str, Any] = dataclasses.field(default_factory=lambda: {"stem_width": 16})
    levels: tuple[int, int] = (2, 3)  # the backbone's maps that are looked at: strides 8 and 16
    image_size: int = 128  # S
    channels: int = 96  # of the feature pyramid
    feature_width: int = 256  # F
    pool: int = 5  # cells along one side of a pooled box
    # Sides of the anchors of each level and their ratios of height to width; sides as shares of the picture's.
    anchors: tuple[tuple[float, ...], ...] = ((0.1875, 0.25), (0.3125, 0.40625))
    ratios: tuple[float, ...] = (0.6, 1.0, 1.6)
    proposals: int = 60  # that leave the first suppression
    classes: tuple[str, ...] = ()
    attributes: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # name -> its values

    def __post_init__(self) -> None:
        """Raise `InputError` for what is out of its range."""
        check_name(self.name, "the detector's name")
        check_text(self.backbone, "backbone")
        check_options(self.backbone_options)
        for key, (low, high) in _WHOLE.items():
            check_whole(getattr(self, key), key, low, high)
        if not isinstance(self.levels, tuple) or len(self.levels) != 2:
            raise InputError("levels must be two maps of the backbone, for example [2, 3]")
        for level in self.levels:
            check_whole(level, "levels", 0, 31)
        _check_anchors(self.anchors, self.ratios)
        for name, values in {"classes": self.classes, **_mapping(self.attributes)}.items():
            _check_labels(values, name)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DetectorConfig":
        """Raises `InputError` for a field that does not exist (with the nearest known name)."""
        check_fields(cls, values, "detector config field")
        return cls(**{key: _tuples(value) for key, value in values.items()})


def _check_anchors(anchors: Any, ratios: Any) -> None:
    if not isinstance(anchors, tuple) or len(anchors) != 2:
        raise InputError("anchors must be two lists of sides, for the two levels")
    for sides in (*anchors, ratios):
        if not isinstance(sides, tuple) or not 1 <= len(sides) <= 16:
            raise InputError("anchors and ratios must be lists of 1 to 16 numbers")
        for value in sides:
            check_real(value, "anchors and ratios", 1e-3, 100)


def _check_labels(values: Any, name: str) -> None:
    if not isinstance(values, tuple) or len(values) > _MOST_LABELS:
        raise InputError(f"{name} must be a list of at most {_MOST_LABELS} texts")
    for value in values:
        check_text(value, name)


def _mapping(values: Any) -> dict[str, Any]:
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError("attributes must be a mapping of names to lists of values")
    return values


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


class Regions(NamedTuple):
    """The best K boxes of each picture, best first; where fewer were found, the rest is zero."""

    boxes: Tensor  # float [B, K, 4], shares of the side
    scores: Tensor  # float [B, K], of the best class
    features: Tensor  # float [B, K, F]
    classes: Tensor  # int64 [B, K]
    attributes: dict[str, Tensor]  # int64 [B, K] each


class Detector(nn.Module):
    """The detector: `losses` in training, `detect` for its mAP, `regions` for whoever uses it."""

    mean = 127.5
    std = 63.75  # as nano's, of values in 0..255

    def __init__(self, config: DetectorConfig):
        super().__init__()
        self.config = config
        self.network = _faster_rcnn(config)
        width = config.feature_width
        self.attributes = nn.ModuleDict({name: nn.Linear(width, len(v)) for name, v in config.attributes.items()})

    def losses(self, image_B3SS: Tensor, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Named losses of uint8 or float pictures 0..255.

        targets: for each picture `boxes` float [N, 4] in pixels, `labels` int64 [N], and each attribute int64 [N].
        """
        from torchvision.models.detection.roi_heads import fastrcnn_loss

        images, maps = self._maps(image_B3SS)
        shifted = [{**target, "labels": target["labels"] + 1} for target in targets]
        with _full_precision(image_B3SS):
            proposals, first = self.network.rpn(images, maps, shifted)
            proposals, matched, labels, deltas = self.network.roi_heads.select_training_samples(proposals, shifted)
            vectors_RF = self._vectors(maps, proposals, images.image_sizes)
            logits_RC, moves_R4C = self.network.roi_heads.box_predictor(vectors_RF)
            loss_class, loss_box = fastrcnn_loss(logits_RC, moves_R4C, labels, deltas)
            losses = {"rpn.objectness": first["loss_objectness"], "rpn.box": first["loss_rpn_box_reg"]}
            losses |= {"head.class": loss_class, "head.box": loss_box}
            real_R = torch.cat(labels) > 0
            for name, head in self.attributes.items():
                wanted_R = torch.cat([target[name][chosen] for target, chosen in zip(targets, matched)])
                losses[f"head.{name}"] = F.cross_entropy(head(vectors_RF[real_R]), wanted_R[real_R])
        return losses

    def detect(self, image_B3SS: Tensor) -> list[dict[str, Tensor]]:
        """torchvision's detections of each picture: `boxes` in pixels, `scores`, `labels`, suppressed per class."""
        images, maps = self._maps(image_B3SS)
        with _full_precision(image_B3SS):
            proposals, _ = self.network.rpn(images, maps)
            found, _ = self.network.roi_heads(maps, proposals, images.image_sizes)
        return [{**picture, "labels": picture["labels"] - 1} for picture in found]

    def regions(self, image_B3SS: Tensor, count: int) -> Regions:
        """The best `count` boxes, suppressed across classes, each with the feature of the proposal it came from."""
        images, maps = self._maps(image_B3SS)
        with _full_precision(image_B3SS):
            proposals, _ = self.network.rpn(images, maps)
            vectors_RF = self._vectors(maps, proposals, images.image_sizes)
            logits, deltas = self.network.roi_heads.box_predictor(vectors_RF)
            boxes_RC4 = self.network.roi_heads.box_coder.decode(deltas, proposals)
        scores_R, classes_R = logits.softmax(-1)[:, 1:].max(-1)
        boxes_R4 = boxes_RC4[torch.arange(len(boxes_RC4)), classes_R + 1].clamp(0, self.config.image_size)
        named = {name: head(vectors_RF).argmax(-1) for name, head in self.attributes.items()}
        rows = _best(boxes_R4, scores_R, [len(picture) for picture in proposals], count)

        def pick(values: Tensor) -> Tensor:
            padded = torch.cat([values, torch.zeros_like(values[:1])])  # row -1 is nothing
            return padded[rows]

        boxes = pick(boxes_R4) / self.config.image_size
        return Regions(boxes, pick(scores_R), pick(vectors_RF), pick(classes_R), {k: pick(v) for k, v in named.items()})

    def _maps(self, image_B3SS: Tensor) -> tuple[Any, dict[str, Tensor]]:
        from torchvision.models.detection.image_list import ImageList

        pixels = (image_B3SS.float() - self.mean) / self.std
        side = self.config.image_size
        images = ImageList(pixels, [(side, side)] * len(pixels))
        maps = self.network.backbone(pixels.contiguous(memory_format=torch.channels_last))
        return images, {name: level.float() for name, level in maps.items()}

    def _vectors(self, maps: dict[str, Tensor], proposals: list[Tensor], sizes: list[tuple[int, int]]) -> Tensor:
        heads = self.network.roi_heads
        return heads.box_head(heads.box_roi_pool(maps, proposals, sizes))


def _full_precision(like: Tensor) -> torch.autocast:
    """Boxes are pixels: bf16 has steps of half a pixel at 100. What costs time, the backbone, is outside."""
    return torch.autocast(like.device.type, enabled=False)


def _best(boxes_R4: Tensor, scores_R: Tensor, counts: list[int], keep: int) -> Tensor:
    """Rows [B, keep] of the best boxes of each picture after suppression, -1 where there are no more."""
    from torchvision.ops import nms

    rows = torch.full((len(counts), keep), -1, device=boxes_R4.device)
    start = 0
    for picture, count in enumerate(counts):
        part = slice(start, start + count)
        best = nms(boxes_R4[part], scores_R[part], REGION_IOU)[:keep]
        rows[picture, : len(best)] = best + start
        start += count
    return rows


def _faster_rcnn(config: DetectorConfig) -> Any:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.ops import MultiScaleRoIAlign

    side = config.image_size
    sizes = tuple(tuple(side * share for share in level) for level in config.anchors)
    names = [str(level) for level in range(len(config.levels))]
    # A box goes to the coarse map when it is larger than the middle between the anchors of the two.
    middle = side * (max(config.anchors[0]) + min(config.anchors[-1])) / 2
    pool = MultiScaleRoIAlign(
        names, config.pool, sampling_ratio=1, canonical_scale=round(middle), canonical_level=1 + config.levels[-1]
    )
    return FasterRCNN(
        Pyramid(config),
        min_size=side,
        max_size=side,
        rpn_anchor_generator=AnchorGenerator(sizes, (config.ratios,) * len(sizes)),
        rpn_pre_nms_top_n_train=200,
        rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_train=config.proposals,
        rpn_post_nms_top_n_test=config.proposals,
        rpn_fg_iou_thresh=0.6,  # every object of Scenes has four anchors above it, at 0.7 a third has none
        rpn_batch_size_per_image=64,
        box_roi_pool=pool,
        box_head=TwoMLPHead(config.channels * config.pool**2, config.feature_width),
        box_predictor=FastRCNNPredictor(config.feature_width, len(config.classes) + 1),
        box_batch_size_per_image=32,
        box_positive_fraction=0.5,
        box_score_thresh=0.02,
    )


class Pyramid(nn.Module):
    """A timm backbone and a feature pyramid over two of its maps: `forward(pixels) -> {"0": map, "1": map}`."""

    def __init__(self, config: DetectorConfig):
        super().__init__()
        import timm
        from torchvision.ops import FeaturePyramidNetwork

        self.body = timm.create_model(
            config.backbone, pretrained=False, features_only=True, out_indices=config.levels, **config.backbone_options
        )
        self.pyramid = FeaturePyramidNetwork(self.body.feature_info.channels(), config.channels)  # pyright: ignore
        self.out_channels = config.channels

    def forward(self, pixels_B3SS: Tensor) -> dict[str, Tensor]:
        return self.pyramid({str(level): found for level, found in enumerate(self.body(pixels_B3SS))})


@dataclasses.dataclass(frozen=True)
class LoadedDetector:
    detector: Detector  # float32, eval mode, frozen
    config: DetectorConfig
    path: Path
    sha256: str  # of model.safetensors


def save_detector(folder: Path, detector: Detector) -> Path:
    """Write a detector folder: `config.json`, which holds the labels too, and `model.safetensors` (fp16)."""
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / "model.safetensors", detector)
    write_json(folder / "config.json", dataclasses.asdict(detector.config))
    return folder


def load_detector(path: Path | str) -> LoadedDetector:
    """Load a detector folder. Raises `InputError` when there is none, or it does not fit its config."""
    folder = Path(path)
    for name in FILES:
        if not (folder / name).is_file():
            raise InputError(
                f"no detector at {folder}: {name} is missing; train one with `edgevl data detector detect_scenes`"
            )
    values = read_json(folder / "config.json")
    try:
        config = DetectorConfig.from_dict(values)
    except InputError as error:
        raise InputError(f"{folder} is not a detector: {error}") from None
    detector = Detector(config)
    digest = load_weights(detector, folder / "model.safetensors")
    return LoadedDetector(detector.eval().requires_grad_(False), config, folder, digest)
