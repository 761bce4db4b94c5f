"""How often strange pictures and questions are noticed, how often Scenes are flagged, and how right a confidence is.

Shapes: N samples, S side of the model's picture, A answers.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from edgevl.contracts import Query, Sample
from edgevl.decodings.base import to_shares
from edgevl.domain import strangers
from edgevl.domain.fit import calibration_error
from edgevl.domain.judge import DOMAIN, Domain
from edgevl.errors import InputError
from edgevl.inputs.images import to_tensor
from edgevl.opened import Opened
from edgevl.predict import Answerer
from edgevl.progress import Progress
from edgevl.tasks.metrics import several
from edgevl.verify.measure import ask, draw, stacked

SPLITS = ("val", "test", "test_pairs", "test_style")  # Fluent artwork, but for the last: Noto
SEED = 7
NOISES, GIBBERISH = 100, 100


class Rate(BaseModel):
    """Pictures of one kind. Shares are of `count`."""

    name: str
    count: int
    flagged: float  # for the picture or for the answer
    by_picture: float
    by_answer: float
    lowest_score: float  # of the pictures; the limit is 1
    accuracy_trusted: float | None = None  # of the answers that were not flagged; null where nothing is right
    accuracy_flagged: float | None = None


class Calibration(BaseModel):
    """Every question of a split, flagged or not."""

    data: str
    accuracy: float
    confidence: float  # its mean
    error: float  # expected calibration error of the confidence
    error_of_scores: float  # of the largest of `scores`, without the temperature


class Words(BaseModel):
    name: str
    count: int  # questions
    caught: float  # with at least one word that is named


class RatesReport(BaseModel):
    """What `edgevl domain measure --json` prints."""

    model: str
    about: str
    temperature: float
    pictures: list[Rate]
    calibration: list[Calibration]
    words: list[Words]


def measure(source: str | Path | None, samples: int = 1000, progress: Progress | None = None) -> RatesReport:
    """Measure a bundle, a model folder or (None) the embedded model.

    Args:
        samples: questions of each split of Scenes.
        progress: called as progress(done, total, text).

    Raises:
        InputError: no such model, or one without a `domain.json`.
        MissingDependency: scikit-image, which holds the photographs, is not installed.
    """
    model = Answerer.load(source).model
    domain, processing = model.domain, model.sight
    if domain is None or processing is None or model.decoder.kind != "classify":
        raise InputError(f"{source} has no {DOMAIN}: make one with edgevl domain fit, then export again")
    scenes = {name: draw(name, model.task_name, samples, processing.size) for name in map("scenes:{}".format, SPLITS)}
    questions = [sample.query.texts[0] for sample in scenes["scenes:test"]]
    strange = {name: _asked(pixels, questions) for name, pixels in _strange(processing.size).items()}
    sets = {**scenes, **strange}
    done, total = 0, sum(map(len, sets.values()))
    rates, calibration = [], []
    for name, drawn in sets.items():
        if progress:
            progress(done, total, name)
        answers = ask(model, drawn)
        logits_NA = stacked(answers, model.decoding["output"])
        pixels = [to_tensor(sample.query.pictures[0], processing) for sample in drawn]
        correct = np.array([answer.result[0] in several(sample.target) for answer, sample in zip(answers, drawn)])
        rates.append(_rate(name, domain, pixels, logits_NA, correct if name in scenes else None))
        if name in scenes:
            calibration.append(_calibration(name, domain, logits_NA, correct))
        done += len(drawn)
    return RatesReport(
        model=str(source or "nano"),
        about=domain.about,
        temperature=domain.temperature,
        pictures=rates,
        calibration=calibration,
        words=_words(model, questions),
    )


def _strange(size: int) -> dict[str, np.ndarray]:
    found = {
        "photographs and crops": strangers.files(strangers.PHOTOGRAPHS, size, SEED),
        "drawings and crops": strangers.files(strangers.DRAWINGS, size, SEED),
        **{kind: strangers.noise(kind, NOISES, size, SEED) for kind in strangers.NOISE},
    }
    return {name: np.stack(list(pictures)) for name, pictures in found.items()}


def _asked(pixels_NSS3: np.ndarray, questions: Sequence[str]) -> tuple[Sample, ...]:
    """The pictures with questions of Scenes: nothing is right about them, and no word is strange."""
    texts = (questions[index % len(questions)] for index in range(len(pixels_NSS3)))
    return tuple(Sample(Query((pixels,), (text,)), (), "strange") for pixels, text in zip(pixels_NSS3, texts))


def _rate(
    name: str, domain: Domain, pixels_NSS3: Sequence[np.ndarray], logits_NA: np.ndarray, correct_N: np.ndarray | None
) -> Rate:
    scores = np.array([domain.score(pixels) for pixels in pixels_NSS3])
    strange, unsure = scores > 1, np.array([not domain.is_sure(logits) for logits in logits_NA])
    flagged = strange | unsure
    return Rate(
        name=name,
        count=len(scores),
        flagged=float(flagged.mean()),
        by_picture=float(strange.mean()),
        by_answer=float(unsure.mean()),
        lowest_score=float(scores.min()),
        accuracy_trusted=_accuracy(correct_N, ~flagged),
        accuracy_flagged=_accuracy(correct_N, flagged),
    )


def _accuracy(correct_N: np.ndarray | None, chosen_N: np.ndarray) -> float | None:
    return float(correct_N[chosen_N].mean()) if correct_N is not None and chosen_N.any() else None


def _calibration(data: str, domain: Domain, logits_NA: np.ndarray, correct_N: np.ndarray) -> Calibration:
    confidence = np.array([domain.confidence(logits) for logits in logits_NA])
    scores = to_shares(logits_NA, "softmax").max(axis=1)
    return Calibration(
        data=data,
        accuracy=float(correct_N.mean()),
        confidence=float(confidence.mean()),
        error=calibration_error(confidence, correct_N),
        error_of_scores=calibration_error(scores, correct_N),
    )


def _words(model: Opened, questions: Sequence[str]) -> list[Words]:
    sets = {
        "questions of scenes:test": questions,
        "everyday English": strangers.EVERYDAY,
        "other languages": strangers.LANGUAGES,
        "random letters": strangers.gibberish(GIBBERISH, SEED),
    }
    return [Words(name=name, count=len(texts), caught=_caught(model, texts)) for name, texts in sets.items()]


def _caught(model: Opened, questions: Sequence[str]) -> float:
    characters, codecs = model.domain and model.domain.characters, model.texts.values()
    return float(np.mean([any(codec.unknown_words(text, characters) for codec in codecs) for text in questions]))
