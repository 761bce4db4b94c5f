"""Data sets by name: `open_dataset("scenes:test")`. Others come from packages by entry points."""

from collections.abc import Callable

from edgevl.contracts import Dataset
from edgevl.data.scenes import FEW_CATEGORIES, Scenes
from edgevl.errors import InputError
from edgevl.registry import Registry

# Of entry points: NAME -> a function (place, seed, size) that opens `NAME:place`, with pictures whose side is `size`
# pixels where it makes them itself. Its `Dataset.name` is `NAME:place`.
GROUP = "edgevl.datasets"
Open = Callable[[str, int, int], Dataset]
DATASETS: Registry[Open] = Registry("data set", GROUP)


@DATASETS.register("scenes")
def _scenes(split: str, seed: int, size: int) -> Scenes:
    return Scenes(split or "test", seed, size)


@DATASETS.register("scenes16")  # for models of few pictures: the study
def _scenes16(split: str, seed: int, size: int) -> Scenes:
    return Scenes(split or "test", seed, size, FEW_CATEGORIES, "scenes16")


def open_dataset(spec: str, seed: int = 0, size: int = 128) -> Dataset:
    """Open `NAME:SPLIT`, for example `scenes:test`. A bare `scenes` means its split `test`.

    size: side of the pictures in pixels, of a data set that makes its own. Raises InputError, naming what exists, for
    an unknown name or split.
    """
    name, _, place = spec.partition(":")
    if not name:
        raise InputError(f'data "{spec}" names no data set; write NAME:SPLIT, for example scenes:test')
    return DATASETS[name](place, seed, size)


def open_scenes(spec: str, seed: int = 0, size: int = 128) -> Scenes:
    """Open `scenes:SPLIT` or a choice of it. Raises `InputError` for other data: it has no maps, masks and twins."""
    return scenes_of(open_dataset(spec, seed, size))


def scenes_of(dataset: Dataset) -> Scenes:
    """Return the data set as Scenes. Raises `InputError` for another one."""
    if not isinstance(dataset, Scenes):
        raise InputError(f"{dataset.name} has no exact annotations: this takes scenes:SPLIT or scenes16:SPLIT")
    return dataset
