"""Data sets by name: `open_dataset("scenes:test")`, `"csv:photos.csv:train"`, or a folder of `edgevl data import`.

Others come from packages by entry points.
"""

from collections.abc import Callable
from pathlib import Path

from edgevl.contracts import Dataset
from edgevl.data.scenes import FEW_CATEGORIES, MIN_SIZE, Scenes
from edgevl.errors import InputError, unknown_name
from edgevl.registry import Registry

# Of entry points: NAME -> a function (place, seed, size) that opens `NAME:place`, with pictures whose side is `size`
# pixels where it makes them itself. Its `Dataset.name` is `NAME:place`.
GROUP = "edgevl.datasets"
Open = Callable[[str, int, int], Dataset]
DATASETS: Registry[Open] = Registry("data set", GROUP)


@DATASETS.register("scenes")
def _scenes(split: str, seed: int, size: int) -> Dataset:
    return Scenes(split or "test", seed, max(size, MIN_SIZE))


@DATASETS.register("scenes16")  # for models of few pictures: the study
def _scenes16(split: str, seed: int, size: int) -> Dataset:
    return Scenes(split or "test", seed, max(size, MIN_SIZE), FEW_CATEGORIES, "scenes16")


@DATASETS.register("csv")
def _csv(place: str, seed: int, size: int) -> Dataset:
    from edgevl.data.photos import open_table

    return open_table(place, seed, size)


def open_dataset(spec: str, seed: int = 0, size: int = 128) -> Dataset:
    """Open `NAME:SPLIT`, `csv:FILE` or `csv:FILE:SPLIT`, or `FOLDER:SPLIT` for a folder that was imported.

    A bare `scenes` means its split `test`, a bare file or folder its split `train`.

    size: side of the pictures in pixels, of a data set that makes its own; larger where that cannot make them so small.

    Raises `InputError`, naming what exists, for an unknown name or split.
    """
    name, _, place = spec.partition(":")
    if not spec.strip():
        raise InputError(f'data "{spec}" names no data set; write NAME:SPLIT, for example scenes:test')
    if name in DATASETS:
        return DATASETS[name](place, seed, size)
    return _folder(spec, seed, size)


def _folder(spec: str, seed: int, size: int) -> Dataset:
    from edgevl.data.photos import is_data_folder, open_folder

    for folder in (Path(spec), Path(spec.rpartition(":")[0] or spec)):
        if is_data_folder(folder):
            return open_folder(spec, seed, size)
        if folder.is_dir() and ":" not in str(folder):
            raise InputError(f"{folder} is not a data folder: make one with `edgevl data import photos.csv --out data`")
        if folder.is_file():
            raise InputError(f"{folder} is a file: write csv:{folder}, or import it with `edgevl data import {folder}`")
    if any(mark in spec for mark in "/\\"):
        raise InputError(f'there is no data folder "{spec}": make one with `edgevl data import photos.csv --out data`')
    unknown = unknown_name("data set", spec.partition(":")[0], DATASETS)
    raise InputError(f"{unknown}; a folder of your own photos is made by `edgevl data import photos.csv --out data`")


def open_scenes(spec: str, seed: int = 0, size: int = 128) -> Scenes:
    """Open `scenes:SPLIT` or a choice of it. Raises `InputError` for other data: it has no maps, masks and twins."""
    return scenes_of(open_dataset(spec, seed, size))


def scenes_of(dataset: Dataset) -> Scenes:
    """Return the data set as Scenes. Raises `InputError` for another one."""
    if not isinstance(dataset, Scenes):
        raise InputError(f"{dataset.name} has no exact annotations: this takes scenes:SPLIT or scenes16:SPLIT")
    return dataset
