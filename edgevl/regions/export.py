"""Write the neural parts of a region-feature pipeline as ONNX files, so that all opponents meet in one runtime.

`trunk.onnx`   picture -> feature maps, scores and moves of anchors (`RegionTrunk`)
`boxes.onnx`   feature maps and boxes -> region features, class logits, moves (`RegionHead`)
`fusion.onnx`  region features, boxes and words -> answer logits (`RegionAnswerer`)
`region.json`, `anchors.npy`   what the steps between them need
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from edgevl.config import ModelConfig
from edgevl.errors import InputError
from edgevl.quiet import quiet_python
from edgevl.regions.answerer import RegionAnswerer, RegionConfig
from edgevl.regions.detector import REGION_IOU
from edgevl.regions.parts import LAYOUTS, RegionHead, RegionTrunk, build_detector, make_anchors, settle
from edgevl.regions.stages import propose, split_by_level

OPSET = 20


def export_region(folder: Path, config: RegionConfig, model: ModelConfig, image: np.ndarray) -> Path:
    """Build, settle and write the pipeline to `folder` (must exist). Returns `folder`.

    Args:
        config: the detector. model: the model that it is compared with, whose words and answers are used, and its
            fusion transformer unless `config.bert`.
        image: uint8 [H, W, 3] of any size; untrained weights are calibrated on it.
    """
    detector, pixels = build_detector(config), _pixels(config, image)
    settle(detector, config, pixels)
    answerer = untrained_answerer(config.fusion(model), config.feature_width, config.seed)
    return _export(folder, config, model, detector, answerer, pixels)


def untrained_answerer(model: ModelConfig, width: int, seed: int) -> RegionAnswerer:
    """Return the transformer behind a detector whose features are so wide, with seeded random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RegionAnswerer(model, width)


def export_trained(folder: Path, trained: Any, image: np.ndarray, name: str) -> Path:
    """Write a region-feature model that was trained here (`RegionVqaModel`). Returns `folder`.

    Raises `InputError` when its detector is built in a way that the stages between the files do not know.
    """
    detector, model = trained.detector.detector, trained.config
    network, built, layout = detector.network, detector.config, LAYOUTS["scenes"]
    if (built.levels, built.pool) != ((2, 3), layout.cells):
        raise InputError(f"{name}: only detectors with maps of stride 8 and 16 and {layout.cells} cells can be timed")
    network.transform.image_mean = [detector.mean / 255] * 3
    network.transform.image_std = [detector.std / 255] * 3
    pool = network.roi_heads.box_roi_pool
    config = RegionConfig(
        name=name, detector="scenes", backbone=built.backbone, height=built.image_size, width=built.image_size,
        padding=1, classes=len(built.classes) + 1, pre_nms=network.rpn.pre_nms_top_n(), post_nms=built.proposals,
        proposal_iou=network.rpn.nms_thresh, per_class=False, class_iou=REGION_IOU, regions=model.regions,
        feature_width=built.feature_width, canonical=(pool.canonical_scale, pool.canonical_level), fill=False,
        trained=True,
    )  # fmt: skip
    return _export(folder, config, model, network, trained.answerer, _pixels(config, image))


def _export(
    folder: Path, config: RegionConfig, model: ModelConfig, detector: Any, answerer: RegionAnswerer, pixels: Tensor
) -> Path:
    anchors, counts = make_anchors(detector, config)
    np.save(folder / "anchors.npy", anchors.numpy())
    trunk, head = RegionTrunk(detector, config).eval(), RegionHead(detector, config).eval()
    with torch.no_grad():
        *maps, objectness, deltas = trunk(pixels)
        rois = rois_of(split_by_level(config, propose(config, objectness, deltas, anchors, counts)))
        if config.two_stage and config.per_class:
            calibrate_classes(head.layers[0], head(maps, rois)[1], config)
    names = [f"map{level}" for level in range(len(maps))]
    export_onnx(trunk, (pixels,), folder / "trunk.onnx", ["image"], [*names, "objectness", "deltas"])
    _export_head(head, maps, rois, folder / "boxes.onnx")
    export_fusion(answerer.eval(), config.regions, config.feature_width, model.text_length, folder / "fusion.onnx")
    settings = {"region": dataclasses.asdict(config), "model": model.to_dict(), "anchor_counts": counts}
    (folder / "region.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    return folder


def _pixels(config: RegionConfig, image: np.ndarray) -> Tensor:
    """The picture at the detector's own size, uint8 [1, H, W, 3]."""
    picture = Image.fromarray(image).resize((config.width, config.height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(picture))[None]  # a copy: torch wants memory that it may write to


def rois_of(levels: list[Tensor]) -> list[Tensor]:
    """Boxes [n, 4] of each map as RoIAlign takes them: [n, 5], the index of the picture in front."""
    return [nn.functional.pad(boxes, (1, 0)) for boxes in levels]


def calibrate_classes(layer: Any, logits: Tensor, config: RegionConfig) -> None:
    """Make an untrained class layer hand the per-class NMS as many candidates as a trained one, in place.

    Fresh weights give every class the same score, nothing passes the threshold, and the NMS would be free. Each class
    logit is standardized over the picture's proposals (`logits` [R, C], as the layer gives them now: mean 0, standard
    deviation `config.logit_std`), then the background's bias is bisected until `config.candidates` scores pass.
    """
    mean, scale = logits.mean(dim=0), config.logit_std / logits.std(dim=0).clamp(min=1e-9)
    layer.weight.mul_(scale[:, None])
    layer.bias.copy_((layer.bias - mean) * scale)
    layer.bias[0] += background_bias((logits - mean) * scale, config)


def background_bias(logits: Tensor, config: RegionConfig) -> float:
    """The bias of class 0 at which `config.candidates` scores pass the threshold, by bisection."""
    low, high = -20.0, 40.0
    trial = logits.double()
    for _ in range(25):
        middle = (low + high) / 2
        trial[:, 0] = logits[:, 0] + middle
        passed = int((trial.softmax(dim=1)[:, 1:] > config.score_threshold).sum())
        low, high = (middle, high) if passed > config.candidates else (low, middle)
    return high


def _export_head(head: RegionHead, maps: list[Tensor], rois: list[Tensor], path: Path) -> None:
    """The number of regions is dynamic: each level of a pyramid gets another one for every picture."""
    outputs = ["features", "logits", "deltas"][: 1 + len(head.layers)]
    names = [f"{kind}{level}" for kind in ("map", "rois") for level in range(len(maps))]
    sample = [boxes if len(boxes) > 1 else torch.rand(2, 5).cumsum(dim=1) for boxes in rois]  # 0 and 1 would be fixed
    counts = [{0: torch.export.Dim.DYNAMIC}] * len(maps)
    export_onnx(head, (maps, sample), path, names, outputs, dynamic_shapes=([None] * len(maps), counts))


def export_fusion(answerer: RegionAnswerer, regions: int, width: int, text_length: int, path: Path) -> None:
    """Write the transformer behind a detector, for so many regions with features so wide."""
    features = torch.zeros(1, regions, width)
    boxes = torch.zeros(1, regions, 4)
    words = torch.ones(1, text_length, dtype=torch.int32)
    export_onnx(answerer, (features, boxes, words), path, ["features", "boxes", "input_ids"], ["logits"])


def export_onnx(
    module: nn.Module,
    inputs: tuple[Any, ...],
    path: Path,
    names: list[str],
    outputs: list[str],
    dynamic_shapes: Any = None,
) -> None:
    """Write an opponent's module as one ONNX file, by the same converter as our own model."""
    with quiet_python(), torch.no_grad():  # of the exporter; tests compare the outputs of these graphs
        program = torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes)
        torch.onnx.export(
            program, (), str(path), dynamo=True, opset_version=OPSET, input_names=names, output_names=outputs,
            external_data=False, verbose=False,
        )  # fmt: skip
