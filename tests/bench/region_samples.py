"""Small detectors for the tests of the region-feature pipeline: one of each kind."""

import dataclasses

import torch

from edgevl.bench.picture import make_photo
from edgevl.regions.answerer import RegionConfig
from edgevl.regions.parts import build_detector, settle

_SMALL = RegionConfig(
    name="tiny", backbone="resnet18", height=160, width=224, classes=7, pre_nms=300, post_nms=120, candidates=60
)
_LIGHT = {"refine": False, "per_class": False}

TINY = {
    "resnet-fpn": _SMALL,
    "resnet-c4": dataclasses.replace(
        _SMALL, detector="resnet-c4", padding=1, class_iou=0.3, refine=False, feature_width=512, width=213, pre_nms=1000
    ),
    "mobilenet-fpn": dataclasses.replace(_SMALL, detector="mobilenet-fpn", width=213, post_nms=60, **_LIGHT),
    "ssdlite": dataclasses.replace(
        _SMALL, detector="ssdlite", width=160, post_nms=36, two_stage=False, feature_width=672, **_LIGHT
    ),
}


def settled_detector(config):
    """The detector that `export_region` builds: the same seed, settled on the same picture."""
    detector = build_detector(config)
    settle(detector, config, torch.from_numpy(make_photo(config.height, config.width).copy())[None])
    return detector
