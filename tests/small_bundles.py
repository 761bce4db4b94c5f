"""Bundles for onnx of the small models of tests/small_models.py."""

import dataclasses
from collections.abc import Collection, Iterator
from pathlib import Path

from edgevl.app.conformance.small_models import MODELS, program
from edgevl.contracts import Record
from edgevl.data import DATASETS, Scenes
from edgevl.models.deployable import DeployableModel, value_input

OF_PAIRS = "board-pairs"


class Pairs:
    """Scenes whose records have two pictures."""

    name, about, finite, labels = OF_PAIRS, "pairs of scenes", True, {}

    def __init__(self, size: int):
        self._scenes = Scenes("test", size=size)

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Record:
        record, other = self._scenes[index], self._scenes[index + 20]
        return dataclasses.replace(record, pictures=(*record.pictures, *other.pictures))

    def texts(self) -> Iterator[str]:
        return iter(())


def write_small(folder: Path, names: Collection[str] = (*MODELS, "renamed")) -> dict[str, Path]:
    """Write a bundle for onnx of each small model, and a box whose second program has its own name for a value."""
    from edgevl.bundle_export import Request, export_deployable
    from edgevl.export.registry import get_exporter

    if OF_PAIRS not in DATASETS:
        DATASETS.register(OF_PAIRS)(lambda place, seed, size: Pairs(size))
    exporter = get_exporter("onnx")
    makers = {**MODELS, "renamed": lambda: renamed(MODELS["grounding"]())}
    made = {}
    for name in names:
        model = makers[name]()
        layout = "split" if "split" in model.layouts else None
        request = Request(exporter, "fp32", layout, 1, exporter.check_options(None, "fp32"))
        data = OF_PAIRS if name == "statement" else "scenes:test"
        made[name] = export_deployable(model, request, folder / f"{name}.edgevl", data=data)
    return made


def renamed(model: DeployableModel) -> DeployableModel:
    """The box in two programs, where the value `visual` goes into an input that is called otherwise."""

    def cut(layout: str) -> tuple:
        vision, fusion = model.cut("split")
        taken = value_input("seen", vision.spec.outputs[0], texts=())
        specs = fusion.spec
        return vision, program("fusion", (taken, specs.inputs[1]), specs.outputs, fusion.module, fusion.method)

    return dataclasses.replace(model, name="renamed", layouts=("split",), cut=cut)
