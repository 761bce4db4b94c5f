"""The embedded model says when an answer is not to be trusted: of photographs, noise and words that it never saw."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevl.data.scenes import Scenes
from edgevl.domain import DOMAIN, Domain, parse_domain, picture_features
from edgevl.domain.fit import best_temperature, calibration_error
from edgevl.domain.strangers import DRAWINGS, NOISE, PHOTOGRAPHS, files, gibberish, noise
from edgevl.errors import InputError, VerificationFailed
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models.checkpoint import EMBEDDED
from edgevl.models.kinds import open_deployable
from edgevl.opened import eager
from edgevl.predict import Answerer
from edgevl.verify.measure import draw, measure, stacked

TEXT = (EMBEDDED / DOMAIN).read_text(encoding="utf-8")
SHA = json.loads(TEXT)["checkpoint_sha256"]
QUESTION = "what color is the car?"


@pytest.fixture(scope="module")
def domain() -> Domain:
    return parse_domain(TEXT, SHA, 128)


@pytest.fixture(scope="module")
def nano() -> Answerer:
    return Answerer.load(None)


def flagged(domain: Domain, pictures) -> float:
    return float(np.mean([domain.score(pixels) > 1 for pixels in pictures]))


# Pictures


def test_photographs_are_noticed_and_drawings_mostly(domain):
    pytest.importorskip("skimage", reason='photographs come with pip install "edgevl[domain]"')
    assert flagged(domain, files(PHOTOGRAPHS, 128, seed=7)) == 1
    assert flagged(domain, files(DRAWINGS, 128, seed=7)) > 0.9


@pytest.mark.parametrize("kind", NOISE)
def test_noise_is_noticed(domain, kind):
    assert flagged(domain, noise(kind, 30, 128, seed=7)) == 1


@pytest.mark.parametrize("split", ["test", "test_pairs", "test_style"])
def test_scenes_are_rarely_flagged(domain, split):
    """At most one in a hundred is expected: of two hundred, seven would be more than chance."""
    assert flagged(domain, (Scenes(split).scene(index).image for index in range(200))) < 7 / 200


def test_features_count_what_they_say():
    gray = picture_features(np.full((8, 8, 3), 100, np.uint8))
    assert gray.tolist() == [255, *[0] * 6, 255, *[0] * 6, *[0] * 3, 255, *[0] * 4, 255, *[0] * 5]
    halves = np.zeros((16, 16, 3), np.uint8)
    halves[:, 8:] = (255, 0, 0)  # of 112 steps of the half picture 8 are large
    assert picture_features(halves)[:7].tolist() == [
        round(255 * (104 / 112) ** 0.5),
        *[0] * 5,
        round(255 * (8 / 112) ** 0.5),
    ]
    assert picture_features(halves)[-6:].tolist() == [180, 0, 0, 0, 0, 180]


# Answers


def test_an_answer_to_be_trusted(nano):
    answer = nano.answer("sample", QUESTION)
    assert answer.in_domain is True and answer.notes == [] and answer.unknown_words == []
    assert answer.confidence is not None and 0.9 < answer.confidence <= 1
    assert answer.domain_score is not None and 0 < answer.domain_score < 1
    assert sum(share for _, share in nano.answer("sample", QUESTION, top=1000).scores) == pytest.approx(1)


def test_another_kind_of_picture_says_so_once_for_every_question(nano):
    first, second = nano.answer_all(np.full((50, 60, 3), 200, np.uint8), [QUESTION, "is there a cat?"])
    assert first.in_domain is second.in_domain is False and first.confidence is second.confidence is None
    assert first.domain_score == second.domain_score > 1
    assert first.notes[0] == second.notes[0]
    assert "does not look like" in first.notes[0] and "Scenes: emoji pictures" in first.notes[0]


def test_unknown_words_are_named(nano):
    answer = nano.answer("sample", "is there a Dog, or a qwer?")
    assert answer.unknown_words == ["Dog", "qwer"]
    assert answer.in_domain is False and answer.confidence is None and answer.domain_score < 1
    assert answer.notes == ['the model does not know the words "Dog", "qwer": the answer means nothing']
    many = nano.answer("sample", " ".join(gibberish(10, seed=1)))
    assert len(many.unknown_words) > 5 and "…" in many.notes[-1] and len(many.notes[-1]) < 300


WORDS = {
    QUESTION: [],
    "What COLOR is the car": [],
    "is there a 7, or a b?": ["7", "b"],
    "welche farbe hat das auto?": ["welche", "farbe", "das", "auto"],
    "车 car": ["车"],
    "colour colour": ["colour"],
    "[MASK] cat": ["[", "MASK", "]"],
    "x" * 101: ["x" * 101],
    "the cat\u202e is \x1b[31mred": ["[", "31mred"],
}


@pytest.mark.parametrize("question", WORDS)
def test_which_words_are_unknown(question):
    tokenizer = Tokenizer.from_file(EMBEDDED / "tokenizer.json")
    assert tokenizer.unknown_words(question, "a") == WORDS[question]
    assert set(tokenizer.unknown_words(question)) == {word for word in WORDS[question] if word not in {"7", "b"}}


def test_no_question_of_scenes_has_an_unknown_word(domain):
    tokenizer = Tokenizer.from_file(EMBEDDED / "tokenizer.json")
    asked = [
        question.text
        for split in ("test", "test_style")
        for i in range(150)
        for question in Scenes(split).scene(i).questions(6)
    ]
    assert len(asked) > 1500
    assert not [text for text in asked if tokenizer.unknown_words(text, domain.characters)]


def test_an_answer_that_does_not_fit_says_so(nano):
    """Words that the model knows and a picture that it knows, but no question: it knows no answer either."""
    answer = nano.answer("sample", "is the")
    assert answer.domain_score < 1 and answer.unknown_words == []
    assert answer.in_domain is False and answer.confidence is None and "no answer fits" in answer.notes[0]


def test_the_confidence_is_how_often_it_is_right(domain):
    samples = draw("scenes:test", "vqa", 250, 128)
    found = measure(eager(open_deployable()), samples)
    confidence = np.array([domain.confidence(logits) for logits in stacked(found.answers, "logits")])
    correct_N = np.array([answer.result[0] in sample.target for answer, sample in zip(found.answers, samples)])
    assert calibration_error(confidence, correct_N) < 0.04
    assert confidence.mean() == pytest.approx(found.metrics[0].value, abs=0.03)


def test_a_temperature_is_found():
    """Logits of a known temperature: answers drawn with the probabilities that softmax(logits / 2) has."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (4000, 10))
    shares = np.exp(logits / 2) / np.exp(logits / 2).sum(axis=1, keepdims=True)
    answers = np.array([rng.choice(10, p=row) for row in shares])
    assert best_temperature(logits, answers) == pytest.approx(2, rel=0.05)


def test_the_calibration_error_of_known_shares():
    confidence, correct = (
        np.array([0.9] * 10 + [0.5] * 10),
        np.array([True] * 8 + [False] * 2 + [True] * 5 + [False] * 5),
    )
    assert calibration_error(confidence, correct) == pytest.approx(0.05)
    assert calibration_error(np.ones(4), np.ones(4, bool)) == 0


# The file


def changed(**values) -> str:
    return json.dumps({**json.loads(TEXT), **values})


PICTURE = json.loads(TEXT)["pictures"][0]
BAD = {
    "no JSON": ("{", "not JSON"),
    "a list": ("[]", "not valid"),
    "a newer version": (changed(schema_version=2), "schema_version"),
    "an unknown field": (changed(surprise=1), "surprise"),
    "other features": (changed(features="other"), "features"),
    "other weights": (changed(checkpoint_sha256="0" * 64), "other weights"),
    "short pictures": (changed(pictures=[PICTURE[:-2]] * 9), "pictures"),
    "no pictures": (changed(pictures=[]), "pictures"),
    "fewer than neighbors": (changed(pictures=[PICTURE] * 4), "neighbors"),
    "many pictures": (changed(pictures=[PICTURE] * 5001), "pictures"),
    "no spread": (changed(spread=[0] * 28), "spread"),
    "27 spreads": (changed(spread=[1] * 27), "spread"),
    "an infinite limit": (changed(picture_limit=1e400), "number"),
    "a limit of 0": (changed(picture_limit=0), "picture_limit"),
    "no temperature": (changed(temperature=0), "temperature"),
    "null": (changed(about=None), "about"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_line(name):
    text, word = BAD[name]
    with pytest.raises(VerificationFailed, match=word) as caught:
        parse_domain(text, SHA, 128)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 4


def test_a_model_of_tiny_pictures_has_none():
    with pytest.raises(VerificationFailed, match="8 pixels"):
        parse_domain(TEXT, SHA, 4)


def test_the_same_numbers_are_the_same_bytes(domain):
    assert domain.to_json() == TEXT


def test_a_model_folder_without_one_still_answers(tiny_model):
    answer = Answerer.load(tiny_model).answer("sample", QUESTION)
    assert (answer.in_domain, answer.confidence, answer.domain_score, answer.notes) == (None, None, None, [])
    assert Answerer.load(tiny_model).answer("sample", "is there a dog?").in_domain is False


def test_a_file_of_other_weights_beside_a_model_is_refused(tiny_model, tmp_path):
    import shutil

    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (folder / DOMAIN).write_text(TEXT, encoding="utf-8")
    with pytest.raises(InputError, match="other weights; make it again with edgevl domain fit"):
        Answerer.load(folder)


def test_a_picture_of_another_size_or_format_is_still_a_scene(domain, tmp_path):
    """A user's copy of a scene: larger, or saved as JPEG."""
    from edgevl.inputs.preprocess import load_image, to_pixels

    large = [to_pixels(Image.fromarray(Scenes("test", size=256).scene(index).image), 128) for index in range(60)]
    assert flagged(domain, large) < 0.1
    saved = []
    for index in range(60):
        Image.fromarray(Scenes("test").scene(index).image).save(tmp_path / "scene.jpg", quality=85)
        saved.append(to_pixels(load_image(tmp_path / "scene.jpg"), 128))
    assert flagged(domain, saved) < 0.1
