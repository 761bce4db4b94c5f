"""`retrieval`: the picture of a caption among many, and the caption of a picture.

Shapes: N pictures with a caption each, D width of an embedding.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevl.contracts import Answer, Decoding, Metric, Query, Record, Sample
from edgevl.errors import InputError
from edgevl.tasks import TASKS
from edgevl.tasks.metrics import share

if TYPE_CHECKING:
    from torch import Tensor

AT = (1, 5, 10)  # K of recall@K
OFFERED = 8  # captions of which the longest are taken: "exactly two objects" finds no picture


@TASKS.register("retrieval")
class Retrieval:
    """Metrics: `text_to_image_r1`, `_r5`, `_r10`, then `image_to_text_…`, over all samples that were scored."""

    name = "retrieval"
    aliases = ("zero-shot-image-classification", "image-text-retrieval")
    decodings = ("rank",)

    def samples(self, record: Record, count: int | None = None) -> list[Sample]:
        """Return one for each of the most specific captions; without a count, for the longest."""
        captions = sorted((record.captions or ())[:OFFERED], key=lambda caption: -len(caption))
        return [Sample(Query(record.pictures, (text,)), None, group=record.key) for text in captions[: count or 1]]

    def score(self, answers: Sequence[Answer[Any]], samples: Sequence[Sample], decoding: Decoding[Any]) -> list[Metric]:
        """Rank every picture for every text. Samples of one group (captions of one picture) are all right."""
        pictures_ND, texts_ND = embeddings(answers, decoding)
        groups = [sample.group or str(index) for index, sample in enumerate(samples)]
        number = {group: index for index, group in enumerate(dict.fromkeys(groups))}
        group_N = np.array([number[group] for group in groups])
        similar_NN = texts_ND.astype(np.float64) @ pictures_ND.T.astype(np.float64)
        metrics = []
        for name, scores_NN in (("text_to_image", similar_NN), ("image_to_text", similar_NN.T)):
            rank_N = ranks(scores_NN, group_N)
            metrics += [share(f"{name}_r{k}", (rank_N < k).tolist(), samples) for k in AT]
        return metrics

    def losses(self, values: "Mapping[str, Tensor]", batch: "Mapping[str, Tensor]") -> "Mapping[str, Tensor]":
        """Return the contrast of `image_embeds` [N, D] and `text_embeds` [N, D], with the temperature of `scale` []."""
        import torch
        from torch.nn.functional import cross_entropy

        similar_NN = values["scale"] * values["text_embeds"].float() @ values["image_embeds"].float().T
        own_N = torch.arange(len(similar_NN), device=similar_NN.device)
        return {"contrast": (cross_entropy(similar_NN, own_N) + cross_entropy(similar_NN.T, own_N)) / 2}


def embeddings(answers: Sequence[Answer[Any]], decoding: Decoding[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the embeddings of pictures and texts, [N, D] each. Raises `InputError` for values that are not finite."""
    names = decoding.model.decoding["picture"], decoding.model.decoding["text"]
    pictures_ND, texts_ND = (np.concatenate([answer.values[name] for answer in answers]) for name in names)
    if not (np.isfinite(pictures_ND).all() and np.isfinite(texts_ND).all()):
        raise InputError("the embeddings are not finite: verify the artifact")
    return pictures_ND, texts_ND


def ranks(scores_NN: np.ndarray, group_N: np.ndarray) -> np.ndarray:
    """Return for each row how many candidates of other groups score at least as well as the best of its own group."""
    own_NN = group_N[:, None] == group_N[None, :]
    best_N1 = np.where(own_NN, scores_NN, -np.inf).max(axis=1, keepdims=True)
    return ((scores_NN >= best_N1) & ~own_NN).sum(axis=1)
