"""`generate`: a sequence of tokens, at each step the one with the largest score, until the stop token."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from edgevl.bundle.fields import Name, Part
from edgevl.bundle.specs import OutputSpec
from edgevl.contracts import Answer, Arrays, Described, Query
from edgevl.decodings import DECODINGS
from edgevl.decodings.base import Declared, kl_divergence, margins_of, one_text_each, row_problems, share_of_equal
from edgevl.decodings.runner import Loop, Runner
from edgevl.errors import InputError, VerificationFailed

if TYPE_CHECKING:
    from torch import Tensor

Token = Annotated[int, Field(ge=0, le=2**22)]


class GenerateFields(Part):
    kind: Literal["generate"]
    program: Name  # that is run once for a token
    output: Name  # scores [A] of the next token
    text: Name = "main"  # the text processing whose tokens these are
    start: Token
    stop: Token
    steps: Annotated[int, Field(ge=1, le=4096)]  # tokens at most, the stop token included


@DECODINGS.register("generate")
class Generate(Declared[GenerateFields]):
    """Results are the token ids of one sequence for each text of a query, or for the picture alone, one after another.

    Values of a query are the scores of all steps, one below the other.
    """

    kind = "generate"
    sequential = True
    stored = 8
    Fields = GenerateFields

    def __init__(self, model: Described):
        super().__init__(model)
        if self.fields.text not in model.texts:
            raise InputError(f'the decoding generate names the text processing "{self.fields.text}", there is none')

    def run(
        self, runner: Runner, queries: Sequence[Query], along: Sequence[Answer[list[int]]] | None = None
    ) -> list[Answer[list[int]]]:
        """Answer queries. With `along` every step follows the token that the reference chose, whatever is best here."""
        if any(len(query.texts) > 1 for query in queries):
            raise InputError("a query of a generated answer has one text at most: ask one after another")
        following = [list(answer.result) for answer in along] if along else None
        return [
            self.answer({self.fields.output: np.stack(rows)})
            for rows in self._sequences(runner, one_text_each(queries), following)
        ]

    def _sequences(
        self, runner: Runner, queries: Sequence[Query], following: list[list[int]] | None
    ) -> list[list[np.ndarray]]:
        """Return the scores of each step of each sequence. Sequences that have ended are no longer run."""
        program, count = self.fields.program, len(queries)
        loops: list[Loop] = [runner.start(program, query) for query in queries]
        last, scores, open_ = [self.fields.start] * count, [[] for _ in queries], list(range(count))
        for step in range(self.fields.steps):
            rows, after = runner.step(program, [loops[i] for i in open_], [last[i] for i in open_])
            for i, row, loop in zip(open_, rows, after):
                loops[i] = loop
                scores[i].append(row[self.fields.output])
                last[i] = following[i][step] if following else int(row[self.fields.output].argmax())
            ends = [len(tokens) for tokens in following] if following else [self.fields.steps] * count
            open_ = [i for i in open_ if last[i] != self.fields.stop and step + 1 < ends[i]]
            if not open_:
                break
        return scores

    def problems(self, outputs: Mapping[str, OutputSpec]) -> list[str]:
        return row_problems(outputs, self.fields.output, 2)

    def answer(self, values: Arrays) -> Answer[list[int]]:
        scores_LA = values[self.fields.output]
        if np.isnan(scores_LA).any():
            raise VerificationFailed("the artifact gives scores that are not numbers: verify it")
        return Answer(values, scores_LA.argmax(axis=1).tolist(), margins_of(scores_LA))

    def same(self, own: Answer[list[int]], reference: Answer[list[int]], tolerance: Mapping[str, float]) -> bool:
        """Say if the tokens are equal up to the first decision that was not clear: what follows it may differ."""
        least = 2 * max(tolerance.values())
        for index, token in enumerate(reference.result):
            if index < len(reference.margins) and reference.margins[index] <= least:
                return True
            if own.result[index : index + 1] != [token]:
                return False
        return len(own.result) == len(reference.result)

    def agreement(self, own: Sequence[Answer[list[int]]], reference: Sequence[Answer[list[int]]]) -> float:
        return share_of_equal(own, reference)

    def divergence(self, own: "Mapping[str, Tensor]", reference: "Mapping[str, Tensor]") -> "Tensor":
        return kl_divergence(own[self.fields.output], reference[self.fields.output])

    def words(self, answer: Answer[list[int]]) -> list[str]:
        """Return the text of the tokens before the stop token."""
        tokens = list(answer.result)
        end = tokens.index(self.fields.stop) if self.fields.stop in tokens else len(tokens)
        return [self.model.texts[self.fields.text].decode(tokens[:end])]

    def to_json(self, answer: Answer[list[int]], query: Query, top: int = 5) -> list[dict[str, Any]]:
        """Return `answer`, the text, and `tokens`, their ids."""
        return [{"answer": self.words(answer)[0], "tokens": list(answer.result)}]
