"""Photos: a finite data set of pictures in files, with the questions and captions that somebody wrote for them."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgevl.contracts import Record
from edgevl.errors import InputError

SPLITS = ("train", "val", "test")
HELD_OUT = 10  # one picture in so many is for val, and another for test
MIN_PICTURES = 3  # one for each split


@dataclass(frozen=True)
class PhotoQuestion:
    """A question with the answer to learn, and all that are right."""

    kind: str
    text: str
    answer: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A picture with what was written about it. key: its name in the table."""

    key: str
    picture: Path
    split: str
    questions: tuple[PhotoQuestion, ...]
    captions: tuple[str, ...]


class Photos(Sequence[Record]):
    """One split of entries. Labels and words come from the split `train`, whichever is open: a model has no others.

    Raises `InputError` for a split without pictures.
    """

    finite = True

    def __init__(self, name: str, entries: Sequence[Entry], split: str = "train"):
        if split not in SPLITS:
            raise InputError(f'{name}: the split "{split}" is not one of {", ".join(SPLITS)}')
        self.name = name
        self.about = f"the pictures of {name.removesuffix(f':{split}')}"
        self._entries = [entry for entry in entries if entry.split == split]
        self._train = [entry for entry in entries if entry.split == "train"]
        if not self._entries:
            raise InputError(f"{name} has no pictures in the split {split}: import more of them")
        labels = labels_of(self._train)
        self.labels: Mapping[str, Sequence[str]] = {"vqa": labels} if labels else {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Record:  # type: ignore[override]
        entry = self._entries[index]
        return Record(entry.key, (entry.picture,), entry.questions or None, entry.captions or None)

    def texts(self) -> Iterator[str]:
        """Yield every question and caption of the split `train`."""
        for entry in self._train:
            yield from (question.text for question in entry.questions)
            yield from entry.captions


def labels_of(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Return the answers to learn, the frequent ones first."""
    counts = Counter(question.answer for entry in entries for question in entry.questions)
    return tuple(sorted(counts, key=lambda answer: (-counts[answer], answer)))


def one_spelling(entries: Iterable[Entry]) -> list[Entry]:
    """Write answers that differ in nothing but capitals in the way that is most frequent."""
    entries = list(entries)
    counts = Counter(answer for entry in entries for question in entry.questions for answer in question.answers)
    usual: dict[str, str] = {}
    for answer in sorted(counts, key=lambda answer: (-counts[answer], answer)):
        usual.setdefault(answer.casefold(), answer)

    def spelled(question: PhotoQuestion) -> PhotoQuestion:
        answers = tuple(dict.fromkeys(usual[answer.casefold()] for answer in question.answers))
        return replace(question, answer=usual[question.answer.casefold()], answers=answers)

    return [replace(entry, questions=tuple(map(spelled, entry.questions))) for entry in entries]


def with_splits(entries: Sequence[Entry]) -> list[Entry]:
    """Give entries without a split one: a tenth to `val`, a tenth to `test`, by a digest of their key.

    So that a picture stays in its split when others are added, as far as the tenths allow. Where the table names
    splits but none is `val`, a tenth of `train` becomes it. Raises `InputError` for fewer than 3 pictures.
    """
    named = {entry.split for entry in entries} - {""}
    free = sorted((entry for entry in entries if not entry.split), key=_digest)
    wanted = [split for split in ("val", "test") if split not in named and (not named or split == "val")]
    if not free and wanted:
        free = sorted((entry for entry in entries if entry.split == "train"), key=_digest)
    if wanted and len(free) < len(wanted) + 1:
        raise InputError(f"{len(free)} pictures are too few: at least {len(wanted) + 1} are needed, for {_for(wanted)}")
    share = max(1, len(free) // HELD_OUT)
    chosen = {entry.key: split for place, split in enumerate(wanted) for entry in free[place * share :][:share]}
    return [replace(entry, split=chosen.get(entry.key) or entry.split or "train") for entry in entries]


def _for(wanted: Sequence[str]) -> str:
    return " and ".join(["train", *wanted])


def _digest(entry: Entry) -> bytes:
    return hashlib.sha256(entry.key.encode()).digest()
