"""Answer one question about one picture, with a bundle, a model folder, or the embedded model."""

import dataclasses
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgevl.bundle import Bundle, is_bundle
from edgevl.domain.judge import Domain
from edgevl.errors import InputError, VerificationFailed, no_such_path
from edgevl.preprocess import ImageSource, load_image, to_pixels
from edgevl.runtime.session import run_one
from edgevl.runtime.split_session import SplitSession

SAMPLE = Path(__file__).parent / "assets" / "sample.png"  # scenes:test, the scene 11069


@dataclasses.dataclass(frozen=True)
class Prediction:
    """answer: the best label. scores: (label, probability), best first. ms: from picture to answer, without loading.

    The last fields say how far the answer is to be trusted, by the model's `domain.json`; where there is none, they are
    None, but that an unknown word makes `in_domain` False. docs/predict.md has how often they are right.
    """

    answer: str
    scores: list[tuple[str, float]]
    ms: float
    notes: list[str] = dataclasses.field(default_factory=list)  # what a user should hear: a sentence each
    in_domain: bool | None = None  # are picture, words and answer like those that the model learned from?
    confidence: float | None = None  # how often such an answer is right; None unless in_domain
    domain_score: float | None = None  # of the picture: above 1 it is of another kind than those of training
    unknown_words: list[str] = dataclasses.field(default_factory=list)  # of the question, not in the vocabulary


@dataclasses.dataclass(frozen=True)
class Answerer:
    """A loaded model that answers many questions: session, tokenizer, labels, and the sizes they take."""

    session: Any
    tokenizer: Any
    labels: list[str]
    size: int  # S
    length: int  # T
    domain: Domain | None = None

    @classmethod
    def load(cls, source: str | Path | None, threads: int | None = None) -> "Answerer":
        """Open a bundle, a model folder or (None) the embedded model.

        Raises:
            InputError: nothing of that kind is at `source`.
            VerificationFailed: it is a bundle with a file that is missing or changed.
        """
        if source is not None and is_bundle(source):
            return cls._from_bundle(Bundle.open(source), threads)
        if source is not None and not Path(source).exists():
            raise no_such_path("bundle or model folder", source, "make a bundle with edgevl export", also=["nano"])
        from edgevl.checkpoint import load_model
        from edgevl.runtime.torch_session import TorchSession

        loaded = load_model(source)
        session = TorchSession(loaded.model, threads)
        size, length = loaded.config.image_size, loaded.config.text_length
        return cls(session, loaded.tokenizer, loaded.labels, size, length, loaded.domain)

    @classmethod
    def _from_bundle(cls, bundle: Bundle, threads: int | None) -> "Answerer":
        bundle = bundle.checked()
        session, manifest = bundle.session(threads), bundle.manifest
        size, length = manifest.preprocessing.size, manifest.tokenizer.length
        return cls(session, bundle.tokenizer(), bundle.labels(), size, length, bundle.domain())

    def answer(self, image: ImageSource, question: str, top: int = 5) -> Prediction:
        """See `predict`."""
        return self.answer_all(image, [question], top)[0]

    def answer_all(self, image: ImageSource, questions: Sequence[str], top: int = 5) -> list[Prediction]:
        """Ask several questions about one picture, which is decoded once, and with the layout `split` encoded once.

        `ms` of the first answer includes the picture, that of a later one only what it costs more.
        """
        if top < 1:
            raise InputError(f"at least 1 answer must be asked for, got {top}")
        if not questions or not all(question.strip() for question in questions):
            raise InputError('the question is empty: ask something, for example "what color is the car?"')
        start, predictions, score = time.perf_counter(), [], None
        pixels = to_pixels(load_image(named_picture(image)), self.size)
        ask = self._about(pixels[None])
        for question in questions:
            logits = ask(self.tokenizer.encode(question, self.length)[None])
            ranked = self._rank(logits, top)
            ms = 1000 * (time.perf_counter() - start)  # what follows is no part of answering
            score = self.domain.score(pixels) if self.domain and score is None else score
            trust = self._trust(question, logits, score)
            predictions.append(Prediction(ranked[0][0], ranked, ms, domain_score=score, **trust))
            start = time.perf_counter()
        return predictions

    def _about(self, pixels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """A function from token ids [1, T] to logits [A] about one picture [1, S, S, 3]."""
        if not isinstance(self.session, SplitSession):
            return lambda ids: run_one(self.session, {"image": pixels, "input_ids": ids})["logits"][0]
        vision, fusion = self.session.vision, self.session.fusion
        visual = run_one(vision, {"image": pixels})
        return lambda ids: run_one(fusion, {**visual, "input_ids": ids})["logits"][0]

    def _rank(self, logits: np.ndarray, top: int) -> list[tuple[str, float]]:
        scores = softmax(logits)
        if scores.size != len(self.labels) or not np.isfinite(scores).all():
            raise VerificationFailed(
                "the artifact gives logits that are not finite or do not fit the labels: verify it"
            )
        order = np.argsort(-scores, kind="stable")[:top]
        return [(self.labels[index], float(scores[index])) for index in order]

    def _trust(self, question: str, logits: np.ndarray, score: float | None) -> dict[str, Any]:
        """`notes`, `unknown_words`, `in_domain` and `confidence` of an answer about a picture with this score."""
        domain, notes = self.domain, []
        if self.tokenizer.is_truncated(question, self.length):
            notes.append(f"the question is longer than {self.length - 2} tokens; its end was cut off")
        unknown = self.tokenizer.unknown_words(question, domain and domain.characters)
        doubts = list(_doubts(domain, score, unknown, logits))
        in_domain = False if doubts else None if domain is None else True
        confidence = domain.confidence(logits) if domain and in_domain else None
        return {
            "notes": notes + doubts,
            "unknown_words": unknown,
            "in_domain": in_domain,
            "confidence": confidence,
        }


def _doubts(domain: Domain | None, score: float | None, unknown: list[str], logits: np.ndarray) -> Iterator[str]:
    """Yield a sentence for each reason not to trust an answer."""
    strange = domain is not None and score is not None and score > 1
    if domain and strange:
        yield f"the picture does not look like what the model was trained on ({domain.about}): the answer means nothing"
    if unknown:
        shown = ", ".join(f'"{word[:30]}"' for word in unknown[:5]) + (" …" if len(unknown) > 5 else "")
        yield f"the model does not know the word{'s' if len(unknown) > 1 else ''} {shown}: the answer means nothing"
    if domain and not strange and not unknown and not domain.is_sure(logits):
        yield "no answer fits this question and picture as well as answers did in training: do not trust this one"


def named_picture(image: ImageSource) -> ImageSource:
    """Return `image`, but for the word `sample`, which is `SAMPLE` unless there is a file of that name."""
    is_word = isinstance(image, str | Path) and str(image) == SAMPLE.stem
    return SAMPLE if is_word and not Path(SAMPLE.stem).exists() else image


def predict(source: str | Path | None, image: ImageSource, question: str, top: int = 5) -> Prediction:
    """Answer `question` about `image`.

    Args:
        source: a bundle, a model folder, or None for the embedded model (both run by PyTorch).
        image: a path, bytes, Pillow image or uint8 array (see `edgevl.preprocess.load_image`), or the word "sample".
        question: English text; one that is too long is cut, and `notes` says so.
        top: how many answers to list.

    Raises:
        InputError: a bad picture, an empty question, or no model at `source`.
        VerificationFailed: the bundle is damaged.
    """
    return Answerer.load(source).answer(image, question, top)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities float64 [A] of logits [A]."""
    shifted = np.exp(logits.astype(np.float64) - logits.max())
    return shifted / shifted.sum()


class _Callable(types.ModuleType):
    """`edgevl.predict` is this module as soon as it is imported; called, it is its function of the same name."""

    __call__ = staticmethod(predict)


sys.modules[__name__].__class__ = _Callable
