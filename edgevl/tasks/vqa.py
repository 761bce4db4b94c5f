"""`vqa`: a question about a picture, answered by a label or by generated words."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgevl.contracts import Answer, Decoding, Metric, Query, Record, Sample
from edgevl.tasks import TASKS
from edgevl.tasks.metrics import is_right, share

if TYPE_CHECKING:
    from torch import Tensor


@TASKS.register("vqa")
class Vqa:
    """A target holds the answers in words that are right, one or several. Its metric is `accuracy`."""

    name = "vqa"
    aliases = ("visual-question-answering",)
    decodings = ("classify", "generate")

    def samples(self, record: Record, count: int | None = None) -> list[Sample]:
        """Return one for each question."""
        return [
            Sample(Query(record.pictures, (question.text,)), right_answers(question), question.kind, record.key)
            for question in (record.questions or ())[:count]
        ]

    def score(self, answers: Sequence[Answer[Any]], samples: Sequence[Sample], decoding: Decoding[Any]) -> list[Metric]:
        right = [is_right(decoding.words(answer)[:1], sample.target)[0] for answer, sample in zip(answers, samples)]
        return [share("accuracy", right, samples)]

    def losses(self, values: "Mapping[str, Tensor]", batch: "Mapping[str, Tensor]") -> "Mapping[str, Tensor]":
        """Return the cross entropy of `logits` [N, A] and the numbers of the right labels, `answers` [N]."""
        from torch.nn.functional import cross_entropy

        return {self.name: cross_entropy(values["logits"].float(), batch["answers"].flatten())}


def right_answers(question: Any) -> tuple[str, ...]:
    """Return every answer that is right, the one to learn first: a question without `answers` has no other."""
    return tuple(dict.fromkeys((question.answer, *getattr(question, "answers", ()))))
