"""What the study compares: an arm is a way to pretrain; everything after pretraining is alike for all of them."""

import dataclasses
from typing import Literal

from edgevl.registry import Registry

TASKS = ("vqa", "statement", "retrieval")
CONTRAST = "contrast"  # beside the tasks: retrieval by contrast alone
LANGUAGE = ("mlm", "itm", "itc")
MORE_LANGUAGE = ("words",)  # of every arm, where a preset has it
VISUAL = ("object", "semantic_map", "region_distillation")
BASELINE = "language"
OURS = "all"
OPPONENT = "regions"  # with features of regions, for claim (b)
UNTRAINED = "none"
LONGER = "language_1000"
LATENCY = "once/latency"  # rows of this name measure time beside a region-feature model


@dataclasses.dataclass(frozen=True)
class Arm:
    """`ARMS[name]`. Losses are those besides `LANGUAGE` and `MORE_LANGUAGE`, which every arm has."""

    title: str  # in tables
    losses: tuple[str, ...] = ()
    share: float = 1.0  # of the preset's pretraining steps
    lr: float = 1.0  # factor on the pretraining learning rate
    tasks: tuple[str, ...] = TASKS
    seeds: int | None = None  # of the preset's, the first ones: a check beside the grid; None: all
    # What a detector that is trained on Scenes serves for: its regions are the model's eyes, or it teaches region
    # distillation, or it does so and also replaces the true boxes by those that it finds.
    detector: Literal["", "eyes", "teacher", "labels"] = ""
    detector_side: int | None = None  # pixels of the pictures that it sees; None: as the preset says

    @property
    def detector_stage(self) -> str:
        """The row of its detector. One that teaches or labels has never seen the pictures of pretraining."""
        if self.detector != "eyes":
            return "detect_apart"
        return f"detect_{self.detector_side}" if self.detector_side else "detect"


ARMS: Registry[Arm] = Registry("arm")


def _add(name: str, title: str, losses: tuple[str, ...] = (), **options) -> None:
    ARMS.register(name)(Arm(title, losses, **options))


_add(BASELINE, "language losses only")
_add("object", "+ object", ("object",))
_add("map", "+ semantic map", ("semantic_map",))
_add("region", "+ region distillation", ("region_distillation",))
_add("object_map", "+ object, semantic map", ("object", "semantic_map"))
_add("object_region", "+ object, region distillation", ("object", "region_distillation"))
_add("map_region", "+ semantic map, region distillation", ("semantic_map", "region_distillation"))
_add(OURS, "+ all three", VISUAL)
_add("pixels", "+ pixels (negative control)", ("pixels",))
_add(UNTRAINED, "no pretraining (one step)", share=0.0, tasks=("vqa",))
for _percent in (10, 25, 50):
    _add(f"all_{_percent}", f"all three, {_percent} % of the pretraining", VISUAL, share=_percent / 100, tasks=("vqa",))
_add(LONGER, "language only, ten times the pretraining", share=10, tasks=("vqa",))
_add("language_slow", "language only, half the rate", lr=0.5, tasks=("vqa",), seeds=1)
_add("language_fast", "language only, twice the rate", lr=2.0, tasks=("vqa",), seeds=1)
_add(OPPONENT, "region-feature model", ("region_labels",), detector="eyes")
for _side in (64, 112):
    _add(
        f"regions_{_side}", f"region-feature model, detector of {_side} pixels", ("region_labels",), tasks=("vqa",),
        detector="eyes", detector_side=_side, seeds=2,
    )  # fmt: skip
_add("regions_language", "region-feature model, language losses only", tasks=("vqa",), detector="eyes")
_add("detector_teacher", "all three, the detector as teacher", VISUAL, tasks=("vqa",), detector="teacher")
_add("pseudo_labels", "all three, boxes of the detector", VISUAL, tasks=("vqa",), detector="labels")
SIDES = ("regions_64", OPPONENT, "regions_112")  # by the size of what the detector sees, where the preset's is between
ABLATION = ("language", "object", "map", "region", "object_map", "object_region", "map_region", "all", "pixels")
SHORTER = ("all_10", "all_25", "all_50")
TUNED = ("language_slow", "language_fast")


def latency_row(opponent: str) -> str:
    """Return the row that measures our time beside that of a region-feature model, which one arm is."""
    return f"{LATENCY}{opponent.removeprefix(OPPONENT)}/0"
