"""A preset: the size of the study. `quick` shows that everything works, `full` is what the page is meant to show.

`sprint` is another experiment over the same arms: which changes of the recipe make them learn sooner.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from edgevl.bench.stats import MOST_VALUES
from edgevl.config import ModelConfig
from edgevl.errors import InputError, unknown_name
from edgevl.training.recipe import (
    MAX_SAMPLES,
    Name,
    Recipe,
    Section,
    Seed,
    Text,
    Weight,
    apply_override,
    parse_recipe,
)
from edgevl.training.study.arms import ARMS, LANGUAGE, MORE_LANGUAGE, TASKS, VISUAL, Arm
from edgevl.training.yaml_file import Like, read_yaml

PRESETS = Path(__file__).parent


Part = Annotated[dict[str, Any], Like(Recipe)]  # some of a recipe's keys


class Plan(Section):
    """What a study and a sprint have in common: arms, and the recipes that they are made from."""

    name: Name
    note: Text
    seeds: tuple[Seed, ...] = Field(min_length=1, max_length=MOST_VALUES)
    arms: tuple[Text, ...] = Field(min_length=1, max_length=1000)
    data: Text = Field("scenes", description="data set; training reads its split train, judging the others")
    model: Annotated[dict[str, Any], Like(ModelConfig)]
    losses: dict[str, dict[str, Any]] = Field(description="options of each loss; the arms choose among them")
    weights: dict[str, Weight] = Field(default_factory=dict)
    pretrain: Part
    finetune: Part
    tasks: dict[str, Part] = Field(default_factory=dict, description="of each task: changes to `finetune`")

    def makes_rows_of(self, saved: dict[str, Any]) -> bool:
        """Are the rows of both presets made alike?

        More arms, more seeds of some, or arms in another order change no row that is there.
        """
        chosen = {"arms", "first", "others", "note", "changes"}
        made, theirs = self.model_dump(mode="json", exclude=chosen), saved.items()
        return made == {key: value for key, value in theirs if key not in chosen}


class Preset(Plan):
    first: tuple[Text, ...] = Field((), description="those of `arms` that run with every seed before the others begin")
    others: int | None = Field(
        None, ge=1, le=MOST_VALUES, description="seeds of the arms that are not `first`; None: all"
    )
    detect: Part = Field(default_factory=dict)
    label_score: float = Field(0.5, ge=0, le=1, description="lowest score of a detector's box that is a pseudo-label")
    test_samples: int = Field(1000, ge=8, le=MAX_SAMPLES, description="pictures of each split, with one question each")
    retrieval_pictures: int = Field(500, ge=8, le=100_000)
    blind_scenes: int = Field(20000, ge=1, le=MAX_SAMPLES, description="scenes that the blind baseline learns from")
    timing_rounds: int = Field(5, ge=1, le=1000)
    timing_steps: int = Field(6, ge=2, le=10_000)
    worst: int = Field(10, ge=0, le=1000)

    @model_validator(mode="after")
    def _says_what_is_read(self) -> "Preset":
        wanted = {"pretrain": {"steps", "batch_size"}, "finetune": {"steps", "batch_size", "eval_every"}}
        wanted |= {"model": {"backbone", "image_size", "width", "depth"}, "tasks": {*TASKS}}
        if any(ARMS[arm].detector for arm in self.arms if arm in ARMS):
            wanted |= {"detect": {"steps", "batch_size"}}
        for section, keys in wanted.items():
            if missing := sorted(keys - getattr(self, section).keys()):
                raise ValueError(f"{section} lacks {missing[0]}")
        return self

    def seeds_of(self, name: str) -> tuple[int, ...]:
        """Return the seeds of an arm: the preset's first ones where it has fewer."""
        most = [each for each in (ARMS[name].seeds, None if name in self.first else self.others) if each is not None]
        return self.seeds[: min(most, default=None)]


Stage = Literal["pretrain", "finetune"]
STAGES: tuple[Stage, ...] = get_args(Stage)
Overrides = Annotated[tuple[Text, ...], Field(max_length=64)]


class Change(Section):
    """One change of the recipe, as `key=value` like those of the command line; the same for every arm."""

    title: Text
    like: Text | None = Field(None, description="the change that this one is added to")
    both: Overrides = ()
    pretrain: Overrides = ()
    finetune: Overrides = ()


class Sprint(Plan):
    changes: dict[str, Change] = Field(min_length=1, max_length=1000, description="in the order in which they run")

    @model_validator(mode="after")
    def _says_what_is_read(self) -> "Sprint":
        if not {"stop_at", "eval_every"} <= self.finetune.keys() or not self.finetune.get("data", {}).get("kinds"):
            raise ValueError("finetune needs stop_at, eval_every and data.kinds")
        if detected := [arm for arm in self.arms if arm in ARMS and ARMS[arm].detector]:
            raise ValueError(f"the arm {detected[0]} needs a detector, which a sprint does not train")
        names = [*self.changes]
        for place, name in enumerate(names):
            if (like := self.changes[name].like) and like not in names[:place]:
                raise ValueError(f"changes.{name}: like {like} is no change before it")
        return self

    def makes_rows_of(self, saved: dict[str, Any]) -> bool:
        """The same for a sprint. More changes change no row that is there; another one under the same name does."""
        try:
            theirs = Sprint.model_validate(saved)
        except ValidationError:  # a study's, or edited
            return False
        shared = self.changes.keys() & theirs.changes.keys()
        return super().makes_rows_of(saved) and all(
            self.overrides(name, stage) == theirs.overrides(name, stage) for name in shared for stage in STAGES
        )

    def overrides(self, name: str, stage: Stage) -> list[str]:
        """Return what a change and those that it is added to set in the recipe of a stage."""
        change = self.changes[name]
        before = self.overrides(change.like, stage) if change.like else []
        return [*before, *change.both, *getattr(change, stage)]


def load_preset(name: str | Path) -> Preset | Sprint:
    """A preset by name, or by the path of a YAML file. Raises `InputError` for an unknown name, arm or key."""
    known = {path.stem: path for path in PRESETS.glob("*.yaml")}
    path = known.get(str(name)) or Path(name)
    if not path.is_file():
        raise unknown_name("preset", str(name), known)
    values = read_yaml(path, Preset)
    try:
        preset = (Sprint if "changes" in values else Preset).model_validate(values)
        for stage in ("pretrain", "finetune", *(["detect"] if getattr(preset, "detect", None) else [])):
            parse_recipe({**getattr(preset, stage), "stage": stage, "name": preset.name}, stage)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}: {place}: {said}" if place else f"{path}: {said}") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    first = preset.first if isinstance(preset, Preset) else ()
    for arm in (*preset.arms, *first):
        _ = ARMS[arm]  # raises for an unknown one
    if missing := [arm for arm in first if arm not in preset.arms]:
        raise InputError(f"{path}: first: {missing[0]} is not among the arms of this preset")
    return preset


def pretrain_recipe(preset: Plan, name: str, seed: int, folder: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of an arm: the preset's, with this arm's losses, share of the steps and rate, then `overrides`.

    What these say of a loss of other arms is left out.
    """
    arm = ARMS[name]
    values = copy.deepcopy(preset.pretrain) | {"stage": "pretrain", "name": f"study_{name}", "seed": seed}
    values["model"], values["weights"] = copy.deepcopy((preset.model, preset.weights))
    language = (*LANGUAGE, *(loss for loss in MORE_LANGUAGE if loss in preset.losses))
    values["losses"] = {loss: dict(preset.losses.get(loss, {})) for loss in (*language, *arm.losses)}
    values["steps"] = max(1, round(values["steps"] * arm.share))
    for options in values["losses"].values():
        if "after" in options:
            options["after"] = round(options["after"] * arm.share)
    optimizer = values.setdefault("optimizer", {})
    optimizer["warmup"] = round(optimizer.get("warmup", 0) * arm.share)
    optimizer["lr"] = optimizer.get("lr", 1e-3) * arm.lr
    values["data"] = _data(preset, values) | {"seed": seed, "region_cache": str(folder / "regions-cache")}
    detector = str(folder / "detector" / arm.detector_stage / str(seed) / "model")
    if arm.detector == "eyes":
        values["detector"] = detector
    elif arm.detector:
        values["losses"]["region_distillation"]["teacher"] = detector
    if arm.detector == "labels":
        values["data"]["annotations"] = str(folder / "detector" / "labels" / str(seed) / "boxes.jsonl")
    others = [f"losses.{loss}." for loss in {*VISUAL, *preset.losses} - values["losses"].keys()]
    mine = [each for each in overrides if not each.startswith(tuple(others))]
    return _changed(values, mine, f"preset {preset.name}, arm {name}")


def finetune_recipe(
    preset: Plan, name: str, task: str, seed: int, folder: Path, overrides: Sequence[str] = ()
) -> Recipe:
    """The same for every arm, but for the model that it starts from. Its pictures are others than pretraining's."""
    values = copy.deepcopy(preset.finetune)
    for key, value in preset.tasks.get(task, {}).items():
        both = isinstance(value, dict) and isinstance(values.get(key, {}), dict)
        values[key] = values.get(key, {}) | value if both else value
    values |= {"stage": "finetune", "name": f"study_{name}_{task}", "task": task, "seed": seed}
    values["init"] = str(folder / name / "pretrain" / str(seed) / "model")
    values["data"] = _data(preset, values) | {"seed": 1000 + seed, "region_cache": str(folder / "regions-cache")}
    return _changed(values, overrides, f"preset {preset.name}, task {task}")


def detect_recipe(preset: Preset, seed: int, arm: Arm) -> Recipe:
    """The detector of an arm. It learns from the pictures of pretraining; one that teaches from those of no stage."""
    values = copy.deepcopy(preset.detect) | {"stage": "detect", "name": "study_detector", "seed": seed}
    values["data"] = _data(preset, values) | {"seed": 2000 + seed if arm.detector_stage == "detect_apart" else seed}
    if arm.detector_side:
        values["model"] = values.get("model", {}) | {"image_size": arm.detector_side}
    return parse_recipe(values, f"preset {preset.name}, detect")


def _changed(values: dict[str, Any], overrides: Sequence[str], origin: str) -> Recipe:
    for override in overrides:
        apply_override(values, override)
    return parse_recipe(values, origin)


def _data(preset: Plan, values: dict[str, Any]) -> dict[str, Any]:
    return values.get("data", {}) | {"train": f"{preset.data}:train", "val": f"{preset.data}:val"}
