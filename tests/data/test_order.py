"""The order of finite data in training: what a resume relies on."""

import subprocess
import sys

import pytest
from photo_tables import photos

from edgevl.data import open_dataset
from edgevl.data.order import for_training, in_portions, permutation
from edgevl.errors import InputError
from edgevl.verify.measure import draw


@pytest.fixture
def data(tmp_path):
    return open_dataset(f"csv:{photos(tmp_path, 14, questions=5)}:train")


def test_an_epoch_has_every_question_once_and_the_next_has_another_order(data):
    portions = in_portions(data, 2)
    assert len(portions) == 12 * 3
    order = for_training(portions, 7)
    epochs = [[order[epoch * 36 + place] for place in range(36)] for epoch in range(2)]
    asked = [[(record.key, q.text) for record in epoch for q in record.questions or ()] for epoch in epochs]
    assert len(set(asked[0])) == len(asked[0]) == 60
    assert sorted(asked[0]) == sorted(asked[1]) and asked[0] != asked[1]
    assert max(len(record.questions or ()) for record in epochs[0]) == 2
    assert (order.name, order.labels, [*order.texts()]) == (data.name, data.labels, [*data.texts()])


def test_any_position_is_known_without_those_before_it(data):
    one, other = for_training(data, 3), for_training(data, 3)
    assert [other[position].key for position in range(59, -1, -1)] == [one[p].key for p in range(59, -1, -1)]
    assert [for_training(data, 4)[p].key for p in range(12)] != [one[p].key for p in range(12)]
    assert one[10**7].key


def test_a_permutation_is_the_same_everywhere():
    """Golden values: they must never change, or a run that resumes after an update sees some pictures twice."""
    assert permutation(10, 0, 0).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    code = "from edgevl.data.order import permutation; print(permutation(10, 5, 3).tolist())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout
    assert other.strip() == str(permutation(10, 5, 3).tolist())


def test_endless_data_is_taken_as_it_comes():
    scenes = open_dataset("scenes:train", size=32)
    assert for_training(in_portions(scenes, 4), 1) is scenes


def test_samples_of_finite_data_are_its_questions_from_as_many_pictures_as_there_are(data):
    drawn = draw(data.name, "vqa", 20, 24)
    assert len({each.query.pictures for each in drawn[:12]}) == 12
    assert len({(each.query.pictures, each.query.texts) for each in drawn}) == 20


def test_all_samples_are_enough_where_that_is_said(data):
    """A verdict wants 1 000 samples, and takes what a table of photos has."""
    every = draw(data.name, "vqa", 100, 24, least=1)
    assert len(every) == 60 and len({(id(each.query.pictures[0]), each.query.texts) for each in every}) == 60
    assert len(draw(data.name, "vqa", 100, 24, seed=1, least=1)) == 60
    with pytest.raises(InputError, match="has 60 samples for vqa, 100 were asked for: lower --samples"):
        draw(data.name, "vqa", 100, 24, least=61)
