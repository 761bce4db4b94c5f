"""Would break if a question could be answered wrongly by its own answer, or well without the picture."""

from collections import Counter, defaultdict

import pytest
import scenes_checker

from edgevl.data.scenes import ANSWERS, QUESTION_KINDS, SPLITS, VOCABULARY, Scenes
from edgevl.data.scenes.blind import BlindBaseline, blind_accuracy, template
from edgevl.data.scenes.names import HELD_OUT
from edgevl.errors import InputError


@pytest.fixture(scope="module")
def asked():
    data = Scenes("train", size=128)
    return [(scene, scene.questions(5)) for scene in (data.scene(i) for i in range(3000))]


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_is_found_again_from_the_objects(split):
    data = Scenes(split)
    for index in range(400):
        scene = data.scene(index)
        for question in scene.questions(8):
            assert scenes_checker.answer(question.text, scene.objects) == question.answer, (index, question)


def test_all_kinds_are_asked_often(asked):
    kinds = Counter(question.kind for _, questions in asked for question in questions)
    assert set(kinds) == set(QUESTION_KINDS) and len(QUESTION_KINDS) >= 10
    assert min(kinds.values()) > 0.03 * kinds.total(), kinds


def test_yes_and_no_are_even_for_each_kind(asked):
    answers = defaultdict(Counter)
    for _, questions in asked:
        for question in questions:
            answers[question.kind][question.answer] += 1
    for kind, counts in answers.items():
        if set(counts) <= {"yes", "no"}:
            assert 0.45 <= counts["yes"] / counts.total() <= 0.55, (kind, counts)
        if set(counts) <= {"small", "large"}:
            assert 0.45 <= counts["small"] / counts.total() <= 0.55, (kind, counts)


def test_yes_and_no_are_even_for_each_phrasing(asked):
    answers = defaultdict(Counter)
    for _, questions in asked:
        for question in questions:
            if question.answer in ("yes", "no"):
                answers[template(question.text)][question.answer] += 1
    common = {text: counts for text, counts in answers.items() if counts.total() >= 200}
    assert len(common) >= 8
    for text, counts in common.items():
        assert 0.4 <= counts["yes"] / counts.total() <= 0.6, (text, counts)


def test_a_blind_model_stays_below_35_percent(asked):
    data = Scenes("test", size=64)
    held = [question for i in range(600) for question in data.scene(i).questions(5)]
    blind = blind_accuracy(BlindBaseline(question for _, questions in asked for question in questions), held)
    assert blind["all"] < 0.35, blind
    assert blind["what"] < 0.05 and blind["color"] < 0.25, blind


def test_questions_are_short_known_and_different(asked):
    vocabulary = set(VOCABULARY)
    for _, questions in asked:
        assert len({question.text for question in questions}) == len(questions)
        for question in questions:
            assert question.answer in ANSWERS
            words = question.text.removesuffix("?").split()
            assert question.text.endswith("?") and len(words) <= 14 and set(words) <= vocabulary, question


def test_answers_are_unique():
    assert len(set(ANSWERS)) == len(ANSWERS)


def test_training_never_names_a_held_out_pair(asked):
    phrases = [f" {color} {category}" for category, color in HELD_OUT]
    for scene, questions in asked:
        texts = [question.text for question in questions] + scene.captions(2) + scene.negative_caption(2)
        texts += [statement.text for statement in scene.statements(2)]
        assert not any(f"{phrase} " in f" {text} " for text in texts for phrase in phrases)


def test_test_pairs_ask_about_held_out_pairs():
    data = Scenes("test_pairs")
    named = sum(
        any(f"{color} {category}" in text or f" {category}" in text for category, color in pairs)
        for scene in (data.scene(i) for i in range(200))
        for pairs in [[(o.category, o.color) for o in scene.objects if (o.category, o.color) in HELD_OUT]]
        for text in [question.text for question in scene.questions(3, kinds=["color", "size", "spatial"])]
    )
    asked = sum(len(data.scene(i).questions(3, kinds=["color", "size", "spatial"])) for i in range(200))
    assert named > 0.5 * asked


def test_kinds_can_be_chosen_and_unknown_ones_are_named():
    scene = Scenes("val").scene(3)
    assert {question.kind for question in scene.questions(4, kinds=["count", "exists"])} == {"count", "exists"}
    with pytest.raises(InputError, match='unknown question kind "colour"; did you mean "color"'):
        scene.questions(2, kinds=["colour"])
