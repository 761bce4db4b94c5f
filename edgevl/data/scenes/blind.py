"""The blind baseline: what can be answered from the question alone. Whoever reports accuracy reports this beside it.

python -m edgevl.data.scenes.blind --train 20000 --test 4000
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterable

from edgevl.data.scenes.names import ANSWERS, CATEGORIES, COLORS, GROUPS, group_plural, group_singular, plural
from edgevl.data.scenes.questions import QUESTION_KINDS, Question
from edgevl.data.scenes.scene import Scenes

SMOOTHING = 3  # a text counts as known when it was seen more often than this


def _masks() -> list[tuple[str, str]]:
    """(phrase, mask), longest first, so that "teddy bears" goes before "bear"."""
    found = dict.fromkeys(COLORS, "COLOR")
    found |= {form: "GROUP" for g in GROUPS for form in (g, group_singular(g), group_plural(g))}
    found |= {form: "CATEGORY" for c in CATEGORIES for form in (c, plural(c))}
    return sorted(found.items(), key=lambda item: -len(item[0]))


_MASKS = _masks()


def template(text: str) -> str:
    """The question with the names in it replaced: "what color is the CATEGORY ?"."""
    text = f" {text.replace('?', ' ?')} "
    for phrase, mask in _MASKS:
        text = text.replace(f" {phrase} ", f" {mask} ")
    return text.strip()


class BlindBaseline:
    """Answers with the most frequent answer in training: of the exact text if seen often enough, else of the text
    with its names masked, else of its first word."""

    def __init__(self, questions: Iterable[Question]):
        self._levels: tuple[dict[str, Counter[str]], ...] = tuple(defaultdict(Counter) for _ in range(3))
        for question in questions:
            for level, key in zip(self._levels, self._keys(question.text), strict=True):
                level[key][question.answer] += 1

    @staticmethod
    def _keys(text: str) -> tuple[str, str, str]:
        return text, template(text), text.split()[0]

    def answer(self, text: str) -> str:
        for level, key in zip(self._levels, self._keys(text), strict=True):
            counts = level.get(key)
            if counts and counts.total() > SMOOTHING:
                return min(counts, key=lambda name: (-counts[name], ANSWERS.index(name)))
        return ANSWERS[0]


def questions_of(
    split: str, scenes: int, per_scene: int = 4, seed: int = 0, categories: tuple[str, ...] = CATEGORIES
) -> list[Question]:
    data = Scenes(split, seed, 32, categories)  # small pictures are quick, and what is asked is drawn alike
    return [question for i in range(scenes) for question in data.scene(i).questions(per_scene)]


def blind_accuracy(baseline: BlindBaseline, questions: Iterable[Question]) -> dict[str, float]:
    """Accuracy in 0..1 per question kind, and under "all"."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for question in questions:
        for key in (question.kind, "all"):
            total[key] += 1
            right[key] += baseline.answer(question.text) == question.answer
    return {key: right[key] / total[key] for key in ("all", *QUESTION_KINDS) if total[key]}


def blind_baseline(train: int = 20000, test: int = 4000, split: str = "test") -> dict[str, float]:
    """Learn from `train` training scenes and answer the questions of `test` scenes of a split without the pictures."""
    return blind_accuracy(BlindBaseline(questions_of("train", train)), questions_of(split, test))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=20000, help="training scenes to learn from")
    parser.add_argument("--test", type=int, default=4000, help="scenes of each split to answer")
    parser.add_argument("--splits", nargs="+", default=["test"])
    args = parser.parse_args(argv)
    baseline = BlindBaseline(questions_of("train", args.train))
    result = {split: blind_accuracy(baseline, questions_of(split, args.test)) for split in args.splits}
    print(json.dumps({s: {k: round(v, 4) for k, v in r.items()} for s, r in result.items()}, indent=2))


if __name__ == "__main__":
    main()
