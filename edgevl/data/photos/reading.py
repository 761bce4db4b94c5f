"""A table and its pictures as a data set: rows are gathered by picture."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevl.data.photos.columns import Row, column_of, rows_of
from edgevl.data.photos.dataset import Entry, PhotoQuestion, Photos, one_spelling, with_splits
from edgevl.data.photos.places import Places
from edgevl.data.photos.table import Table, read_table
from edgevl.errors import InputError


@dataclass(frozen=True)
class Problem:
    """What is wrong with a picture of a table, as the end of a sentence that begins with its name."""

    kind: str  # missing, outside, broken, duplicate, leak
    line: int
    image: str
    text: str


@dataclass(frozen=True)
class Gathered:
    """What a table says, by picture, in the order of the table; splits are those that it names."""

    table: Table
    entries: Sequence[Entry]
    lines: dict[str, int]  # key -> the line that named it first
    problems: Sequence[Problem]


def open_table(place: str, seed: int = 0, size: int = 0) -> Photos:
    """Open `photos.csv` or `photos.csv:SPLIT` (default: train) where it lies, its pictures in the table's own folder.

    Raises `InputError` for what cannot be read, and for a picture that is not there.
    """
    path, split = split_of(place)
    found = gather(path)
    if found.problems:
        first = found.problems[0]
        more = f" (and {len(found.problems) - 1} more)" if len(found.problems) > 1 else ""
        raise InputError(
            f"{path}: line {first.line}: {first.text}{more}: `edgevl data import {path}` leaves such pictures out"
        )
    return Photos(f"csv:{place}", with_splits(found.entries), split)


def split_of(place: str) -> tuple[Path, str]:
    """Part `PATH:SPLIT`; a drive of Windows is no split."""
    path, _, split = place.rpartition(":")
    if path and split and not any(mark in split for mark in "/\\."):
        return Path(path), split
    return Path(place), "train"


def gather(path: Path, images: Path | None = None) -> Gathered:
    """Read a table and find its pictures, in `images` or beside it.

    Raises `InputError` for a table that cannot be read or names no pictures with texts.
    """
    table = read_table(path)
    _check_columns(table)
    places = Places(images or path.parent)
    by_name: dict[str, list[Row]] = {}
    for line, values in table.rows:
        for row in rows_of(line, values, str(path)):
            by_name.setdefault(row.image, []).append(row)
    found: dict[Path, list[Row]] = {}
    problems = []
    for name, rows in by_name.items():
        try:
            picture = places.find(name)
        except InputError as error:
            problems.append(Problem("outside", rows[0].line, name, str(error)))
            continue
        if picture is None:
            problems.append(Problem("missing", rows[0].line, name, f'there is no picture "{name}" in {places.root}'))
        else:
            found.setdefault(picture, []).extend(rows)
    entries = one_spelling(_entry(_key(picture, places.root), picture, rows, path) for picture, rows in found.items())
    lines = {entry.key: rows[0].line for entry, rows in zip(entries, found.values())}
    return Gathered(table, entries, lines, problems)


def _check_columns(table: Table) -> None:
    names = [name for name in dict(table.rows[0][1]) if isinstance(name, str)]
    known = {column_of(name) for name in names}
    if "image" not in known or not known & {"question", "caption"}:
        shown = ", ".join(f'"{name}"' for name in names[:12])
        raise InputError(
            f"{table.path} has the columns {shown}: it needs one called image, and question and answer, or caption"
        )


def _key(picture: Path, root: Path) -> str:
    """The path from the folder, or the whole path of a picture elsewhere."""
    inside = picture.is_relative_to(root)
    return (picture.relative_to(root) if inside else picture).as_posix()


def _entry(key: str, picture: Path, rows: Sequence[Row], path: Path) -> Entry:
    split = next((row.split for row in rows if row.split), "")
    for row in rows:
        if row.split and row.split != split:
            raise InputError(f"{path}: line {row.line}: {key} is in the split {row.split}, and in {split} before it")
    return Entry(key, picture, split, _questions(rows), tuple(dict.fromkeys(c for row in rows for c in row.captions)))


def _questions(rows: Sequence[Row]) -> tuple[PhotoQuestion, ...]:
    """Questions with the answers of all their lines. The answer to learn is the most frequent one, else the first."""
    asked: dict[str, list[Row]] = {}
    for row in rows:
        if row.question:
            asked.setdefault(row.question, []).append(row)
    return tuple(_question(text, own) for text, own in asked.items())


def _question(text: str, rows: Sequence[Row]) -> PhotoQuestion:
    given = [answer for row in rows for answer in row.answers]
    counts = Counter(answer.casefold() for answer in given)
    usual = max(given, key=lambda answer: counts[answer.casefold()])
    return PhotoQuestion(rows[0].kind, text, usual, tuple(dict.fromkeys(given)))
