"""Would break if a caption were false, a false caption true, or a phrase fitted two objects."""

from collections import Counter, defaultdict

import pytest
import scenes_checker

from edgevl.data.scenes import SPLITS, VOCABULARY, Scenes
from edgevl.data.scenes.blind import template

OPENINGS = ("there is ", "the picture shows ", "you can see ")


@pytest.mark.parametrize("split", SPLITS)
def test_captions_are_true_and_their_negatives_false(split):
    data = Scenes(split)
    for index in range(400):
        scene = data.scene(index)
        captions, negatives = scene.captions(4), scene.negative_caption(4)
        assert len(captions) == len(negatives) >= 2
        for true, false in zip(captions, negatives, strict=True):
            assert scenes_checker.judge(true, scene.objects), (index, true)
            assert not scenes_checker.judge(false, scene.objects), (index, false)
            assert len(true.split()) <= 20 and len(false.split()) <= 20


def test_statements_say_what_their_label_says():
    data, labels = Scenes("train"), []
    for index in range(1000):
        scene = data.scene(index)
        for statement in scene.statements(4):
            opening = next(text for text in OPENINGS if statement.text.startswith(text))
            assert scenes_checker.judge(statement.text.removeprefix(opening), scene.objects) == statement.label
            labels.append(statement.label)
    assert len(labels) > 3500 and 0.47 < sum(labels) / len(labels) < 0.53


def test_statements_cannot_be_judged_unseen():
    said = [statement for i in range(3000) for statement in Scenes("train", size=64).scene(i).statements(3)]
    labels = defaultdict(Counter)
    for statement in said[:6000]:
        labels[template(statement.text)][statement.label] += 1
    right = sum(labels[template(s.text)][s.label] > labels[template(s.text)][not s.label] for s in said[6000:])
    assert right / len(said[6000:]) < 0.56


def test_a_phrase_fits_exactly_its_object():
    data, kinds = Scenes("test"), set()
    for index in range(500):
        scene = data.scene(index)
        for phrase, target in ((r.phrase, scene.objects[r.object_index]) for r in scene.referring(4)):
            side = next((side for side in scenes_checker.SIDES if f" {side} " in phrase), None)
            kinds.add(side or phrase.split()[1])
            if side is None:
                assert scenes_checker.one(phrase, scene.objects) is target
                continue
            first, anchor = phrase.split(f" {side} ")
            anchor = scenes_checker.one(anchor, scene.objects)
            near = [o for o in scenes_checker.find(first, scene.objects) if o is not anchor]
            near = [o for o in near if scenes_checker.distance(o, side, anchor) > -scenes_checker.MARGIN]
            assert near == [target]
    assert set(scenes_checker.SIDES) | {"largest", "smallest"} <= kinds


def test_every_word_is_in_the_vocabulary():
    vocabulary = set(VOCABULARY)
    for split in SPLITS:
        for scene in (Scenes(split).scene(i) for i in range(150)):
            texts = scene.captions(4) + scene.negative_caption(4) + [s.text for s in scene.statements(4)]
            texts += [r.phrase for r in scene.referring(4)]
            words = {word.strip(",:") for text in texts for word in text.split()}
            assert words <= vocabulary, words - vocabulary


def test_one_text_does_not_change_another():
    data = Scenes("train")
    fresh, used = data.scene(5), data.scene(5)
    for other in (used.captions(6), used.statements(2), used.referring(3)):
        assert other
    assert used.questions(4) == fresh.questions(4)
    assert used.captions(2) == fresh.captions(2)
    assert used.questions(4)[:2] == fresh.questions(2)
