"""Is a true caption above its twin, the same with one fact changed? Recall hides what a model does not read.

Shapes: D width of an embedding.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from edgevl.contracts import Deployable, Metric, Query, Sample
from edgevl.data.scenes import COLORS, SIZES, Scenes
from edgevl.data.scenes.facts import RELATIONS
from edgevl.data.scenes.names import NUMBERS
from edgevl.decodings import decoding_of
from edgevl.decodings.runner import Runner
from edgevl.runtime.eager_session import eager_runner
from edgevl.tasks.metrics import share

CAPTIONS = 8  # of each picture
# In this order: "a red cat" against "a red dog" differs in its category, and "exactly two" against "exactly one" in
# more words than its number.
_WORDS = {
    "number": frozenset(NUMBERS),
    "side": frozenset(word for relation in RELATIONS for word in relation.split()),
    "color": frozenset(COLORS),
    "size": frozenset(SIZES),
}


class Twins(NamedTuple):
    """Two captions of which only one is true, and the kind of fact that parts them."""

    true: str
    false: str
    kind: str


def changed_fact(true: str, false: str) -> str:
    """Return what parts two captions: `list`, `swap`, `number`, `side`, `color`, `size` or `category`."""
    if " objects: " in true:
        return "list"
    before, after = Counter(true.split()), Counter(false.split())
    changed = (before - after).keys()
    if not changed:
        return "swap"
    return next((kind for kind, words in _WORDS.items() if words & changed), "category")


def twins_of(scenes: Scenes, index: int) -> list[Twins]:
    """Return the twins of a picture's captions."""
    pairs = scenes.scene(index).caption_pairs(CAPTIONS)
    return [Twins(true, false, changed_fact(true, false)) for true, false in pairs]


def twin_metrics(model: Deployable, scenes: Scenes, pictures: int, runner: Runner | None = None) -> list[Metric]:
    """Return the share of twins whose true caption fits its picture better, for each kind; a tie is wrong.

    runner: over the programs of `model`, or over its artifacts; default: the float programs.
    """
    twins = [(index, twin) for index in range(pictures) for twin in twins_of(scenes, index)]
    decoding, runner = decoding_of(model), runner or eager_runner(model)
    queries = [Query(scenes[index].pictures, (twin.true, twin.false)) for index, twin in twins]
    answers = decoding.run(runner, queries)
    samples = [Sample(query, 0, twin.kind, str(index)) for query, (index, twin) in zip(queries, twins)]
    right = [bool(answer.result[0] == 0 and answer.margins[0] > 0) for answer in answers]
    return [*_each_kind(samples, right)]


def _each_kind(samples: list[Sample], right: list[bool]) -> Iterator[Metric]:
    for kind in sorted({sample.kind for sample in samples}):
        rows = [number for number, sample in enumerate(samples) if sample.kind == kind]
        yield share(kind, [right[number] for number in rows], [samples[number] for number in rows])
