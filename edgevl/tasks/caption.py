"""`caption`: a sentence about a picture."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevl.contracts import Answer, Decoding, Metric, Query, Record, Sample
from edgevl.tasks import TASKS
from edgevl.tasks.metrics import bootstrap

if TYPE_CHECKING:
    from torch import Tensor


@TASKS.register("caption")
class Caption:
    """Targets are captions, any of which is right. Its metric is `word_f1`: words shared with the nearest caption."""

    name = "caption"
    aliases = ("image-to-text", "image-captioning")
    decodings = ("generate",)

    def samples(self, record: Record, count: int | None = None) -> list[Sample]:
        """Return one for a record that has captions."""
        captions = tuple((record.captions or ())[:count])
        return [Sample(Query(record.pictures), captions, group=record.key)] if captions else []

    def score(self, answers: Sequence[Answer[Any]], samples: Sequence[Sample], decoding: Decoding[Any]) -> list[Metric]:
        shared = [
            max(word_f1(decoding.words(answer)[0], caption) for caption in sample.target)
            for answer, sample in zip(answers, samples)
        ]
        interval = bootstrap(np.array(shared), [sample.group for sample in samples])
        return [Metric("word_f1", float(np.mean(shared)), interval, len(shared))]

    def losses(self, values: "Mapping[str, Tensor]", batch: "Mapping[str, Tensor]") -> "Mapping[str, Tensor]":
        """Return the cross entropy of `logits` [N, T, A] and the next tokens, `tokens` [N, T]; 0 is padding."""
        from torch.nn.functional import cross_entropy

        logits = values["logits"].float()
        return {self.name: cross_entropy(logits.flatten(0, 1), batch["tokens"].flatten(), ignore_index=0)}


def word_f1(own: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall of words, 0 to 1, without regard to case and order."""
    a, b = (Counter(text.lower().split()) for text in (own, reference))
    common = sum((a & b).values())
    return 2 * common / (a.total() + b.total()) if common else 0.0
