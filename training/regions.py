"""Regions of a detector as a part of training samples: for a region-feature model, or for region distillation."""

from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from edgevl.errors import InputError
from edgevl.progress import Progress
from edgevl.regions.cache import RegionCache, cache_regions
from edgevl.regions.detector import LoadedDetector, load_detector
from edgevl.regions.model import RegionVqaModel, open_region_model
from edgevl.training.data import Sample
from edgevl.training.losses.region_distillation import is_detector
from edgevl.training.recipe import Recipe

GRID_LOSSES = ("object", "semantic_map", "region_distillation", "pixels")  # they need one token for each cell of a grid


class RegionSamples(Dataset[Sample]):
    """`samples[i]` with what the cache has of its regions; with the image if `keep`."""

    def __init__(self, samples: Dataset[Sample], cache: RegionCache, keep: bool):
        self.samples, self.cache, self.keep = samples, cache, keep

    def __len__(self) -> int:
        return len(self.samples)  # pyright: ignore[reportArgumentType]

    def __getitem__(self, index: int) -> Sample:
        sample = {**self.samples[index], **self.cache[index]}
        return sample if self.keep else {key: value for key, value in sample.items() if key != "image"}


def pretraining_detector(recipe: Recipe) -> LoadedDetector | None:
    """The detector that a pretraining recipe names, for its model or as the teacher of region distillation.

    Raises `InputError` when there is none, or a region-feature model is asked for a loss over a grid.
    """
    used = {name: options for name, options in recipe.losses.items() if options.get("weight") != 0}
    if recipe.detector is None:
        if "region_labels" in used:
            raise InputError("losses.region_labels is for a region-feature model: set detector=FOLDER, or remove it")
        teacher = used.get("region_distillation", {}).get("teacher")
        return load_detector(teacher) if teacher and is_detector(teacher) else None
    wrong = [name for name in GRID_LOSSES if name in used]
    if wrong:
        raise InputError(f"a region-feature model has no grid of pixels: losses.{wrong[0]} is not for it; remove it")
    return load_detector(recipe.detector)


def with_regions(
    samples: Any, detector: LoadedDetector, recipe: Recipe, data: str, count: int, regions: int,
    keep: bool = False, progress: Progress | None = None,
) -> Any:  # fmt: skip
    """Add the regions of the first `count` scenes of `data` to samples of them, computing what is not kept yet."""
    root = recipe.data.region_cache
    cache = cache_regions(detector, data, recipe.data.seed, count, regions, root, progress)
    return RegionSamples(samples, cache, keep)


def region_start(recipe: Recipe, folder: Path) -> Any:
    """The region-feature model of a folder, to fine-tune. Raises `InputError` for what only our model can be given."""
    if recipe.stage == "distill":
        raise InputError(f"{folder} is a region-feature model, which cannot be distilled; choose another init")
    for key in ("grow", "quantize"):
        if getattr(recipe, key):
            raise InputError(f"{folder} is a region-feature model: {key} is not for it; remove it from the recipe")
    return open_region_model(folder)


def model_regions(
    samples: Any, model: RegionVqaModel, recipe: Recipe, data: str, count: int, progress: Progress | None
) -> Any:
    """Add the regions that a region-feature model reads."""
    return with_regions(samples, model.detector, recipe, data, count, model.config.regions, progress=progress)
