"""The region-feature model, trained: a detector's regions instead of a grid of pixels, and the rest as ours.

Shapes: B pictures, S side, K regions, F region feature, T text tokens, L = T + K, D width, A answers.

It has the calls of `VqaModel` and of its core, so that pretraining, its losses, fine-tuning and evaluation take either.
(Its makers return `Any`, for it stands in where those say `VqaModel`.)
The detector is frozen and lies in a folder of its own: no weight of it is in this model's.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgevl.config import ModelConfig
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.limits import check_text, check_whole
from edgevl.models.checkpoint import FILES, LoadedModel, check_size, load_weights, read_labels
from edgevl.models.core import PAD_ID, TextEmbedding
from edgevl.reading import read_json
from edgevl.regions.answerer import RegionAnswerer
from edgevl.regions.detector import LoadedDetector, load_detector


@dataclasses.dataclass(frozen=True)
class RegionModelConfig(ModelConfig):
    """Our model's numbers (those of its backbone are not used), and where the regions come from."""

    detector: str = ""  # its folder
    detector_sha256: str = ""  # of its weights
    feature_width: int = 256  # F
    regions: int = 8  # K

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("detector", "detector_sha256"):
            check_text(getattr(self, key), key)
        check_whole(self.feature_width, "feature_width", 1, 2**14)
        check_whole(self.regions, "regions", 1, 1000)


class RegionVqaModel(nn.Module):
    """`forward(image, input_ids) -> logits` as `VqaModel`, by way of a detector, which `see_with` attaches."""

    def __init__(self, config: RegionModelConfig):
        super().__init__()
        self.config = config
        self.answerer = RegionAnswerer(config, config.feature_width)
        self._detector: list[LoadedDetector] = []  # in a list: frozen, and no part of this module

    @property
    def core(self) -> "RegionVqaModel":
        return self

    @property
    def text(self) -> TextEmbedding:
        return self.answerer.text

    @property
    def head(self) -> nn.Sequential:
        return self.answerer.head

    @property
    def detector(self) -> LoadedDetector:
        return self._detector[0]

    def see_with(self, detector: LoadedDetector) -> "RegionVqaModel":
        self._detector = [detector]
        return self

    def forward(self, image: Tensor, input_ids: Tensor) -> Tensor:
        """`image` float [B, 3, S, S] in 0..255, `input_ids` int [B, T] -> logits [B, A]."""
        return self.answer(self.encode_image(image), input_ids)

    def encode_image(self, image_B3SS: Tensor) -> Tensor:
        """Pixels to region tokens [B, K, D], through the detector."""
        with torch.no_grad():
            found = self.detector.detector.regions(image_B3SS, self.config.regions)
        return self.encode_regions(found.features, found.boxes)

    def encode_regions(self, features_BKF: Tensor, boxes_BK4: Tensor) -> Tensor:
        """Region features and boxes (shares of the side) to region tokens [B, K, D]."""
        return self.answerer.encode_regions(features_BKF, boxes_BK4)

    def fuse(self, input_ids_BT: Tensor, regions_BKD: Tensor, readout: int | None = None) -> Tensor:
        """States of the first `readout` text tokens (default: all T), as `VisionLanguageCore.fuse`."""
        return self.answerer.fuse(input_ids_BT, regions_BKD, readout or input_ids_BT.shape[1])

    def encode_text(self, input_ids_BT: Tensor) -> Tensor:
        """Text alone through the same transformer. Returns states [B, T, D]."""
        return self.answerer.fusion(self.text(input_ids_BT), (input_ids_BT != PAD_ID).float())

    def answer(self, regions_BKD: Tensor, input_ids: Tensor) -> Tensor:
        """Logits [B, A] from region tokens that are there already."""
        return self.head(self.fuse(input_ids, regions_BKD, readout=1)[:, 0])


def new_region_model(config: ModelConfig, detector: LoadedDetector, regions: int) -> Any:
    """A fresh one of our model's sizes."""
    return RegionVqaModel(
        RegionModelConfig(
            **config.to_dict(),
            detector=str(detector.path),
            detector_sha256=detector.sha256,
            feature_width=detector.config.feature_width,
            regions=regions,
        )
    )


def is_region_model(folder: Path) -> bool:
    """Does a model folder hold a region-feature model?"""
    try:
        return "detector_sha256" in read_json(folder / "config.json")
    except InputError:
        return False


def open_region_model(folder: Path) -> Any:
    """The model of a folder without its weights, with its detector.

    Raises `InputError` when the detector is gone or is another than the model was trained with.
    """
    config: Any = RegionModelConfig.from_file(folder / "config.json")
    check_size(config, folder / "model.safetensors")
    detector = load_detector(config.detector)
    if detector.sha256 != config.detector_sha256:
        raise InputError(
            f"{config.detector} is not the detector that {folder} was trained with: its regions have other features. "
            f"Pretrain the model again, or put the old detector back"
        )
    return RegionVqaModel(config).see_with(detector)


def load_region_model(path: Path | str) -> LoadedModel:
    """Load a region-feature model for `evaluate_model`, in eval mode; it is not for export.

    Raises `InputError` when the folder holds none, or its detector does not fit.
    """
    folder = Path(path)
    if not is_region_model(folder) or any(not (folder / name).is_file() for name in FILES):
        raise InputError(f"no region-feature model at {folder}: pretrain one with detector=FOLDER in the recipe")
    model = open_region_model(folder)
    digest = load_weights(model, folder / "model.safetensors")
    labels = read_labels(folder / "labels.json")
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    return LoadedModel(model.eval(), model.config, tokenizer, folder, digest, labels)
