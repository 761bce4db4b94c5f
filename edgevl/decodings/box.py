"""`box`: where in the picture a phrase is, for each text of a query."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgevl.bundle.fields import Name, Part
from edgevl.bundle.specs import OutputSpec
from edgevl.contracts import Answer, Arrays, Query
from edgevl.decodings import DECODINGS
from edgevl.decodings.base import Declared, one_text_each, regroup, row_problems
from edgevl.decodings.runner import Runner
from edgevl.errors import InputError, VerificationFailed

if TYPE_CHECKING:
    from torch import Tensor

SAME_IOU = 0.9  # two boxes that overlap so much count as one
Box = list[float]  # left, top, right, bottom, as shares of the picture's sides


class BoxFields(Part):
    kind: Literal["box"]
    output: Name  # four numbers, 0 to 1, of the picture as the model sees it
    format: Literal["center", "corners"] = "center"  # x, y, width, height of the center; or left, top, right, bottom


@DECODINGS.register("box")
class BoxDecoding(Declared[BoxFields]):
    """Results are boxes, one for each text."""

    kind = "box"
    Fields = BoxFields

    def run(
        self, runner: Runner, queries: Sequence[Query], along: Sequence[Answer[list[Box]]] | None = None
    ) -> list[Answer[list[Box]]]:
        """Answer queries. No decision depends on another, so `along` changes nothing."""
        rows = runner.many(self.fields.output, one_text_each(queries))
        return [self.answer({self.fields.output: values_N4}) for values_N4 in regroup(rows, queries)]

    def problems(self, outputs: Mapping[str, OutputSpec]) -> list[str]:
        return row_problems(outputs, self.fields.output, 2, 4)

    def answer(self, values: Arrays) -> Answer[list[Box]]:
        values_N4 = values[self.fields.output]
        if values_N4.shape[1:] != (4,) or not np.isfinite(values_N4).all():
            raise VerificationFailed("the artifact gives boxes that are not four finite numbers: verify it")
        return Answer(values, self._corners(values_N4).tolist())

    def _corners(self, values_N4: np.ndarray) -> np.ndarray:
        if self.fields.format == "corners":
            return values_N4.clip(0, 1)
        middle, half = values_N4[:, :2], values_N4[:, 2:] / 2
        return np.concatenate([middle - half, middle + half], axis=1).clip(0, 1)

    def same(self, own: Answer[list[Box]], reference: Answer[list[Box]], tolerance: Mapping[str, float]) -> bool:
        """Say if no corner is further away than twice the tolerance."""
        difference = np.abs(np.subtract(own.result, reference.result))
        return bool(difference.max(initial=0) <= 2 * max(tolerance.values()))

    def agreement(self, own: Sequence[Answer[list[Box]]], reference: Sequence[Answer[list[Box]]]) -> float:
        """Return the share of boxes with an IoU of at least `SAME_IOU`."""
        pairs = [pair for one, other in zip(own, reference) for pair in zip(one.result, other.result)]
        return sum(iou(a, b) >= SAME_IOU for a, b in pairs) / len(pairs) if pairs else 1.0

    def divergence(self, own: "Mapping[str, Tensor]", reference: "Mapping[str, Tensor]") -> "Tensor":
        return (own[self.fields.output] - reference[self.fields.output]).abs().mean()

    def words(self, answer: Answer[list[Box]]) -> list[str]:
        raise InputError("a box has no words")

    def to_json(self, answer: Answer[list[Box]], query: Query, top: int = 5) -> list[dict[str, Any]]:
        """Return `box` for each text: left, top, right, bottom as shares of the picture's sides."""
        return [{"box": box} for box in answer.result]


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the intersection over union of two boxes (left, top, right, bottom), 0 to 1."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / area if area > 0 else float(list(a) == list(b))
