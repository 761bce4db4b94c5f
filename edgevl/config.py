"""The shape of a model, as plain numbers, and the named sizes.

Sizes are chosen by measurement (docs/log.md). `nano` is the embedded default.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgevl.errors import InputError, unknown_name


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    name: str = "nano"
    task: str = "vqa"
    backbone: str = "resnet10t"  # any timm model that offers features_only
    backbone_options: dict[str, Any] = dataclasses.field(default_factory=lambda: {"stem_width": 16})  # for timm
    out_index: int = 3  # which of the backbone's feature maps becomes the visual grid
    stride: int = 16  # pixels per visual token along one side, of that feature map
    image_size: int = 128  # S: side of the square input picture in pixels
    text_length: int = 24  # T: tokens of text, [CLS], [SEP] and padding included
    vocab_size: int = 768
    num_answers: int = 160  # A
    width: int = 128  # D: channels of a token
    depth: int = 5  # transformer blocks
    heads: int = 4
    mlp_ratio: int = 4
    dropout: float = 0.0
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of pixels in [0, 1]; applied inside the graph
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)

    def __post_init__(self) -> None:
        if self.image_size % self.stride:
            raise InputError(f"image_size {self.image_size} is not a multiple of the stride {self.stride}")
        if self.width % self.heads:
            raise InputError(f"width {self.width} is not a multiple of heads {self.heads}")

    @property
    def grid(self) -> int:
        """Visual tokens along one side of the picture."""
        return self.image_size // self.stride

    def replace(self, **changes: Any) -> "ModelConfig":
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Raises `InputError` for a field that does not exist (with the nearest known name)."""
        check_fields(cls, values, "model config field")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return cls(**values)

    @classmethod
    def from_file(cls, path: Path) -> "ModelConfig":
        return cls.from_dict(json.loads(path.read_text()))


def check_fields(cls: type, values: Iterable[str], kind: str) -> None:
    """Raises `InputError` for a name that is no field of the dataclass `cls` (with the nearest known name)."""
    known = {field.name for field in dataclasses.fields(cls)}
    for key in values:
        if key not in known:
            raise unknown_name(kind, key, known)


CONFIGS: dict[str, ModelConfig] = {
    "nano": ModelConfig(),
    "tiny": ModelConfig(
        name="tiny", backbone="resnet14t", backbone_options={}, image_size=160, width=256, depth=6, heads=8
    ),
    "small": ModelConfig(
        name="small", backbone="resnet18", backbone_options={}, image_size=224, width=384, depth=10, heads=12
    ),
    "base": ModelConfig(
        name="base",
        backbone="resnet50",
        backbone_options={},
        out_index=4,
        stride=32,
        image_size=384,
        width=768,
        depth=9,
        heads=12,
    ),
}


def named_config(name: str) -> ModelConfig:
    """Return the config called `name`. Raises `InputError` listing the known ones."""
    if name not in CONFIGS:
        raise unknown_name("model config", name, CONFIGS)
    return CONFIGS[name]
