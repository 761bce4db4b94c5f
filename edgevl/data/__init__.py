"""Data sets by name: `open_dataset("scenes:test")`."""

from collections.abc import Callable
from functools import partial

from edgevl.data.scenes import FEW_CATEGORIES, Scenes
from edgevl.errors import InputError
from edgevl.registry import Registry

DATASETS: Registry[Callable[..., Scenes]] = Registry("data set")
DATASETS.register("scenes")(Scenes)
DATASETS.register("scenes16")(partial(Scenes, categories=FEW_CATEGORIES))  # for models of few pictures: the study


def open_dataset(spec: str, seed: int = 0, size: int = 128) -> Scenes:
    """Open `NAME:SPLIT`, for example `scenes:test`. A bare `scenes` means its split `test`.

    size: side of the images in pixels. Raises InputError, naming what exists, for an unknown name or split.
    """
    name, _, split = spec.partition(":")
    if not name:
        raise InputError(f'data "{spec}" names no data set; write NAME:SPLIT, for example scenes:test')
    return DATASETS[name](split=split or "test", seed=seed, size=size)
