"""Recipes: YAML files checked field by field, with `key=value` overrides; an unknown key names the nearest one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from edgevl.config import DUAL_ENCODER, DualEncoderConfig, ModelConfig, named_config
from edgevl.errors import InputError, unknown_name
from edgevl.limits import MAX_TEXT, check_name, check_numbers, shown
from edgevl.plans.plan import OBSERVER, SAMPLES
from edgevl.training.yaml_file import Bad, Like, field_kind, parse_scalar, read_yaml

if TYPE_CHECKING:
    from edgevl.inputs.tokenizer import Tokenizer

RECIPES = Path(__file__).parent / "recipes"
MAX_STEPS = 10**8 - 1  # a checkpoint's folder has eight digits
# More than this much in one batch or one evaluation fits into no machine that trains a model of this kind.
MAX_BATCH, MAX_SAMPLES = 2**14, 10**7

Name = Annotated[str, AfterValidator(lambda name: check_name(name, "the recipe's name"))]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Weight = Annotated[float, Field(ge=0, le=1e6)]


class Section(BaseModel):
    """Base of a recipe's parts: an unknown key is an error, and a number is finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSection(Section):
    train: Text = "scenes:train"
    val: Text = "scenes:val"
    seed: Seed = 0
    texts: int = Field(4, ge=1, le=32, description="captions or questions used of each picture")
    focus: tuple[Text, ...] = Field(
        (), max_length=32, description="kinds of question that get `focus_texts` of the `texts` to themselves"
    )
    focus_texts: int = Field(0, ge=0, le=32)
    kinds: tuple[Text, ...] = Field(
        (), max_length=32, description="the only kinds of question that are asked, in validation too; empty: all"
    )
    mirror: bool = Field(False, description="a dual encoder: half of the pictures, with left for right in captions")
    light: float = Field(
        0.0, ge=0, lt=1, description="training pictures in other light: by how much it changes, 0.3 is well tried"
    )
    workers: int = Field(1, ge=0, le=64)
    annotations: Text | None = Field(None, description="pretrain: a file of `edgevl data annotate`, for true boxes")
    region_cache: Text = Field("runs/regions", description="where the regions that detectors found are kept")


class OptimizerSection(Section):
    name: Literal["adamw", "muon"] = "adamw"
    lr: float = Field(1e-3, gt=0, le=10)
    matrix_lr: float = Field(0.02, gt=0, le=10, description="muon: the rate of matrices and filters; lr is the rest's")
    momentum: float = Field(0.95, ge=0, lt=1, description="muon: of matrices and filters")
    weight_decay: float = Field(0.05, ge=0, le=10)
    beta2: float = Field(0.98, gt=0, lt=1)
    warmup: int = Field(200, ge=0, le=MAX_STEPS, description="steps of linear warm-up; then a cosine down to final_lr")
    final_lr: float = Field(0.01, ge=0, le=1, description="as a share of lr")
    clip_norm: float = Field(1.0, gt=0, le=1e6)

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> "OptimizerSection":
        for key in ("matrix_lr", "momentum"):
            if self.name != "muon" and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is for muon, not for {self.name}")
        return self


class QuantizeSection(Section):
    """Quantization-aware training: round weights and values while they are trained."""

    weight_bits: int = Field(8, ge=2, le=8)
    per_channel: bool = Field(True, description="a scale for each output channel of a weight, or one for all of it")
    dialect: Text = Field("x86", description="where values are rounded: a name of edgevl.plans.spec.DIALECTS")
    data: Text | None = Field(None, description="what ranges are observed on, if init has no plan; default: data.val")
    samples: int = Field(SAMPLES, ge=1, le=MAX_SAMPLES)
    observer: Text = OBSERVER


class PlateauSection(Section):
    """End a run where nothing is gained any more: the rate stays until then, and falls over the last steps."""

    window: Steps = Field(description="steps in which the best accuracy on data.val must rise")
    gain: float = Field(0.005, ge=0, le=1, description="by more than this")
    cooldown: Steps = Field(description="steps in which the rate then falls to final_lr; the run ends with them")


class Recipe(Section):
    stage: Literal["pretrain", "finetune", "distill", "detect"]
    name: Name = Field(description="of the run: its folder is runs/NAME")
    task: Literal["vqa", "statement", "retrieval"] = Field("vqa", description="what the model is trained for")
    model: Annotated[dict[str, Any], Like(DualEncoderConfig)] = Field(default_factory=lambda: {"config": "nano"})
    init: Text | None = Field(None, description="the model folder to start from; nano is the embedded one")
    backbone_weights: Text | None = Field(
        None,
        description="of a fresh model: timm, for ImageNet's as timm downloads them, or a safetensors file",
    )
    grow: int | None = Field(
        None, ge=1, le=256, description="blocks of the transformer: more than init's, answers as before"
    )
    freeze: tuple[Text, ...] = Field(
        (), max_length=32, description="a dual encoder: parts that stay as init has them, such as vision"
    )
    detector: Text | None = Field(None, description="pretrain: a region-feature model on this detector's regions")
    regions: int = Field(8, ge=1, le=60, description="regions a picture, where a detector is used")
    teacher: Text | None = Field(None, description="distill: the model folder to learn from; nano is the embedded one")
    data: DataSection = DataSection()  # pyright: ignore[reportCallIssue]
    quantize: QuantizeSection | None = None
    losses: dict[str, dict[str, Any]] = Field(default_factory=dict, description="loss -> {weight: …, its options}")
    weights: dict[str, Weight] = Field(default_factory=dict, description="weights of single parts, as object.box_l1")
    optimizer: OptimizerSection = OptimizerSection()  # pyright: ignore[reportCallIssue]
    steps: Steps = Field(1000, description="length of the learning-rate schedule, and of the run")
    stop_after: Steps | None = Field(None, description="end the run at this step of the schedule")
    stop_at: float | None = Field(None, ge=0, le=1, description="end the run at this accuracy on data.val")
    plateau: PlateauSection | None = Field(None, description="end the run where accuracy on data.val stays")
    batch_size: int = Field(64, ge=1, le=MAX_BATCH)
    seed: Seed = 0
    precision: Literal["no", "bf16"] = "no"  # of the arithmetic; the weights stay float32
    log_every: Steps = 20
    eval_every: Steps = 1000
    eval_samples: int = Field(1000, ge=0, le=MAX_SAMPLES)
    checkpoint_every: Steps = 200

    @field_validator("data", mode="before")
    @classmethod
    def _both_splits(cls, data: Any) -> Any:
        return splits_of(data) if isinstance(data, str) else data

    @field_validator("losses")
    @classmethod
    def _numbers_of_losses(cls, losses: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        check_numbers(losses, "losses")
        return losses

    @field_validator("precision", mode="before")
    @classmethod
    def _a_word(cls, value: Any) -> Any:
        return "no" if value is False else value  # YAML 1.1 reads `no` as false

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> "Recipe":
        for key, stages in _STAGES.items():
            section, _, name = key.rpartition(".")
            holder = getattr(self, section) if section else self
            default = type(holder).model_fields[name].get_default(call_default_factory=True)
            if getattr(holder, name) != default and self.stage not in stages:
                raise ValueError(f"{key} is for {' and '.join(stages)}, not for {self.stage}")
        if self.data.kinds and self.data.focus:
            raise ValueError("data.focus is for where all kinds of question are asked: remove it, or data.kinds")
        if (key := "focus" if self.data.focus else "kinds" if self.data.kinds else "") and self.task != "vqa":
            raise ValueError(f"data.{key} names kinds of question, and the task {self.task} has none")
        if self.stop_at is not None and self.task == "retrieval":
            raise ValueError("stop_at is an accuracy, and the task retrieval has none")
        if self.plateau and self.task == "retrieval":
            raise ValueError("plateau looks at accuracy, and the task retrieval has none")
        if self.plateau and self.plateau.cooldown >= self.steps:
            raise ValueError(f"plateau.cooldown is {self.plateau.cooldown}, of a run of {self.steps} steps")
        if self.plateau and self.plateau.window < self.eval_every:
            raise ValueError(f"plateau.window is {self.plateau.window}, shorter than eval_every, {self.eval_every}")
        if self.task != "vqa" and self.stage not in ("finetune", "distill"):
            raise ValueError(f"task {self.task} is for finetune and distill")
        if self.task == "retrieval" and not self.model.get("kind") and (self.quantize or self.stage == "distill"):
            what = "quantize" if self.quantize else "distill"
            raise ValueError(f"{what} with task retrieval is for a dual encoder: set model.kind={DUAL_ENCODER}")
        self._check_dual_encoder()
        for key in ("grow", "quantize", "freeze"):
            if getattr(self, key) and not self.init:
                raise ValueError(f"{key} needs init, the model to begin with")
        if self.backbone_weights and self.init:
            raise ValueError("backbone_weights is for a fresh model: remove it, or remove init")
        return self

    def _check_dual_encoder(self) -> None:
        if kind := self.model.get("kind"):
            if self.task != "retrieval":
                raise ValueError(f"model.kind {kind} is for the task retrieval")
            if self.grow or (self.freeze and self.quantize):
                raise ValueError(f"{'grow' if self.grow else 'freeze with quantize'} is not for model.kind {kind}")
        elif self.freeze or self.data.mirror:
            raise ValueError(f"{'freeze' if self.freeze else 'data.mirror'} is for model.kind {DUAL_ENCODER}")

    @property
    def last_step(self) -> int:
        """The step at which the run ends."""
        return min(self.stop_after or self.steps, self.steps)


# What only some stages read.
_STAGES = {
    "init": ("finetune", "distill"),
    "backbone_weights": ("finetune", "distill"),
    "grow": ("finetune", "distill"),
    "losses": ("pretrain", "distill"),
    "teacher": ("distill",),
    "detector": ("pretrain",),
    "quantize": ("finetune",),
    "regions": ("pretrain",),
    "data.annotations": ("pretrain",),
    "data.light": ("pretrain", "finetune", "distill"),
    "data.focus": ("finetune", "distill"),
    "data.focus_texts": ("finetune", "distill"),
    "data.kinds": ("finetune", "distill"),
    "stop_at": ("finetune", "distill"),
    "plateau": ("finetune", "distill"),
}


def load_recipe(source: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe, by path or by the name of one in `training/recipes`, and apply overrides.

    An override is `key=value`, for example `optimizer.lr=3e-4`. Raises `InputError` for a missing file, bad YAML,
    an unknown key or a value out of range.
    """
    path = find_recipe(source)
    values = read_yaml(path, Recipe)
    for override in overrides or []:
        apply_override(values, override)
    return parse_recipe(values, str(path))


def parse_recipe(values: dict[str, Any], origin: str) -> Recipe:
    """Check a mapping. Raises `InputError`, with `origin` in the message."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise _clear(error, origin) from None
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None


def find_recipe(source: str | Path) -> Path:
    """A path that exists, or the name of a recipe in the repository, with or without .yaml."""
    if (path := Path(source)).is_file():
        return path
    known = {recipe.stem: recipe for recipe in RECIPES.glob("*.yaml")}
    if path.stem in known and path.parent == Path():
        return known[path.stem]
    raise unknown_name("recipe", str(source), known)


def splits_of(data: str) -> dict[str, str]:
    """Return what `data: FOLDER` is short for."""
    return {"train": f"{data}:train", "val": f"{data}:val"}


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one key of a recipe's mapping, as `key=value` says. Raises `InputError` for what cannot be read."""
    key, separator, text = override.partition("=")
    asked = f'override "{override[:80]}"'
    if key == "data" and text and text[:1] not in "{'\"" and isinstance(values.get("data", {}), dict):
        values["data"] = values.get("data", {}) | splits_of(text)  # the section's other keys stay
        return
    if not separator or not key:
        raise InputError(f"{asked} is not of the form key=value, for example optimizer.lr=3e-4")
    *parents, last = key.split(".", 1 if key.startswith("weights.") else -1)  # weights have names such as object.box
    kind: Any = Recipe
    for parent in parents:
        values, kind = values.setdefault(parent, {}), field_kind(kind, parent)
        if not isinstance(values, dict):
            raise InputError(f'{asked}: "{parent}" is a value, not a section')
    try:
        values[last] = parse_scalar(text, field_kind(kind, last))
    except Bad as error:
        said = str(error).removeprefix("line 1: ")
        raise InputError(f"{asked}: the value is not readable YAML: {said}") from None


def _clear(error: ValidationError, origin: str) -> InputError:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if not place:
        return InputError(f"{origin}: {first['msg'].removeprefix('Value error, ')}")
    if first["type"] != "extra_forbidden":
        return InputError(f"{origin}: {'.'.join(place)}: {first['msg']} (given: {shown(first['input'])})")
    section: Any = Recipe
    for part in place[:-1]:
        kind = section.model_fields[part].annotation
        section = next((found for found in get_args(kind) if hasattr(found, "model_fields")), kind)  # X | None
    prefix = ".".join(place[:-1])
    return InputError(
        f"{origin}: {unknown_name(f'key in {prefix}' if prefix else 'key', place[-1], section.model_fields)}"
    )


def build_config(recipe: Recipe, tokenizer: "Tokenizer", num_answers: int) -> ModelConfig:
    """Return the sizes of the model that a recipe asks for, with the words of `tokenizer`."""
    changes = {key: value for key, value in recipe.model.items() if key != "config"}
    base = named_config(recipe.model.get("config", "nano"))
    sizes = {"vocab_size": -(-tokenizer.vocab_size // 32) * 32, "num_answers": num_answers}
    return ModelConfig.from_dict(base.to_dict() | sizes | changes)
