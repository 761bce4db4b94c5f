"""The shape of a model, as plain numbers, and the named sizes.

Sizes are chosen by measurement (docs/log.md). `nano` is the embedded default.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

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
    "queries": (1, 64),
    "embedding": (2, 4096),
}
REAL = {"dropout": (0, 1), "mean": (0, 1), "std": (1e-3, 10)}
DUAL_ENCODER = "dual_encoder"  # the `kind` of a config.json; without one it is of a question-answering model


class Config:
    """What every model of ours says of itself; a frozen dataclass inherits it. See `ModelConfig` for the fields."""

    name: str
    task: str
    backbone: str
    backbone_options: dict[str, Any]
    out_index: int
    stride: int
    image_size: int
    text_length: int
    vocab_size: int
    width: int
    depth: int
    heads: int
    mlp_ratio: int
    dropout: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Raise `InputError` for what is out of its range, or for numbers that do not fit together."""
        self._check_each()
        problem = model_problem(self._counted())
        if problem:
            raise InputError(problem)

    def _check_each(self) -> None:
        check_name(self.name, "the model's name")
        for key in ("task", "backbone"):
            check_text(getattr(self, key), key)
        for key in [key for key in WHOLE if hasattr(self, key)]:
            check_whole(getattr(self, key), key, *WHOLE[key])
        check_options(self.backbone_options)
        for key in ("mean", "std"):
            if not isinstance(getattr(self, key), tuple) or len(getattr(self, key)) != 3:
                raise InputError(f"{key} must be three numbers, of red, green and blue")
        for key, (low, high) in REAL.items():
            values = getattr(self, key)
            for value in values if isinstance(values, tuple) else (values,):
                check_real(value, key, low, high)

    def _counted(self) -> dict[str, Any]:
        """Return the numbers that `parameters` is counted from."""
        return self.to_dict()

    @property
    def grid(self) -> int:
        """Visual tokens along one side of the picture."""
        return self.image_size // self.stride

    @property
    def parameters(self) -> int:
        """Numbers that the model learns, counted from the sizes alone: those of the backbone are not in it."""
        return parameters_of(self._counted())

    def replace(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)  # pyright: ignore[reportArgumentType]  a dataclass, see above

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # pyright: ignore[reportArgumentType]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises `InputError` for a field that does not exist (with the nearest known name)."""
        check_fields(cls, values, "model config field")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return cls(**values)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Raises `InputError`, naming the file, when it cannot be read or does not describe a model."""
        values = read_json(path)
        try:
            return cls.from_dict(values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


@dataclasses.dataclass(frozen=True)
class ModelConfig(Config):
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


@dataclasses.dataclass(frozen=True)
class DualEncoderConfig(Config):
    """Pictures and texts to embeddings that are compared. The fields are those of `ModelConfig` where they can be."""

    kind: str = DUAL_ENCODER
    name: str = "nano-retrieval"
    task: str = "retrieval"
    backbone: str = "resnet10t"
    backbone_options: dict[str, Any] = dataclasses.field(default_factory=lambda: {"stem_width": 16})
    out_index: int = 3
    stride: int = 16
    image_size: int = 128
    text_length: int = 24
    vocab_size: int = 768
    width: int = 128
    depth: int = 2  # transformer blocks of the text encoder
    heads: int = 4
    mlp_ratio: int = 4
    dropout: float = 0.0
    queries: int = 8  # learned queries that pool tokens
    embedding: int = 256  # E: channels of an embedding
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind != DUAL_ENCODER:
            raise unknown_name("kind of model", str(self.kind), [DUAL_ENCODER])

    def _counted(self) -> dict[str, Any]:
        return self.to_dict() | {"num_answers": 2 * self.queries * (self.embedding + 1)}

    @classmethod
    def like(cls, config: ModelConfig, **changes: Any) -> "DualEncoderConfig":
        """Return one with the backbone, sizes and words of another model. Raises `InputError` for unknown `changes`."""
        check_fields(cls, changes, "model config field")
        shared = {field.name for field in dataclasses.fields(cls)} - {"kind", "task", "depth"}
        values = {key: value for key, value in config.to_dict().items() if key in shared}
        return cls.from_dict(values | {"name": f"{config.name}-retrieval"} | changes)


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
