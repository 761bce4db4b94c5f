"""From a row of a table to what it says of a picture: which column is which, several answers, texts made even."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgevl.errors import InputError
from edgevl.limits import MAX_TEXT, shown
from edgevl.pictures import SUFFIXES

# What people call a column, without blanks, dashes and capitals -> what it is here.
_NAMES = {
    "image": "image images imagepath imagefile imagename picture picturepath photo photopath photos file filename "
    "filepath path img imgpath imageid imageurl bild",
    "question": "question questions q query prompt frage",
    "answer": "answer a label target groundtruth class category antwort correctanswer",
    "answers": "answers labels",
    "caption": "caption captions text description sentence title alttext beschreibung",
    "split": "split set subset fold partition",
    "kind": "kind type questiontype questionkind",
}
_KNOWN = {name: column for column, names in _NAMES.items() for name in names.split()}
PICTURES = ("image",)
ENDINGS = (*SUFFIXES, ".heic", ".heif")  # of pictures' names; an import turns HEIC into JPEG
SPLITS = {
    "train": "train training trainval",
    "val": "val valid validation dev eval",
    "test": "test testing holdout heldout",
}
_SPLITS = {name: split for split, names in SPLITS.items() for name in names.split()}
MAX_ANSWER = 256  # characters: a label
MAX_KIND = 64


@dataclass(frozen=True)
class Row:
    """One line of a table: a picture with a question and its answers, or with captions. Texts are NFC, in one line."""

    line: int
    image: str
    question: str = ""
    answers: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    split: str = ""  # train, val, test, or "" where the table does not say
    kind: str = "all"


def column_of(name: str) -> str | None:
    """Return what a column of that name holds, or None: `Image_Path` is `image`, `answer 3` is `answer`."""
    plain = re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKC", name).lower())
    return _KNOWN.get(plain) or _KNOWN.get(plain.rstrip("0123456789"))


def is_picture(name: str) -> bool:
    """Say if a text ends like the name of a picture."""
    return name.strip().strip('"').lower().endswith(ENDINGS)


def rows_of(line: int, values: Mapping[str, Any], where: str) -> list[Row]:
    """Return what a line says: a row for each of its questions, and one for its captions.

    Raises `InputError` for a line without an image or without a text, or with a value of another kind.
    """
    where = f"{where}: line {line}"
    cells: dict[str, list[Any]] = {}
    for name, value in values.items():
        column = column_of(name) if isinstance(name, str) else None
        if column and value not in (None, "", []):
            cells.setdefault(column, []).append(value)
    image = _text(next(iter(cells.get("image", ())), ""), f"{where}: image")
    if not image:
        raise InputError(
            f"{where} names no picture: it needs a column image, and one for question and answer, or caption"
        )
    split, kind = _split(cells, where), _one(cells, "kind", where, MAX_KIND) or "all"
    captions = tuple(_texts(cells.get("caption", ()), f"{where}: caption"))
    asked = [*_asked(cells, kind, where)]
    if not asked and not captions:
        raise InputError(f"{where} says nothing of {shown(image)}: it needs a question with an answer, or a caption")
    rows = [Row(line, image, question, answers, (), split, kind) for question, answers, kind in asked]
    return [*rows, Row(line, image, captions=captions, split=split)] if captions else rows


def _asked(cells: Mapping[str, list[Any]], kind: str, where: str) -> Iterable[tuple[str, tuple[str, ...], str]]:
    """Yield (question, answers, kind): of the columns, or of a list of objects as `edgevl data scenes` writes it."""
    for value in cells.get("question", ()):
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                own = {column_of(name): item for name, item in each.items() if column_of(name)}
                question = own.get("question", own.get("caption", ""))  # "text" is what a caption is called elsewhere
                given = [own[name] for name in ("answer", "answers") if name in own]
                kind = _text(own.get("kind", kind), f"{where}: kind", MAX_KIND)
            else:
                question, given = each, [*cells.get("answer", ()), *_several(cells.get("answers", ()))]
            answers = tuple(_texts(given, f"{where}: answer", MAX_ANSWER))
            question = _text(question, f"{where}: question")
            if question and not answers:
                raise InputError(
                    f"{where}: {shown(question)} has no answer: fill the column answer, or remove the line"
                )
            if question:
                yield question, answers, kind


def _several(values: Iterable[Any]) -> list[Any]:
    """A column that is called `answers` holds several, parted by bars or semicolons."""
    return [re.split(r"\s*[|;]\s*", value) if isinstance(value, str) else value for value in values]


def _split(cells: Mapping[str, list[Any]], where: str) -> str:
    name = _one(cells, "split", where).lower()
    plain = re.sub(r"[^a-z]", "", name)
    if name and plain not in _SPLITS:
        raise InputError(f"{where}: the split {shown(name)} is not train, val or test")
    return _SPLITS[plain] if name else ""


def _one(cells: Mapping[str, list[Any]], column: str, where: str, most: int = MAX_TEXT) -> str:
    return _text(next(iter(cells.get(column, ())), ""), f"{where}: {column}", most)


def _texts(values: Iterable[Any], what: str, most: int = MAX_TEXT) -> list[str]:
    """Texts of nested lists, in order; of VQA's objects their `answer`. One that is there twice counts twice."""
    found: list[str] = []
    for value in values:
        if isinstance(value, list):
            found += _texts(value, what, most)
        else:
            found.append(_text(value.get("answer") if isinstance(value, dict) else value, what, most))
    return [text for text in found if text]


def _text(value: Any, what: str, most: int = MAX_TEXT) -> str:
    """Return a text in NFC, its white space made single blanks. Numbers and truths are written as JSON writes them."""
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, int | float):
        value = f"{value:.15g}"
    if not isinstance(value, str):
        raise InputError(f"{what} is {shown(value)}: it must be text")
    text = " ".join(unicodedata.normalize("NFC", value).split())
    if len(text) > most:
        raise InputError(f"{what} has {len(text):,} characters: at most {most:,} are allowed")
    if re.search("[\ud800-\udfff\0]", text):
        raise InputError(f"{what} is {shown(text)}: it is not valid Unicode")
    return text
