"""`classify`: the label of the largest score, for each text of a query, or for the picture alone."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgevl.bundle.fields import Name, Part
from edgevl.bundle.specs import OutputSpec
from edgevl.contracts import Answer, Arrays, Described, Query
from edgevl.decodings import DECODINGS
from edgevl.decodings.base import (
    Activation,
    Declared,
    best,
    kl_divergence,
    margins_of,
    one_text_each,
    regroup,
    row_problems,
    same_decisions,
    share_of_equal,
    to_shares,
)
from edgevl.decodings.runner import Runner
from edgevl.errors import InputError, VerificationFailed

if TYPE_CHECKING:
    from torch import Tensor


class ClassifyFields(Part):
    kind: Literal["classify"]
    output: Name  # scores [A], one for each label
    activation: Activation = "softmax"


@DECODINGS.register("classify")
class Classify(Declared[ClassifyFields]):
    """Results are labels, one for each text of a query."""

    kind = "classify"
    Fields = ClassifyFields

    def __init__(self, model: Described):
        super().__init__(model)
        if not model.labels:
            raise InputError("the decoding classify needs labels, this model has none")
        self.labels = list(model.labels)

    def run(
        self, runner: Runner, queries: Sequence[Query], along: Sequence[Answer[list[str]]] | None = None
    ) -> list[Answer[list[str]]]:
        """Answer queries. No decision depends on another, so `along` changes nothing."""
        rows = runner.many(self.fields.output, one_text_each(queries))
        return [self.answer({self.fields.output: scores_NA}) for scores_NA in regroup(rows, queries)]

    def problems(self, outputs: Mapping[str, OutputSpec]) -> list[str]:
        return row_problems(outputs, self.fields.output, 2, len(self.labels))

    def answer(self, values: Arrays) -> Answer[list[str]]:
        scores_NA = values[self.fields.output]
        if scores_NA.shape[1:] != (len(self.labels),) or not np.isfinite(scores_NA).all():
            raise VerificationFailed(
                "the artifact gives scores that are not finite or do not fit the labels: verify it"
            )
        result = [self.labels[index] for index in scores_NA.argmax(axis=1)]
        return Answer(values, result, margins_of(scores_NA))

    def same(self, own: Answer[list[str]], reference: Answer[list[str]], tolerance: Mapping[str, float]) -> bool:
        return same_decisions(own, reference, tolerance)

    def agreement(self, own: Sequence[Answer[list[str]]], reference: Sequence[Answer[list[str]]]) -> float:
        return share_of_equal(own, reference)

    def divergence(self, own: "Mapping[str, Tensor]", reference: "Mapping[str, Tensor]") -> "Tensor":
        return kl_divergence(own[self.fields.output], reference[self.fields.output])

    def words(self, answer: Answer[list[str]]) -> list[str]:
        return list(answer.result)

    def to_json(self, answer: Answer[list[str]], query: Query, top: int = 5) -> list[dict[str, Any]]:
        """Return `answer` and `scores`, (label, share) best first, for each text."""
        shares_NA = to_shares(answer.values[self.fields.output], self.fields.activation)
        return [
            {"answer": label, "scores": best(self.labels, shares, top)}
            for label, shares in zip(answer.result, shares_NA)
        ]
