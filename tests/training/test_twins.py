"""Twins of captions: the kind of fact that parts them, and who is above whom."""

import numpy as np
import pytest

from edgevl.data.scenes import Scenes
from edgevl.decodings.runner import Runner
from edgevl.embedded import FINDS_PICTURES
from edgevl.models.kinds import open_deployable
from edgevl.training.short_queries import short_query_metrics
from edgevl.training.twins import changed_fact, twin_metrics, twins_of


@pytest.mark.parametrize(
    "true, false, kind",
    [
        ("a small cyan cat left of a red dog", "a small cyan cat right of a red dog", "side"),
        ("a red cat above a blue dog", "a red cat below a blue dog", "side"),
        ("an orange cat left of a red dog", "a red dog left of an orange cat", "swap"),
        ("a large red pine tree", "a small red pine tree", "size"),
        ("a red pine tree", "an orange pine tree", "color"),
        ("a red pine tree", "a red palm tree", "category"),
        ("exactly two red objects", "exactly one red object", "number"),
        ("exactly two cats", "exactly two dogs", "category"),
        ("two objects: a red cat and a blue dog", "two objects: a red cat and a green dog", "list"),
    ],
)
def test_the_fact_that_was_changed(true, false, kind):
    assert changed_fact(true, false) == kind


def test_every_twin_of_scenes_differs_and_most_kinds_occur():
    scenes = Scenes("test", size=32)
    twins = [twin for index in range(60) for twin in twins_of(scenes, index)]
    assert all(twin.true != twin.false for twin in twins)
    assert {twin.kind for twin in twins} == {"list", "swap", "number", "side", "color", "size", "category"}


class Reader:
    """A stand-in for both encoders: a text's embedding is nearest to every picture's unless it holds a word."""

    def __init__(self, word_id):
        self.word_id = word_id

    def run(self, feeds):
        if "image" in feeds:
            return {"image_embeds": np.array([[1.0, 0.0]] * len(feeds["image"]), np.float32)}
        holds = (feeds["input_ids"] == self.word_id).any(axis=1)
        return {"text_embeds": np.where(holds[:, None], [[0.0, 1.0]], [[1.0, 0.0]]).astype(np.float32)}


def test_a_tie_is_wrong_and_each_kind_is_counted_by_itself():
    from edgevl.app.conformance.small_models import MODELS

    model, scenes = MODELS["towers"](), Scenes("test", size=32)
    tokenizer = model.texts["main"].tokenizer  # pyright: ignore[reportAttributeAccessIssue]
    reader = Reader(tokenizer.pieces("small")[0])
    sessions = {"image_encoder": reader, "text_encoder": reader}
    runner = Runner([each.spec for each in model.programs("towers")], sessions, model.images, model.texts)
    found = {metric.name: metric for metric in twin_metrics(model, scenes, 40, runner)}
    twins = [twin for index in range(40) for twin in twins_of(scenes, index)]
    sizes = [twin for twin in twins if twin.kind == "size"]
    assert found["swap"].value == 0
    assert found["size"].samples == len(sizes)
    above = ["small" in twin.false.split() and "small" not in twin.true.split() for twin in sizes]
    assert found["size"].value == pytest.approx(np.mean(above))


def test_short_queries_ask_for_every_object_once():
    model, scenes, count = open_deployable(FINDS_PICTURES), Scenes("test", size=128), 24
    objects = [each for index in range(count) for each in scenes[index].objects or ()]
    metrics = {metric.name: metric for metric in short_query_metrics(model, scenes, count)}
    assert metrics["category"].samples == len({each.category for each in objects})
    assert metrics["color and category"].samples == len({(each.color, each.category) for each in objects})
    assert metrics["category"].value > 0.9 and metrics["color and category"].value > 0.4
