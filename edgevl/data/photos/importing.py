"""`edgevl data import`: check a table and its pictures, say what is wrong, and write a folder to train on."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgevl.atomic import atomic_folder
from edgevl.data.photos.alike import SIDE, pairs_alike, small
from edgevl.data.photos.dataset import SPLITS, Entry, labels_of, with_splits
from edgevl.data.photos.folder import DATA_FOLDER, IMAGES, write_records
from edgevl.data.photos.heic import heic_to_jpeg, is_heic
from edgevl.data.photos.reading import Gathered, Problem, gather
from edgevl.errors import InputError
from edgevl.inputs.preprocess import load_image, to_pixels
from edgevl.progress import Progress

SHOWN = 20  # problems of a kind that the report names; it counts all
_NEAREST_TO_TEST = {split: place for place, split in enumerate(reversed(SPLITS))}


@dataclass(frozen=True)
class Seen:
    """A picture that could be read: the digest of its file, and a small version of it."""

    entry: Entry
    digest: str
    small: np.ndarray


def import_table(
    path: Path,
    out: Path,
    images: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the pictures and texts of a table to the folder `out` and return the report, as plain JSON values.

    Pictures that are missing, broken or there twice are left out and reported, each with its line.

    images: the folder that the names in the table begin in; default: the table's own.

    Raises:
        InputError: the table cannot be read, no picture can be used, fewer than 3 are left, or `out` exists and not
            `force`.
    """
    found = gather(path, images)
    with atomic_folder(out, force, DATA_FOLDER) as folder:
        (folder / IMAGES).mkdir()
        seen, problems = _copied(found, folder, progress or (lambda done, total, text: None))
        kept, doubles = _once(seen, found)
        problems = [*found.problems, *problems, *doubles]
        if not kept:
            raise InputError(f"{path}: no picture can be used: {problems[0].text}")
        entries = with_splits([each.entry for each in kept])
        problems += _leaks([replace(each, entry=entry) for each, entry in zip(kept, entries)], found)
        report = _report(found, entries, problems, out)
        write_records(folder, entries, report)
    return report


def _copied(found: Gathered, folder: Path, progress: Progress) -> tuple[list[Seen], list[Problem]]:
    """Read every picture, and copy those that can be read: HEIC becomes JPEG."""
    seen, problems = [], []
    for number, entry in enumerate(found.entries):
        progress(number, len(found.entries), "pictures")
        target = folder / IMAGES / f"{number:06d}{entry.picture.suffix.lower() or '.jpg'}"
        try:
            target = _copy(entry.picture, target)
            pixels = to_pixels(load_image(target), SIDE)
        except (InputError, OSError) as error:
            target.unlink(missing_ok=True)
            text = str(error).replace(str(target), str(entry.picture))
            problems.append(Problem("broken", found.lines[entry.key], entry.key, text))
            continue
        with entry.picture.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        seen.append(Seen(replace(entry, picture=target), digest, small(pixels)))
    return seen, problems


def _copy(picture: Path, target: Path) -> Path:
    if is_heic(picture):
        heic_to_jpeg(picture, target := target.with_suffix(".jpg"))
        return target
    return Path(shutil.copyfile(picture, target))


def _once(seen: Sequence[Seen], found: Gathered) -> tuple[list[Seen], list[Problem]]:
    """Keep one of each file that is there under several names, with the texts of all of them.

    Where the table puts copies into several splits, the one nearest to `test` stays, alone: that is a leak.
    """
    groups: dict[str, list[Seen]] = {}
    for each in seen:
        groups.setdefault(each.digest, []).append(each)
    kept, problems = [], []
    for same in groups.values():
        first, *others = sorted(same, key=lambda each: _NEAREST_TO_TEST.get(each.entry.split, len(SPLITS)))
        for other in others:
            leaks = other.entry.split not in ("", first.entry.split)
            where = f" of the split {first.entry.split}" if leaks else ""
            text = f'"{other.entry.key}" is the same picture as "{first.entry.key}"{where}'
            line = found.lines[other.entry.key]
            problems.append(Problem("leak" if leaks else "duplicate", line, other.entry.key, text))
            other.entry.picture.unlink()
            if not leaks:
                first = replace(first, entry=_joined(first.entry, other.entry))
        kept.append(first)
    return kept, problems


def _joined(first: Entry, other: Entry) -> Entry:
    known = {question.text for question in first.questions}
    questions = (*first.questions, *(question for question in other.questions if question.text not in known))
    return replace(first, questions=questions, captions=tuple(dict.fromkeys((*first.captions, *other.captions))))


def _leaks(kept: Sequence[Seen], found: Gathered) -> list[Problem]:
    """Pictures that look like one of another split. They stay: whether they show the same is for the user to say."""
    problems = []
    for pair in pairs_alike([each.small for each in kept]):
        first, other = sorted((kept[index].entry for index in pair), key=lambda entry: _NEAREST_TO_TEST[entry.split])
        if first.split != other.split:
            text = f'"{other.key}" of {other.split} looks like "{first.key}" of {first.split}'
            problems.append(Problem("alike", found.lines[other.key], other.key, text))
    return problems


def _report(found: Gathered, entries: Sequence[Entry], problems: Sequence[Problem], out: Path) -> dict[str, Any]:
    """What was found, as plain JSON values."""
    by_split = {split: [entry for entry in entries if entry.split == split] for split in SPLITS}
    labels = labels_of(by_split["train"])
    counts = Counter(question.answer for entry in entries for question in entry.questions)
    once = sorted(answer for answer, count in counts.items() if count == 1)
    kinds = Counter(problem.kind for problem in problems)
    named: dict[str, list[dict[str, Any]]] = {}
    for problem in problems:
        named.setdefault(problem.kind, []).append(
            {"line": problem.line, "image": problem.image, "problem": problem.text}
        )
    return {
        "name": out.name,
        "source": found.table.path.name,
        "encoding": found.table.encoding,
        "delimiter": found.table.delimiter,
        "splits": {split: _counts(own, set(labels)) for split, own in by_split.items()},
        "labels": len(labels),
        "answers_that_occur_once": {"count": len(once), "first": once[:SHOWN]},
        "blind_accuracy": blind_accuracy(by_split["train"], by_split["test"] or by_split["val"]),
        "problems": dict(kinds),
        "first_problems": {kind: each[:SHOWN] for kind, each in named.items()},
    }


def _counts(entries: Sequence[Entry], labels: set[str]) -> dict[str, int]:
    questions = [question for entry in entries for question in entry.questions]
    return {
        "pictures": len(entries),
        "questions": len(questions),
        "captions": sum(len(entry.captions) for entry in entries),
        "outside_labels": sum(question.answer not in labels for question in questions),
    }


def blind_accuracy(train: Sequence[Entry], held: Sequence[Entry]) -> float | None:
    """Return the share of questions that the text alone answers: by the most frequent answer to it in training.

    A text that training does not have gets the most frequent answer of all. None without questions.
    """
    asked = [question for entry in held for question in entry.questions]
    known: dict[str, Counter[str]] = {}
    for entry in train:
        for question in entry.questions:
            for text in (question.text, ""):
                known.setdefault(text, Counter())[question.answer] += 1
    if not asked or not known:
        return None
    best = {text: max(counts, key=lambda answer: (counts[answer], answer)) for text, counts in known.items()}
    return sum(best.get(question.text, best[""]) in question.answers for question in asked) / len(asked)
