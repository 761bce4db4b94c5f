"""The shape of a model, as plain numbers, and the named sizes.

Sizes are chosen by measurement (docs/log.md). `nano` is the embedded default.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgevl.apps.jetson.conventions import LARGEST_OPTION, NO_OPTIONS, model_problem, parameters_of
from edgevl.errors import InputError, unknown_name
from edgevl.limits import check_name, check_numbers, check_real, check_text, check_whole
from edgevl.reading import read_json

# The least and the most that a number may be. Beyond them a config is a mistake, and building it takes the memory of
# the machine or all day.
WHOLE = {
    "out_index": (0, 31),
    "stride": (1, 256),
    "image_size": (1, 4096),
    "text_length": (2, 4096),
    "vocab_size": (1, 2**22),
    "num_answers": (1, 2**20),
    "width": (1, 2**14),
    "depth": (1, 256),
    "heads": (1, 256),
    "mlp_ratio": (1, 64),
}
REAL = {"dropout": (0, 1), "mean": (0, 1), "std": (1e-3, 10)}


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
        """Raise `InputError` for what is out of its range, or for numbers that do not fit together."""
        self._check_each()
        problem = model_problem(self.to_dict())
        if problem:
            raise InputError(problem)

    def _check_each(self) -> None:
        check_name(self.name, "the model's name")
        for key in ("task", "backbone"):
            check_text(getattr(self, key), key)
        for key, (low, high) in WHOLE.items():
            check_whole(getattr(self, key), key, low, high)
        check_options(self.backbone_options)
        for key in ("mean", "std"):
            if not isinstance(getattr(self, key), tuple) or len(getattr(self, key)) != 3:
                raise InputError(f"{key} must be three numbers, of red, green and blue")
        for key, (low, high) in REAL.items():
            values = getattr(self, key)
            for value in values if isinstance(values, tuple) else (values,):
                check_real(value, key, low, high)

    @property
    def grid(self) -> int:
        """Visual tokens along one side of the picture."""
        return self.image_size // self.stride

    @property
    def parameters(self) -> int:
        """Numbers that the model learns, counted from the sizes alone: those of the backbone are not in it."""
        return parameters_of(self.to_dict())

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
        """Raises `InputError`, naming the file, when it cannot be read or does not describe a model."""
        values = read_json(path)
        try:
            return cls.from_dict(values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def check_options(options: Any) -> None:
    """Raises `InputError` unless these can be options for timm: a mapping of names to values."""
    if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
        raise InputError("backbone_options must be a mapping of names to values, for timm")
    if ours := sorted(NO_OPTIONS & options.keys()):
        raise InputError(f"backbone_options holds {ours[0]}, which is not for a config to say: remove it")
    check_numbers(options, "backbone_options", LARGEST_OPTION)


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
