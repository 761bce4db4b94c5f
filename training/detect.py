"""Training a detector: the stage in front of a region-feature model, of region distillation and of pseudo-labels.

Shapes: B pictures, S side, N objects a picture at most.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from edgevl.atomic import write_json
from edgevl.data import open_scenes
from edgevl.data.scenes import CATEGORIES, COLORS, SIZES, Scenes
from edgevl.errors import MissingDependency
from edgevl.progress import Progress
from edgevl.regions.detector import Detector, DetectorConfig, save_detector
from edgevl.training.compute import TRAINING_FACTOR, forward_macs
from edgevl.training.data import MAX_OBJECTS, Positions, Sample, batches, channels_first, in_order, padded_boxes
from edgevl.training.loop import Note, Run, fit
from edgevl.training.losses import Criterion
from edgevl.training.losses.base import check_weights
from edgevl.training.recipe import Recipe
from edgevl.training.run_folder import open_run, recipe_of, run_folder

EVAL_BATCH = 32
DETECTION = ("rpn", "head")  # the losses; parts are rpn.box, head.class


class DetectSamples(Dataset[Sample]):
    """`samples[i]`: image uint8 [3, S, S]; boxes [N, 4] in 0..1; labels, color, size int64 [N]; box_count."""

    def __init__(self, scenes: Scenes):
        self.scenes = scenes

    def __getitem__(self, index: int) -> Sample:
        scene = self.scenes.scene(index)
        ids = np.zeros((3, MAX_OBJECTS), np.int64)
        found = [(o.category_id, o.color_id, SIZES.index(o.size)) for o in scene.objects]
        ids[:, : len(found)] = np.array(found).T
        return {
            "image": channels_first(scene.image),
            **dict(zip(("labels", "color", "size"), ids, strict=True)),
            **padded_boxes(scene),
        }


def targets_of(batch: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The objects of each picture without padding, boxes in pixels."""
    side = batch["image"].shape[-1]
    targets = []
    for picture, count in enumerate(batch["box_count"]):
        target = {key: batch[key][picture, :count] for key in ("labels", "color", "size", "boxes")}
        targets.append({**target, "boxes": target["boxes"] * side})
    return targets


class DetectObjective(nn.Module):
    def __init__(self, detector: Detector, validation: DetectSamples, eval_samples: int):
        super().__init__()
        self.detector = detector
        self._validation, self._eval_samples = validation, eval_samples

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.detector.losses(batch["image"], targets_of(batch))

    def evaluate(self) -> dict[str, float]:
        if not self._eval_samples:
            return {}
        return average_precision(self.detector, self._validation.scenes, self._eval_samples)


def average_precision(detector: Detector, scenes: Scenes, count: int) -> dict[str, float]:
    """COCO's mean average precision of a detector in eval mode on the first `count` scenes, and with IoU 0.5 alone."""
    metric = _metric()
    device = next(detector.parameters()).device
    samples = DetectSamples(scenes)
    with torch.no_grad():
        for batch in batches(samples, in_order(count, EVAL_BATCH), workers=0):
            found = detector.detect(batch["image"].to(device))
            metric.update([{k: v.cpu() for k, v in picture.items()} for picture in found], targets_of(batch))
    values = metric.compute()
    return {"val_map": values["map"].item(), "val_map_50": values["map_50"].item()}


def _metric():
    try:
        import faster_coco_eval  # noqa: F401  # pyright: ignore[reportMissingImports]
        from torchmetrics.detection import MeanAveragePrecision  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingDependency("torchmetrics with faster-coco-eval", "detect", "the mAP of a detector") from None
    return MeanAveragePrecision(backend="faster_coco_eval")


def run(
    recipe: str | Path | Recipe,
    overrides: list[str] | None = None,
    out: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    note: Note = lambda text: None,
) -> Path:
    """Train a detector by a recipe; return the run folder, whose `model` is a detector folder.

    Raises `InputError` for a wrong recipe or a folder in use, `MissingDependency` when its mAP cannot be computed.
    """
    recipe = recipe_of("detect", recipe, overrides)
    folder = run_folder(recipe, out, resume)
    check_weights(recipe.weights, DETECTION)
    if recipe.eval_samples:
        _metric()  # now, and not after hours
    config = detector_config(recipe)
    torch.manual_seed(recipe.seed)
    detector = Detector(config)
    train, val = (
        DetectSamples(open_scenes(spec, recipe.data.seed, config.image_size))
        for spec in (recipe.data.train, recipe.data.val)
    )
    objective = DetectObjective(detector, val, recipe.eval_samples).train()
    with open_run(recipe, folder, resume):
        rows = fit(Run(recipe, objective, train, Criterion(recipe.weights), folder, progress, note), resume)
        save_detector(folder / "model", detector)  # before the record, whose forward pass moves running statistics
        write_json(folder / "model" / "training.json", training_record(recipe, rows, objective, train))
    return folder


def detector_config(recipe: Recipe) -> DetectorConfig:
    labels = {"classes": CATEGORIES, "attributes": {"color": COLORS, "size": SIZES}}
    changes = {key: value for key, value in recipe.model.items() if key != "config"}
    return DetectorConfig.from_dict({"name": recipe.name, **labels, **changes})


def training_record(
    recipe: Recipe, rows: list[dict[str, float]], objective: DetectObjective, samples: DetectSamples
) -> dict[str, object]:
    """Recipe, curve, and the cost: pictures seen and the multiply-adds of training on them."""
    batch = next(iter(batches(samples, Positions(recipe.batch_size, 0, 1), workers=0)))
    device = next(objective.parameters()).device
    batch = {key: value.to(device) for key, value in batch.items()}
    macs = forward_macs(lambda: objective.train()(batch)) / recipe.batch_size
    pictures = recipe.last_step * recipe.batch_size
    keys = ("step", "loss", "val_map", "val_map_50")
    return {
        "recipe": json.loads(recipe.model_dump_json()),
        "curve": [{key: row[key] for key in keys if key in row} for row in rows],
        "pictures": pictures,
        "forward_macs_per_picture": round(macs),
        "training_macs": round(macs * TRAINING_FACTOR * pictures),
    }
