"""`grounding`: where in a picture is what a phrase names?"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgevl.contracts import Answer, Decoding, Metric, Query, Record, Sample
from edgevl.decodings.box import iou
from edgevl.tasks import TASKS
from edgevl.tasks.metrics import share

if TYPE_CHECKING:
    from torch import Tensor

LEAST_IOU = 0.5


@TASKS.register("grounding")
class Grounding:
    """Targets are boxes (left, top, right, bottom) as shares of the picture's sides. Its metric is `accuracy_iou50`."""

    name = "grounding"
    aliases = ("zero-shot-object-detection",)
    decodings = ("box",)

    def samples(self, record: Record, count: int | None = None) -> list[Sample]:
        """Return one for each phrase."""
        return [
            Sample(Query(record.pictures, (phrase.text,)), tuple(phrase.box), group=record.key)
            for phrase in (record.phrases or ())[:count]
        ]

    def score(self, answers: Sequence[Answer[Any]], samples: Sequence[Sample], decoding: Decoding[Any]) -> list[Metric]:
        right = [iou(answer.result[0], sample.target) >= LEAST_IOU for answer, sample in zip(answers, samples)]
        return [share("accuracy_iou50", right, samples)]

    def losses(self, values: "Mapping[str, Tensor]", batch: "Mapping[str, Tensor]") -> "Mapping[str, Tensor]":
        """Return the mean absolute difference of `box` and `boxes`, [N, 4] each."""
        return {self.name: (values["box"].float() - batch["boxes"].float()).abs().mean()}
