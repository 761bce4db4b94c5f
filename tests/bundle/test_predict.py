"""predict: the same answer from every source; bad questions and damaged bundles are refused."""

import gc
import weakref

import numpy as np
import pytest

from edgevl.bundle.folder import Bundle
from edgevl.bundle.golden import read_golden
from edgevl.data.scenes import Scenes
from edgevl.errors import InputError, VerificationFailed
from edgevl.inputs.preprocess import load_image
from edgevl.predict import SAMPLE, Answerer, predict


def test_both_targets_and_the_checkpoint_give_the_golden_answers(exported, tiny_model):
    golden = read_golden(Bundle.open(exported["onnx"]))
    loaded = {source: Answerer.load(source) for source in (*exported.values(), tiny_model)}
    sure = [
        case for case in golden.cases if min(case.margins) > 0.05
    ]  # random weights: a tie may fall either way in fp16
    assert len(sure) >= 4
    for case in sure:
        picture = exported["onnx"] / case.pictures[0]
        answers = {source: answerer.answer(picture, case.texts[0]) for source, answerer in loaded.items()}
        assert {prediction.answer for prediction in answers.values()} == set(case.result)


def test_scores(exported):
    bundle = exported["onnx"]
    prediction = predict(bundle, bundle / "golden" / "wide.png", "what color is the car?", top=3)
    probabilities = [p for _, p in prediction.scores]
    assert len(probabilities) == 3 and probabilities == sorted(probabilities, reverse=True)
    assert prediction.answer == prediction.scores[0][0] and prediction.ms > 0 and prediction.notes == []
    everything = predict(bundle, bundle / "golden" / "wide.png", "what color is the car?", top=10**6)
    assert sum(p for _, p in everything.scores) == pytest.approx(1)


def test_a_session_ends_with_the_function_that_opened_it(exported):
    """Not when garbage is collected: that may be in a forked child, which waits for threads that it does not have."""

    def opened() -> weakref.ref:
        answerer = Answerer.load(exported["onnx"])
        assert answerer.answer(SAMPLE, "what is it?").answer
        return weakref.ref(answerer.model.runner)

    gc.collect()
    gc.disable()
    try:
        assert opened()() is None
    finally:
        gc.enable()


def test_questions(exported):
    bundle = exported["onnx"]
    picture = bundle / "golden" / "wide.png"
    for empty in ("", "  \t\n"):
        with pytest.raises(InputError, match="the question is empty"):
            predict(bundle, picture, empty)
    long = predict(bundle, picture, "what color is the car " * 500)
    assert "22 tokens" in long.notes[0]
    with pytest.raises(InputError, match="at least 1"):
        predict(bundle, picture, "what?", top=0)


def test_sources(exported, tmp_path, fresh):
    picture = exported["onnx"] / "golden" / "wide.png"
    for missing in (tmp_path / "none", tmp_path / "none.edgevl", tmp_path):
        with pytest.raises(InputError):
            predict(missing, picture, "what?")
    with pytest.raises(InputError, match="no file"):
        predict(exported["onnx"], tmp_path / "none.png", "what?")
    path = fresh("onnx")
    (path / "labels.json").write_text("[]", encoding="utf-8")
    with pytest.raises(VerificationFailed, match=r"labels\.json is truncated"):
        predict(path, picture, "what?")


def test_the_sample_is_a_scene_that_the_embedded_model_answers(tmp_path, monkeypatch):
    scene = Scenes("test").scene(11069)
    assert np.array_equal(np.asarray(load_image(SAMPLE)), scene.image)
    monkeypatch.chdir(tmp_path)
    embedded = Answerer.load(None)
    asked = {
        "what color is the car?": "green",
        "is the cat left of the car?": "no",
        "what is left of the car?": "squirrel",
    }
    answers = embedded.answer_all("sample", list(asked))
    assert [each.answer for each in answers] == list(asked.values())
    (tmp_path / "sample").write_bytes(b"")  # a user's own file of that name goes first
    with pytest.raises(InputError, match="empty"):
        embedded.answer("sample", "what color is the car?")
