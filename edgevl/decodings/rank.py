"""`rank`: pictures against texts by the product of their embeddings.

Zero-shot classification is ranking against prompts: a label stands for the mean of its prompts' embeddings.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from edgevl.bundle.fields import Name, Part, Real, Text
from edgevl.bundle.specs import OutputSpec
from edgevl.contracts import Answer, Arrays, Described, Query
from edgevl.decodings import DECODINGS
from edgevl.decodings.base import (
    Activation,
    Declared,
    Positive,
    best,
    kl_divergence,
    margins_of,
    row_problems,
    same_decisions,
    share_of_equal,
    to_shares,
)
from edgevl.decodings.runner import Runner
from edgevl.errors import InputError, VerificationFailed

if TYPE_CHECKING:
    from torch import Tensor


SIDES = re.compile(r"\b(left|right|above|below|under|over|behind)\b", re.IGNORECASE)
ABOUT_SIDES = (
    "embeddings say what is in a picture, not where it is: which of two things is left, right, above or below the "
    "other hardly counts"
)


class RankFields(Part):
    kind: Literal["rank"]
    picture: Name  # embedding [D] of a picture, of length 1
    text: Name  # embedding [D] of a text, of length 1
    scale: Positive  # scores are scale * (picture . text) + bias
    bias: Real = 0.0
    activation: Activation = "softmax"
    prompts: Annotated[tuple[Text, ...], Field(max_length=64)] = ()  # with "{}" where a label goes


@DECODINGS.register("rank")
class Rank(Declared[RankFields]):
    """Results are the number of the best text for each picture of a query; with one side only there are none."""

    kind = "rank"
    Fields = RankFields

    def __init__(self, model: Described):
        super().__init__(model)
        for prompt in self.fields.prompts:
            if prompt.count("{}") != 1:
                raise InputError(f'the prompt "{prompt}" must hold {{}} once, where the label goes')

    def run(
        self, runner: Runner, queries: Sequence[Query], along: Sequence[Answer[list[int]]] | None = None
    ) -> list[Answer[list[int]]]:
        """Embed the pictures and texts of queries. No decision depends on another, so `along` changes nothing."""
        pictures = iter(runner.many(self.fields.picture, [Query((p,)) for q in queries for p in q.pictures]))
        texts = iter(runner.many(self.fields.text, [Query((), (t,)) for q in queries for t in q.texts]))
        found = []
        for query in queries:
            values = {}
            if query.pictures:
                values[self.fields.picture] = np.stack([next(pictures) for _ in query.pictures])
            if query.texts:
                values[self.fields.text] = np.stack([next(texts) for _ in query.texts])
            found.append(self.answer(values))
        return found

    def problems(self, outputs: Mapping[str, OutputSpec]) -> list[str]:
        width = outputs[self.fields.picture].shape[-1] if self.fields.picture in outputs else None
        return row_problems(outputs, self.fields.picture, 2) + row_problems(outputs, self.fields.text, 2, width)

    def apart(self, query: Query) -> list[Query]:
        """Texts are ranked against each other, so they stay together."""
        return [query]

    def answer(self, values: Arrays) -> Answer[list[int]]:
        if not all(np.isfinite(array).all() for array in values.values()):
            raise VerificationFailed("the artifact gives embeddings that are not finite: verify it")
        if len(values) < 2:
            return Answer(values, [])
        similar_PT = self.similarity(values[self.fields.picture], values[self.fields.text])
        return Answer(values, similar_PT.argmax(axis=1).tolist(), margins_of(similar_PT))

    def similarity(self, pictures_PD: np.ndarray, texts_TD: np.ndarray) -> np.ndarray:
        """Return the products [P, T] of embeddings, -1 to 1."""
        return pictures_PD @ texts_TD.T

    def scores(self, pictures_PD: np.ndarray, texts_TD: np.ndarray) -> np.ndarray:
        """Return the scores [P, T], before the activation."""
        return self.fields.scale * self.similarity(pictures_PD, texts_TD) + self.fields.bias

    def same(self, own: Answer[list[int]], reference: Answer[list[int]], tolerance: Mapping[str, float]) -> bool:
        return same_decisions(own, reference, tolerance)

    def agreement(self, own: Sequence[Answer[list[int]]], reference: Sequence[Answer[list[int]]]) -> float:
        return share_of_equal(own, reference)

    def divergence(self, own: "Mapping[str, Tensor]", reference: "Mapping[str, Tensor]") -> "Tensor":
        """Return how far the distributions over the pictures of a batch are apart, for each of its texts."""
        picture, text, scale = self.fields.picture, self.fields.text, self.fields.scale
        return kl_divergence(scale * own[text] @ own[picture].T, scale * reference[text] @ reference[picture].T)

    def words(self, answer: Answer[list[int]]) -> list[str]:
        """Return the number of the best text of each picture: the texts are the query's."""
        return [str(index) for index in answer.result]

    def to_json(self, answer: Answer[list[int]], query: Query, top: int = 5) -> list[dict[str, Any]]:
        """Return `answer` and `scores`, (text, share) best first, for each picture."""
        if not (query.pictures and query.texts):
            return []
        scores_PT = self.scores(answer.values[self.fields.picture], answer.values[self.fields.text])
        return [
            {"answer": query.texts[index], "scores": best(query.texts, shares, top)}
            for index, shares in zip(answer.result, to_shares(scores_PT, self.fields.activation))
        ]

    def doubts(self, texts: Sequence[str]) -> list[str]:
        """Return what a user should know about ranking these texts for a picture."""
        alone = "one text alone has the whole share, whatever the picture: give two or more"
        sides = any(SIDES.search(text) for text in texts)
        return [alone] * (len(set(texts)) == 1) + [ABOUT_SIDES] * sides

    def label_shares(self, runner: Runner, pictures_PD: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """Return the share [P, A] of each label for each picture. Raises `InputError` for fewer than two labels."""
        if len(set(labels)) < 2:
            raise InputError(f"{len(set(labels))} label: give two or more, for a picture gets the best of them")
        return to_shares(self.scores(pictures_PD, self.label_embeddings(runner, labels)), self.fields.activation)

    def label_embeddings(self, runner: Runner, labels: Sequence[str]) -> np.ndarray:
        """Return [A, D], of length 1: the mean of the embeddings of each label's prompts."""
        prompts = self.fields.prompts or ("{}",)
        rows = runner.many(
            self.fields.text, [Query((), (prompt.replace("{}", label),)) for label in labels for prompt in prompts]
        )
        mean_AD = np.stack(rows).reshape(len(labels), len(prompts), -1).mean(axis=1)
        return mean_AD / np.linalg.norm(mean_AD, axis=1, keepdims=True).clip(min=1e-12)
