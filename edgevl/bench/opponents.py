"""Who our model can be compared with. A new opponent is a builder and an opener, registered under its name."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgevl.bench.pipelines import EdgePipeline, Pipeline
from edgevl.bundle import Bundle
from edgevl.registry import Registry

CANDIDATE = "edgevl"  # the opener of our own bundles


@dataclasses.dataclass(frozen=True)
class Opponent:
    """`build(folder, bundle, pixels, threads)` writes its files; `open(folder, threads)` needs nothing but them."""

    build: Callable[[Path, Bundle, np.ndarray, int], None]
    open: Callable[[Path, int], Pipeline]
    artifacts: tuple[str, ...]  # files of the folder whose digest names what was measured


OPPONENTS: Registry[Opponent] = Registry("opponent")


def open_pipeline(kind: str, folder: Path, threads: int) -> Pipeline:
    """Our bundle (`kind` is `CANDIDATE`) or a built opponent. Raises `InputError` for an unknown kind."""
    return EdgePipeline.from_bundle(folder, threads) if kind == CANDIDATE else OPPONENTS[kind].open(folder, threads)


def _build_region(folder: Path, bundle: Bundle, pixels: np.ndarray, threads: int) -> None:
    from edgevl.bench.region_export import export_region
    from edgevl.models.region import RegionConfig

    export_region(folder, RegionConfig(), bundle.manifest.model, pixels, threads)
    bundle.tokenizer().save(folder / "tokenizer.json")
    (folder / "labels.json").write_text(json.dumps(bundle.labels()))


def _open_region(folder: Path, threads: int) -> Pipeline:
    from edgevl.bench.region_pipeline import RegionPipeline

    return RegionPipeline(folder, threads)


OPPONENTS.register("region-r50")(Opponent(_build_region, _open_region, ("trunk.onnx", "boxes.onnx", "fusion.onnx")))
