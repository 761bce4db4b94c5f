"""Records: what any data set knows of a picture, made only when it is read."""

from itertools import islice

import numpy as np
import pytest

from edgevl.contracts import Dataset
from edgevl.data import DATASETS, open_dataset, scenes_of
from edgevl.data.lazy import Lazy
from edgevl.data.scenes import ANSWERS, SPLITS, VOCABULARY, Scenes, questions
from edgevl.errors import InputError
from edgevl.tasks import task_named


@pytest.mark.parametrize("split", SPLITS)
def test_a_record_says_what_its_scene_says(split):
    data = open_dataset(f"scenes:{split}", seed=3, size=64)
    scene = Scenes(split, 3, 64).scene(11)
    record = data[11]
    assert record.key == f"{split}/3/11" and np.array_equal(record.pictures[0], scene.image)
    assert [record.questions[:1], record.questions[:5]] == [scene.questions(1), scene.questions(5)]  # type: ignore[index]
    assert record.questions.of_kinds(["size"])[:2] == scene.questions(2, ["size"])  # type: ignore[union-attr]
    assert record.captions[:3] == scene.captions(3)  # type: ignore[index]
    assert record.statements[:4] == scene.statements(4)  # type: ignore[index]
    assert record.objects == scene.objects
    for phrase, referring in zip(record.phrases[:2], scene.referring(2), strict=True):  # type: ignore[index]
        box = scene.objects[referring.object_index].box
        assert (phrase.text, phrase.box) == (referring.phrase, tuple(edge / 64 for edge in box))


def test_scenes_are_an_endless_data_set():
    data: Dataset = open_dataset("scenes")
    assert (data.name, data.finite, len(data)) == ("scenes:test", False, 2**31 - 1)
    assert data.labels["vqa"] == ANSWERS and {"yes", "no"} <= {*data.labels["statement"]}
    assert tuple(data.texts()) == VOCABULARY


@pytest.mark.parametrize("task", ["vqa", "statement", "caption", "retrieval", "grounding"])
def test_every_task_finds_its_samples_in_a_record(task):
    samples = task_named(task).samples(open_dataset("scenes:val", size=64)[2], 1)
    assert len(samples) == 1 and samples[0].group == "val/0/2"


def test_a_text_that_nobody_reads_is_not_made(monkeypatch):
    drawn = []
    monkeypatch.setattr(questions, "shuffled", lambda rng, known: drawn.append(1) or known)
    record = Scenes("train", size=64)[0]
    assert record.captions and not drawn
    assert record.questions and drawn == [1]


def test_a_lazy_sequence_is_pulled_no_further_than_it_is_read():
    pulled = []
    lazy = Lazy(lambda: (pulled.append(i) or i for i in range(10)))  # pyright: ignore[reportArgumentType]
    assert not pulled
    assert lazy and pulled == [0]
    assert (lazy[1], lazy[:3], lazy[2:4], [*islice(lazy, 2)], pulled) == (1, [0, 1, 2], [2, 3], [0, 1], [0, 1, 2, 3])
    assert (lazy[-1], len(lazy), lazy[::-3], 9 in lazy) == (9, 10, [9, 6, 3, 0], True)
    assert len(pulled) == 10 and not Lazy(lambda: iter(()))
    with pytest.raises(IndexError):
        lazy[10]


def test_what_needs_exact_annotations_refuses_other_data(monkeypatch):
    class Other:
        name = "other:all"

    monkeypatch.setitem(DATASETS._items, "other", lambda place, seed, size: Other())
    with pytest.raises(InputError, match="other:all has no exact annotations: this takes scenes:SPLIT"):
        scenes_of(open_dataset("other:all"))
