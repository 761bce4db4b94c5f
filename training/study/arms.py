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


@dataclasses.dataclass(frozen=True)
class Arm:
    """`ARMS[name]`. Losses are those besides `LANGUAGE` and `MORE_LANGUAGE`, which every arm has."""

    title: str  # in tables
    losses: tuple[str, ...] = ()
    share: float = 1.0  # of the preset's pretraining steps
    lr: float = 1.0  # factor on the pretraining learning rate
    tasks: tuple[str, ...] = TASKS
    one_seed: bool = False  # a check beside the grid, with the first seed only
    # What a detector that is trained on Scenes serves for: its regions are the model's eyes, or it teaches region
    # distillation, or it does so and also replaces the true boxes by those that it finds.
    detector: Literal["", "eyes", "teacher", "labels"] = ""

    @property
    def detector_stage(self) -> str:
        """The row of its detector. One that teaches or labels has never seen the pictures of pretraining."""
        return "detect" if self.detector == "eyes" else "detect_apart"


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
_add("language_slow", "language only, half the rate", lr=0.5, tasks=("vqa",), one_seed=True)
_add("language_fast", "language only, twice the rate", lr=2.0, tasks=("vqa",), one_seed=True)
_add(OPPONENT, "region-feature model", ("region_labels",), detector="eyes")
_add("regions_language", "region-feature model, language losses only", tasks=("vqa",), detector="eyes")
_add("detector_teacher", "all three, the detector as teacher", VISUAL, tasks=("vqa",), detector="teacher")
_add("pseudo_labels", "all three, boxes of the detector", VISUAL, tasks=("vqa",), detector="labels")
ABLATION = ("language", "object", "map", "region", "object_map", "object_region", "map_region", "all", "pixels")
SHORTER = ("all_10", "all_25", "all_50")
TUNED = ("language_slow", "language_fast")
