"""Answer questions about a picture, with a bundle, a model folder, or the embedded model."""

import dataclasses
import sys
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgevl.bundle.folder import Bundle, is_bundle
from edgevl.contracts import Answer, Query
from edgevl.decodings.base import best
from edgevl.decodings.rank import Rank
from edgevl.domain.judge import Domain
from edgevl.errors import InputError, no_such_path
from edgevl.inputs.images import to_tensor
from edgevl.inputs.preprocess import ImageSource, load_image
from edgevl.opened import Opened, eager

SAMPLE = Path(__file__).parent / "assets" / "sample.png"  # scenes:test, the scene 11069


@dataclasses.dataclass(frozen=True)
class Prediction:
    """answer: the best label or text. scores: (label, share), best first. ms: from picture to answer, without loading.

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
    box: list[float] | None = (
        None  # left, top, right, bottom as shares of the picture's sides, where that is the answer
    )
    tokens: list[int] | None = None  # of an answer that was generated


_EXAMPLE = 'ask something, for example "what color is the car?"'


@dataclasses.dataclass(frozen=True)
class Answerer:
    """A loaded model that answers many questions."""

    model: Opened

    @classmethod
    def load(cls, source: str | Path | None, threads: int | None = None) -> "Answerer":
        """Open a bundle, a model folder or (None) the embedded model.

        Raises:
            InputError: nothing of that kind is at `source`.
            VerificationFailed: it is a bundle with a file that is missing or changed.
        """
        if source is not None and is_bundle(source):
            return cls(Bundle.open(source).checked().opened(threads))
        if source is not None and not Path(source).exists():
            raise no_such_path("bundle or model folder", source, "make a bundle with edgevl export", also=["nano"])
        from edgevl.models.kinds import open_deployable

        return cls(eager(open_deployable(source), threads=threads, fill=False))

    def answer(self, image: ImageSource, question: str = "", top: int = 5) -> Prediction:
        """See `predict`."""
        return self.answer_all(image, [question] if question else [], top)[0]

    def answer_all(self, image: ImageSource, questions: Sequence[str], top: int = 5) -> list[Prediction]:
        """Ask several questions about one picture, which is decoded once, and encoded once where the layout allows it.

        A model that ranks texts takes all of them together and gives one prediction. `ms` of the first answer includes
        the picture, that of a later one only what it costs more.
        """
        self._check(questions, top)
        start, predictions = time.perf_counter(), []
        picture = load_image(named_picture(image), self.model.resized)
        decoder, runner, score = self.model.decoder, self._runner().holding(), None
        for query in decoder.apart(Query((picture,), tuple(questions))):
            (answer,) = decoder.run(runner, [query])
            found = decoder.to_json(answer, query, top)
            ms = 1000 * (time.perf_counter() - start)  # what follows is no part of answering
            score = self._score(picture) if score is None else score
            trust = self._trust(query, answer, score)
            predictions += [_prediction(each, ms, trust, score) for each in found]
            start = time.perf_counter()
        return predictions

    def label(self, image: ImageSource, labels: Sequence[str], top: int = 5) -> Prediction:
        """Choose one of several labels for a picture: zero-shot, a label stands for the model's prompts with it.

        Raises `InputError` for a model that does not rank texts, and for fewer than two labels.
        """
        decoder = self.model.decoder
        if not isinstance(decoder, Rank):
            raise InputError(f"{self.model.name} is for {self.model.task_name} and takes no labels: ask it a question")
        self._check(labels, top)
        start, runner = time.perf_counter(), self._runner()
        picture = load_image(named_picture(image), self.model.resized)
        pictures_1D = np.stack(runner.many(decoder.fields.picture, [Query((picture,))]))
        (shares_A,) = decoder.label_shares(runner, pictures_1D, labels)
        ms, score = 1000 * (time.perf_counter() - start), self._score(picture)
        found = {"answer": labels[int(shares_A.argmax())], "scores": best(labels, shares_A, top)}
        return _prediction(found, ms, self._trust(Query((picture,), tuple(labels)), Answer({}, []), score), score)

    def _check(self, questions: Sequence[str], top: int) -> None:
        if top < 1:
            raise InputError(f"at least 1 answer must be asked for, got {top}")
        pictures, texts = self.model.reads
        if pictures != 1:
            raise InputError(f"{self.model.name} reads {pictures} pictures at once, and this asks about one")
        if texts and (not questions or not all(question.strip() for question in questions)):
            example = 'give texts, "a red car" "a green car"' if isinstance(self.model.decoder, Rank) else _EXAMPLE
            raise InputError(f"the question is empty: {example}")
        if questions and not texts:
            raise InputError(f"{self.model.name} reads a picture and no text: leave the question out")

    def _runner(self) -> Any:
        assert self.model.runner, "an answerer is opened to run"
        return self.model.runner

    def _score(self, picture: Any) -> float | None:
        domain, processing = self.model.domain, self.model.sight
        return domain.score(to_tensor(picture, processing)) if domain and processing else None

    def _trust(self, query: Query, answer: Answer[Any], score: float | None) -> dict[str, Any]:
        """`notes`, `unknown_words`, `in_domain` and `confidence` of an answer about a picture with this score."""
        domain, notes, unknown = self.model.domain, list[str](), list[str]()
        for codec in self.model.texts.values():
            for text in query.texts:
                if codec.is_truncated(text):
                    notes.append(f"the question is longer than {codec.spec.room} tokens; its end was cut off")
                unknown += codec.unknown_words(text, domain and domain.characters)
        if isinstance(self.model.decoder, Rank):
            notes += self.model.decoder.doubts(query.texts)
        scores_A = _scores(self.model.decoding, answer)
        doubts = list(_doubts(domain, score, unknown, scores_A))
        in_domain = False if doubts else None if domain is None else True
        confidence = domain.confidence(scores_A) if domain and in_domain and scores_A is not None else None
        return {
            "notes": notes + doubts,
            "unknown_words": unknown,
            "in_domain": in_domain,
            "confidence": confidence,
        }


def _prediction(found: Mapping[str, Any], ms: float, trust: Mapping[str, Any], score: float | None) -> Prediction:
    return Prediction(
        answer=found.get("answer", ""),
        scores=found.get("scores", []),
        ms=ms,
        domain_score=score,
        box=found.get("box"),
        tokens=found.get("tokens"),
        **trust,
    )


def _scores(decoding: Mapping[str, Any], answer: Answer[Any]) -> np.ndarray | None:
    """The scores [A] that a label was chosen by; None where none was."""
    return answer.values[decoding["output"]][0] if decoding["kind"] == "classify" else None


def _doubts(
    domain: Domain | None, score: float | None, unknown: list[str], scores_A: np.ndarray | None
) -> Iterator[str]:
    """Yield a sentence for each reason not to trust an answer."""
    strange = domain is not None and score is not None and score > 1
    if domain and strange:
        yield f"the picture does not look like what the model was trained on ({domain.about}): the answer means nothing"
    if unknown:
        shown = ", ".join(f'"{word[:30]}"' for word in unknown[:5]) + (" …" if len(unknown) > 5 else "")
        yield f"the model does not know the word{'s' if len(unknown) > 1 else ''} {shown}: the answer means nothing"
    if domain and not strange and not unknown and scores_A is not None and not domain.is_sure(scores_A):
        yield "no answer fits this question and picture as well as answers did in training: do not trust this one"


def named_picture(image: ImageSource) -> ImageSource:
    """Return `image`, but for the word `sample`, which is `SAMPLE` unless there is a file of that name."""
    is_word = isinstance(image, str | Path) and str(image) == SAMPLE.stem
    return SAMPLE if is_word and not Path(SAMPLE.stem).exists() else image


def predict(source: str | Path | None, image: ImageSource, question: str = "", top: int = 5) -> Prediction:
    """Answer `question` about `image`; a model that reads a picture alone takes none.

    Args:
        source: a bundle, a model folder, or None for the embedded model (both run by PyTorch).
        image: a path, bytes, Pillow image or uint8 array (see `edgevl.load_image`), or the word "sample".
        question: English text; one that is too long is cut, and `notes` says so.
        top: how many answers to list.

    Raises:
        InputError: a bad picture, an empty question, or no model at `source`.
        VerificationFailed: the bundle is damaged.
    """
    return Answerer.load(source).answer(image, question, top)


class _Callable(types.ModuleType):
    """`edgevl.predict` is this module as soon as it is imported; called, it is its function of the same name."""

    __call__ = staticmethod(predict)


sys.modules[__name__].__class__ = _Callable
