"""Write the neural parts of the region-feature pipeline as ONNX files, so that both opponents meet in one runtime.

`trunk.onnx`   picture -> feature maps, objectness, box deltas (backbone, FPN, RPN head; by torch.export)
`boxes.onnx`   feature maps and proposals -> region features, class logits, box deltas (RoIAlign and box head; written
op
               by op: torchvision's level mapping has data-dependent shapes, one RoiAlign per level needs none)
`fusion.onnx`  region features, boxes and words -> answer logits (our fusion transformer; by torch.export)
`region.json`, `anchors.npy`   what the steps between them need
"""

import dataclasses
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgevl.bench.region_stages import propose, split_by_level
from edgevl.config import ModelConfig
from edgevl.models.region import RegionAnswerer, RegionConfig, RegionTrunk, build_detector, make_anchors, settle

LEVELS = ("p2", "p3", "p4", "p5")
OPSET = 20
LOGIT_STD = 2.0  # of a class logit over the proposals, after calibration


def export_region(folder: Path, config: RegionConfig, model: ModelConfig, image: np.ndarray, threads: int = 2) -> Path:
    """Build, settle and write the pipeline to `folder` (must exist). Returns `folder`.

    Args:
        config: the detector. model: the vision-language model whose fusion transformer and head are used.
        image: uint8 [H, W, 3] at the detector's own size; untrained weights are calibrated on it.
        threads: for the calibration runs.
    """
    image = np.array(image)  # torch wants memory that it may write to
    detector = build_detector(config)
    settle(detector, dataclasses.replace(config, height=config.height // 2, width=config.width // 2), halve(image))
    anchors, counts = make_anchors(detector, config)
    np.save(folder / "anchors.npy", anchors.numpy())
    _export(RegionTrunk(detector, config), (torch.from_numpy(image)[None],), folder / "trunk.onnx",
            ["image"], [*LEVELS, "objectness", "deltas"])  # fmt: skip
    layers = box_layers(detector)
    write_boxes(folder / "boxes.onnx", layers, config)
    _calibrate_classes(folder, layers, config, (anchors, counts), image, threads)
    write_boxes(folder / "boxes.onnx", layers, config)
    export_fusion(folder / "fusion.onnx", config, model)
    settings = {"region": dataclasses.asdict(config), "model": model.to_dict(), "anchor_counts": counts}
    (folder / "region.json").write_text(json.dumps(settings, indent=1))
    return folder


def halve(image: np.ndarray) -> torch.Tensor:
    """uint8 [H, W, 3] -> [1, H/2, W/2, 3]: statistics need no more pixels."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return torch.from_numpy(np.ascontiguousarray(image[::2, ::2][:height, :width]))[None]


def export_fusion(path: Path, config: RegionConfig, model: ModelConfig) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        answerer = RegionAnswerer(model, config.feature_width).eval()
    features = torch.zeros(1, config.regions, config.feature_width)
    boxes = torch.zeros(1, config.regions, 4)
    words = torch.ones(1, model.text_length, dtype=torch.int32)
    _export(answerer, (features, boxes, words), path, ["features", "boxes", "input_ids"], ["logits"])


def _export(module: nn.Module, inputs: tuple[Any, ...], path: Path, names: list[str], outputs: list[str]) -> None:
    with quiet_export(), torch.no_grad():
        program = torch.export.export(module, inputs)
        torch.onnx.export(
            program, (), str(path), dynamo=True, opset_version=OPSET, input_names=names, output_names=outputs,
            external_data=False, verbose=False,
        )  # fmt: skip


@contextmanager
def quiet_export() -> Iterator[None]:
    """The exporter warns about its own internals; the tests compare the outputs of these graphs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def box_layers(detector: Any) -> dict[str, np.ndarray]:
    """Weights and biases of the box head and its predictors, as float32 arrays that `write_boxes` takes."""
    heads = detector.roi_heads
    parts = {
        "fc6": heads.box_head.fc6,
        "fc7": heads.box_head.fc7,
        "class": heads.box_predictor.cls_score,
        "delta": heads.box_predictor.bbox_pred,
    }
    return {
        f"{name}.{kind}": getattr(layer, kind).detach().numpy().copy()
        for name, layer in parts.items()
        for kind in ("weight", "bias")
    }


def write_boxes(path: Path, layers: dict[str, np.ndarray], config: RegionConfig) -> None:
    """Write `boxes.onnx`: RoiAlign on every level, then the box head on all proposals, level by level."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    inputs, nodes = [], []
    for level, name in enumerate(LEVELS):
        stride = 2 ** (level + 2)
        shape = [1, 256, config.padded[0] // stride, config.padded[1] // stride]
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        inputs.append(helper.make_tensor_value_info(f"boxes_{name}", TensorProto.FLOAT, [f"n_{name}", 4]))
        inputs.append(helper.make_tensor_value_info(f"batch_{name}", TensorProto.INT64, [f"n_{name}"]))
        nodes.append(
            helper.make_node(
                "RoiAlign",
                [name, f"boxes_{name}", f"batch_{name}"],
                [f"aligned_{name}"],
                output_height=7,
                output_width=7,
                sampling_ratio=2,
                spatial_scale=1.0 / stride,
                mode="avg",
                coordinate_transformation_mode="output_half_pixel",  # torchvision's aligned=False, as in its detectors
            )
        )
    nodes.append(helper.make_node("Concat", [f"aligned_{name}" for name in LEVELS], ["aligned"], axis=0))
    nodes.append(helper.make_node("Flatten", ["aligned"], ["flat"], axis=1))
    for source, layer, raw, out in (("flat", "fc6", "x6", "h6"), ("h6", "fc7", "x7", "features")):
        nodes.append(helper.make_node("Gemm", [source, f"{layer}.weight", f"{layer}.bias"], [raw], transB=1))
        nodes.append(helper.make_node("Relu", [raw], [out]))
    for layer, out in (("class", "logits"), ("delta", "deltas")):
        nodes.append(helper.make_node("Gemm", ["features", f"{layer}.weight", f"{layer}.bias"], [out], transB=1))
    widths = {"features": config.feature_width, "logits": config.classes, "deltas": config.classes * 4}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name, width in widths.items()]
    weights = [numpy_helper.from_array(array, name) for name, array in layers.items()]
    graph = helper.make_graph(nodes, "region_features", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _calibrate_classes(
    folder: Path,
    layers: dict[str, np.ndarray],
    config: RegionConfig,
    anchors: tuple[torch.Tensor, list[int]],
    image: np.ndarray,
    threads: int,
) -> None:
    """Make the untrained class head hand the per-class NMS as many candidates as a trained one, in place.

    Fresh weights give every class 1/91, nothing passes 0.05, and the NMS would be free. Each class logit is
    standardized over the picture's proposals (mean 0, standard deviation `LOGIT_STD`), then the background's bias is
    bisected until `config.candidates` class scores pass the threshold.
    """
    from edgevl.bench.sessions import open_onnx

    trunk = open_onnx(folder / "trunk.onnx", threads)
    *maps, objectness, deltas = trunk.run(None, {"image": image[None]})
    proposals = propose(config, torch.from_numpy(objectness), torch.from_numpy(deltas), *anchors)
    feed: dict[str, np.ndarray] = dict(zip(LEVELS, maps, strict=True))
    for name, boxes in zip(LEVELS, split_by_level(proposals), strict=True):
        feed[f"boxes_{name}"], feed[f"batch_{name}"] = boxes.numpy(), np.zeros(len(boxes), dtype=np.int64)
    logits = open_onnx(folder / "boxes.onnx", threads).run(["logits"], feed)[0]
    mean, scale = logits.mean(axis=0), LOGIT_STD / np.maximum(logits.std(axis=0), 1e-9)
    layers["class.weight"] *= scale[:, None]
    layers["class.bias"] = ((layers["class.bias"] - mean) * scale).astype(np.float32)
    layers["class.bias"][0] += background_bias((logits - mean) * scale, config)


def background_bias(logits: np.ndarray, config: RegionConfig) -> float:
    """The bias of class 0 at which `config.candidates` scores pass the threshold, by bisection."""
    low, high = -20.0, 40.0
    shifted = torch.from_numpy(logits.astype(np.float64))
    for _ in range(40):
        middle = (low + high) / 2
        trial = shifted.clone()
        trial[:, 0] += middle
        passed = int((trial.softmax(dim=1)[:, 1:] > config.score_threshold).sum())
        low, high = (middle, high) if passed > config.candidates else (low, middle)
    return high
