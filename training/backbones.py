"""ImageNet's weights for a fresh model's backbone: of a local file, or as timm downloads them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timm
from safetensors import safe_open

from edgevl.config import ModelConfig
from edgevl.errors import InputError, first_line
from edgevl.limits import shown
from edgevl.models import VqaModel
from edgevl.models.core import create_backbone

DOWNLOAD = "timm"


def pixel_statistics(backbone: str) -> dict[str, tuple[float, ...]]:
    """Return the mean and the spread of pixels that timm's weights were trained with, as fields of a config."""
    known = timm.get_pretrained_cfg(backbone)
    return {"mean": tuple(known.mean), "std": tuple(known.std)} if known else {}


def load_backbone(model: VqaModel, source: str) -> None:
    """Copy weights into the backbone. `source`: `timm` for its own download, or a safetensors file of timm's model.

    Raises `InputError` for a file that is missing, of another format or of another backbone, and without a network.
    """
    config, own = model.config, model.core.vision.backbone
    overlay: Any = {}
    if source != DOWNLOAD:
        _check_names(own.state_dict(), _checked(Path(source)))
        overlay = {"pretrained_cfg_overlay": {"file": source}}
    try:
        own.load_state_dict(create_backbone(config, pretrained=True, **overlay).state_dict())
    except Exception as error:  # whatever timm, the hub and the network raise
        raise InputError(_said(config, source, error)) from error


def _check_names(own: Iterable[str], path: Path) -> None:
    """Raise `InputError` for a file that lacks a weight: timm takes what there is, and says nothing.

    timm writes the dots of some names as underlines where it takes only a backbone's features.
    """
    try:
        with safe_open(path, "pt") as file:
            stored = {name.replace("_", ".") for name in file.keys()}  # noqa: SIM118 it is no dict
    except Exception as error:
        raise InputError(f"{path} is not a readable safetensors file: {first_line(error)}") from None
    if missing := [name for name in own if name.replace("_", ".") not in stored]:
        raise InputError(f"{path} has no weights {missing[0]}: it is not of this backbone")


def _said(config: ModelConfig, source: str, error: Exception) -> str:
    options = f" with backbone_options {shown(config.backbone_options)}" if config.backbone_options else ""
    advice = "set backbone_weights to a safetensors file of it" if source == DOWNLOAD else "check backbone_weights"
    origin = "timm's weights" if source == DOWNLOAD else source
    return f"{origin} cannot be loaded into {config.backbone}{options} ({first_line(error)}): {advice}"


def _checked(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"there is no file {path}: backbone_weights is {DOWNLOAD}, or a safetensors file")
    if path.suffix != ".safetensors":
        raise InputError(f"{path} is no safetensors file: other formats can run code when they are read")
    return path
