"""Does the first picture for "a red car" show one? Recall asks with the longest captions; people ask with few words.

Shapes: N pictures, T texts, D width of an embedding.
"""

from collections.abc import Sequence

import numpy as np

from edgevl.contracts import Deployable, Metric, Query, Sample
from edgevl.data.scenes import Scenes
from edgevl.data.scenes.names import with_article
from edgevl.decodings.rank import Rank
from edgevl.runtime.eager_session import eager_runner
from edgevl.tasks.metrics import share


def short_query_metrics(model: Deployable, scenes: Scenes, pictures: int) -> list[Metric]:
    """Return the share of queries whose first picture holds the object: by category, and by color and category.

    Every object of the pictures is asked for once: "a car", "a red car".
    """
    objects = [scenes[index].objects or () for index in range(pictures)]
    kinds = {
        "category": [{with_article(each.category) for each in found} for found in objects],
        "color and category": [{with_article(f"{each.color} {each.category}") for each in found} for found in objects],
    }
    decoding, runner = Rank(model), eager_runner(model)
    shown = [Query((scenes[index].pictures[0],)) for index in range(pictures)]
    pictures_ND = np.stack(runner.many(decoding.fields.picture, shown))
    metrics = []
    for kind, held in kinds.items():
        texts = sorted(set().union(*held))
        texts_TD = np.stack(runner.many(decoding.fields.text, [Query((), (text,)) for text in texts]))
        metrics.append(_first_holds(kind, texts, held, decoding.similarity(texts_TD, pictures_ND).argmax(axis=1)))
    return metrics


def _first_holds(kind: str, texts: Sequence[str], held: Sequence[set[str]], first_T: np.ndarray) -> Metric:
    right = [text in held[first] for text, first in zip(texts, first_T.tolist())]
    return share(kind, right, [Sample(Query((), (text,)), None, kind, text) for text in texts])
