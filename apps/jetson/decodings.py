"""The kinds of decoding: which values of a query are read, and what they say. No task is known here.

Each declares the fields that it has; a kind or a field that is not known is refused. Shapes: N texts, P pictures, A
scores, D width of an embedding, L steps. Python 3.8 and numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from calls import Plan
from problems import BAD_INPUT, REFUSED, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Arrays = Mapping[str, np.ndarray]

SLACK = 2  # a decision whose margin is below so many tolerances is not compared
BOX_STEP = 1e-5  # by which corners of a recorded box may differ from those that follow from its values


class Answer(NamedTuple):
    """What values say. `margins`: how far each decision was from another one."""

    result: list[Any]
    margins: tuple[float, ...] = ()


class Decoding:
    """Base of the kinds. `problems` holds a sentence for each thing that does not fit the bundle."""

    answers = False  # a result is an answer in words to the one text of a query

    def __init__(self, manifest: dict[str, Any], labels: list[str] | None, texts: Mapping[str, Any]):
        self.fields: dict[str, Any] = manifest["decoding"]
        self.labels, self.texts, self._programs = labels, texts, manifest["programs"]
        self._plans: dict[tuple[int, int], Plan] = {}
        self.problems = list(self._problems({s["name"]: s for p in self._programs for s in p["outputs"]}))

    def plan(self, pictures: int, texts: int) -> Plan:
        """Return the calls for a query with so many pictures and texts. Raises `Problem` as `calls.Plan` does."""
        if (pictures, texts) not in self._plans:
            plan = Plan(self._programs, pictures, texts)
            self._fill(plan)
            self._plans[pictures, texts] = plan
        return self._plans[pictures, texts]

    def answer(self, values: Arrays) -> Answer:
        """Return what values say. Raises ValueError for such as no artifact may give."""
        raise NotImplementedError

    def same(self, own: Answer, recorded: Answer, tolerance: Mapping[str, float]) -> bool:
        """Say if results are equal wherever the recorded decision was clear: by more than twice the tolerance."""
        least = SLACK * max(tolerance.values())
        clear = [margin > least for margin in recorded.margins] or [True] * len(recorded.result)
        pairs = zip(own.result, recorded.result, clear)
        return len(own.result) == len(recorded.result) and all(a == b for a, b, is_clear in pairs if is_clear)

    def equal(self, own: Any, recorded: Any) -> bool:
        """Say if an item of a recorded result is the one that follows from the recorded values."""
        return type(own) is type(recorded) and own == recorded

    def words(self, answer: Answer, texts: Sequence[str]) -> list[str]:
        """Return the result in words. `texts` are the query's."""
        return [str(each) for each in answer.result]

    def _problems(self, outputs: Mapping[str, Any]) -> list[str]:
        raise NotImplementedError

    def _fill(self, plan: Plan) -> None:
        """Plan the output for each text, or for the pictures alone."""
        for text in plan.texts or (None,):
            plan.read(self.fields["output"], plan.pictures, () if text is None else (text,))


class Classify(Decoding):
    """The label of the largest score, for each text."""

    answers = True

    def _problems(self, outputs: Mapping[str, Any]) -> list[str]:
        if not self.labels:
            return ["the decoding classify needs labels, this model has none"]
        return row_problems(outputs, self.fields["output"], len(self.labels))

    def answer(self, values: Arrays) -> Answer:
        scores_NA, labels = values[self.fields["output"]], self.labels or []
        if scores_NA.ndim != 2 or scores_NA.shape[1] != len(labels) or not np.isfinite(scores_NA).all():
            raise ValueError("the scores are not finite or do not fit the labels")
        return Answer([labels[index] for index in scores_NA.argmax(axis=1)], margins_of(scores_NA))


class Rank(Decoding):
    """The number of the best text for each picture, by the product of their embeddings."""

    def _problems(self, outputs: Mapping[str, Any]) -> list[str]:
        picture, text = self.fields["picture"], self.fields["text"]
        width = outputs[picture]["shape"][-1] if picture in outputs else None
        prompts = [f'the prompt "{each}" must hold {{}} once' for each in self.fields.get("prompts", ())
                   if each.count("{}") != 1]  # fmt: skip
        return prompts + row_problems(outputs, picture) + row_problems(outputs, text, width)

    def _fill(self, plan: Plan) -> None:
        for picture in plan.pictures:
            plan.read(self.fields["picture"], (picture,), ())
        for text in plan.texts:
            plan.read(self.fields["text"], (), (text,))

    def answer(self, values: Arrays) -> Answer:
        if not all(np.isfinite(array).all() for array in values.values()):
            raise ValueError("the embeddings are not finite")
        if len(values) < 2:
            return Answer([])
        similar_PT = values[self.fields["picture"]] @ values[self.fields["text"]].T
        return Answer(similar_PT.argmax(axis=1).tolist(), margins_of(similar_PT))

    def words(self, answer: Answer, texts: Sequence[str]) -> list[str]:
        return [texts[index] for index in answer.result]


class Generate(Decoding):
    """Token ids of one sequence, at each step the one with the largest score, until the stop token."""

    answers = True

    def _problems(self, outputs: Mapping[str, Any]) -> list[str]:
        programs = {program["name"]: program for program in self._programs}
        program, output = programs.get(self.fields["program"]), self.fields["output"]
        if self._text not in self.texts:
            return [f'the decoding generate names the text processing "{self._text}", there is none']
        if program is None or output not in [spec["name"] for spec in program["outputs"]]:
            return [f"the decoding reads {output} of the program {self.fields['program']}, which does not give it"]
        return row_problems(outputs, output)

    @property
    def _text(self) -> str:
        return self.fields.get("text", "main")

    def _fill(self, plan: Plan) -> None:
        if len(plan.texts) > 1:
            raise Problem(BAD_INPUT, "a query of a generated answer has one text at most: ask one after another")
        plan.repeat(*(self.fields[name] for name in ("program", "output", "start", "stop", "steps")))

    def answer(self, values: Arrays) -> Answer:
        scores_LA = values[self.fields["output"]]
        if scores_LA.ndim != 2 or np.isnan(scores_LA).any():
            raise ValueError("the scores are not numbers")
        return Answer(scores_LA.argmax(axis=1).tolist(), margins_of(scores_LA))

    def same(self, own: Answer, recorded: Answer, tolerance: Mapping[str, float]) -> bool:
        """Say if the tokens are equal up to the first decision that was not clear: what follows it may differ."""
        least = SLACK * max(tolerance.values())
        for index, token in enumerate(recorded.result):
            if index < len(recorded.margins) and recorded.margins[index] <= least:
                return True
            if own.result[index : index + 1] != [token]:
                return False
        return len(own.result) == len(recorded.result)

    def words(self, answer: Answer, texts: Sequence[str]) -> list[str]:
        tokens, stop = answer.result, self.fields["stop"]
        return [self.texts[self._text].decode(tokens[: tokens.index(stop)] if stop in tokens else tokens)]


class Box(Decoding):
    """Left, top, right, bottom as shares of the picture's sides, for each text."""

    def _problems(self, outputs: Mapping[str, Any]) -> list[str]:
        return row_problems(outputs, self.fields["output"], 4)

    def answer(self, values: Arrays) -> Answer:
        values_N4 = values[self.fields["output"]]
        if values_N4.shape[1:] != (4,) or not np.isfinite(values_N4).all():
            raise ValueError("the boxes are not four finite numbers")
        if self.fields.get("format", "center") == "center":
            middle, half = values_N4[:, :2], values_N4[:, 2:] / 2
            values_N4 = np.concatenate([middle - half, middle + half], axis=1)
        return Answer(values_N4.clip(0, 1).tolist())

    def same(self, own: Answer, recorded: Answer, tolerance: Mapping[str, float]) -> bool:
        """Say if no corner is further away than twice the tolerance."""
        if len(own.result) != len(recorded.result):
            return False
        return bool(np.abs(np.subtract(own.result, recorded.result)).max() <= SLACK * max(tolerance.values()))

    def equal(self, own: Any, recorded: Any) -> bool:
        try:
            return isinstance(recorded, list) and bool(np.allclose(own, recorded, rtol=0, atol=BOX_STEP))
        except (TypeError, ValueError):
            return False


KINDS = {"classify": Classify, "rank": Rank, "generate": Generate, "box": Box}


def decoding_of(manifest: dict[str, Any], labels: list[str] | None, texts: Mapping[str, Any]) -> Decoding:
    """Return the decoding of a manifest whose fields fit their schema.

    Raises `Problem` (4) where it does not fit the rest of the bundle.
    """
    decoding = KINDS[manifest["decoding"]["kind"]](manifest, labels, texts)
    if decoding.problems:
        raise Problem(REFUSED, decoding.problems[0])
    return decoding


def row_problems(outputs: Mapping[str, Any], name: str, width: int | None = None) -> list[str]:
    """Say what is wrong with an output that must be float [B, N], where N is `width` if given."""
    spec = outputs.get(name)
    if spec is None:
        return [f"the decoding reads the value {name}, which no program gives"]
    wrong = len(spec["shape"]) != 2 or (width is not None and spec["shape"][-1] != width)
    if wrong or not spec["dtype"].startswith("float"):
        wanted = "N" if width is None else width
        return [f"the decoding reads {name} as float [B, {wanted}], it is {spec['dtype']} {spec['shape']}"]
    return []


def margins_of(scores_NA: np.ndarray) -> tuple[float, ...]:
    """Return by how much the best score of each row leads; nothing where there is one score only."""
    if scores_NA.shape[1] < 2:
        return ()
    ordered = np.sort(scores_NA.astype(np.float64), axis=1)
    return tuple((ordered[:, -1] - ordered[:, -2]).tolist())
