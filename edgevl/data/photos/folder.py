"""The folder that `edgevl data import` makes, and that `data=FOLDER` of a recipe opens.

data.json       schema, name, where it came from, and what the import found
records.jsonl   a line for each picture: {"key", "image", "split", "questions", "captions"}
images/         the pictures, 000000.jpg …
"""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from edgevl.atomic import Kind
from edgevl.data.photos.columns import MAX_ANSWER, MAX_KIND
from edgevl.data.photos.dataset import SPLITS, Entry, PhotoQuestion, Photos
from edgevl.errors import InputError
from edgevl.limits import MAX_TEXT, shown
from edgevl.reading import MAX_RESULTS_BYTES, Unreadable, read_json, read_text, strict_json

SCHEMA = 1
MARKER, RECORDS, IMAGES = "data.json", "records.jsonl", "images"
DATA_FOLDER = Kind("data set", MARKER, "FOLDER/NAME")


def is_data_folder(path: Path) -> bool:
    return (path / MARKER).is_file()


def write_records(folder: Path, entries: Sequence[Entry], about: dict[str, Any]) -> None:
    """Write everything but the pictures, which lie in `folder` already."""
    lines = [json.dumps(_to_json(entry, folder), ensure_ascii=False) for entry in entries]
    (folder / RECORDS).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    text = json.dumps({"schema": SCHEMA, **about}, indent=1, ensure_ascii=False)
    (folder / MARKER).write_text(text + "\n", encoding="utf-8", newline="\n")


def _to_json(entry: Entry, folder: Path) -> dict[str, Any]:
    image = entry.picture.relative_to(folder).as_posix()
    questions = [vars(question) | {"answers": list(question.answers)} for question in entry.questions]
    return {
        "key": entry.key,
        "image": image,
        "split": entry.split,
        "questions": questions,
        "captions": list(entry.captions),
    }


def open_folder(place: str, seed: int = 0, size: int = 0) -> Photos:
    """Open `FOLDER` or `FOLDER:SPLIT` (default: train).

    Raises `InputError` for a folder that is not as `edgevl data import` writes it, or has no pictures in the split.
    """
    path, split = (Path(place), "train") if Path(place).is_dir() else _parted(place)
    values = read_json(path / MARKER)
    if values.get("schema") != SCHEMA:
        raise InputError(
            f"{path / MARKER} has the schema {shown(values.get('schema'))}, this EdgeVL reads {SCHEMA}: import it again"
        )
    entries = []
    for number, line in enumerate(read_text(path / RECORDS, MAX_RESULTS_BYTES).splitlines(), start=1):
        try:
            entries.append(_entry(strict_json(line), path))
        except (Unreadable, ValueError) as error:
            raise InputError(f"{path / RECORDS}: line {number}: {error}: import it again") from None
    return Photos(place, entries, split)


def _parted(place: str) -> tuple[Path, str]:
    path, _, split = place.rpartition(":")
    return Path(path), split


def _entry(values: Any, folder: Path) -> Entry:
    """Raises `ValueError` for a line that an import does not write, above all one whose picture lies elsewhere."""
    if not isinstance(values, dict) or values.get("split") not in SPLITS:
        raise ValueError("it is no record with a split")
    image = _text(values.get("image"), "image")
    parts = PurePosixPath(image).parts
    if len(parts) != 2 or parts[0] != IMAGES or ".." in parts or "\\" in image:
        raise ValueError(f"the image {shown(image)} does not lie in {IMAGES}/")
    if (picture := folder / image).is_symlink():
        raise ValueError(f"the image {shown(image)} is a link")
    questions = tuple(_question(each) for each in _list(values, "questions"))
    captions = tuple(_text(each, "caption") for each in _list(values, "captions"))
    return Entry(_text(values.get("key"), "key"), picture, values["split"], questions, captions)


def _question(values: Any) -> PhotoQuestion:
    if not isinstance(values, dict):
        raise ValueError("a question is no object")
    answers = tuple(_text(each, "answer", MAX_ANSWER) for each in _list(values, "answers"))
    answer = _text(values.get("answer"), "answer", MAX_ANSWER)
    if answer not in answers:
        raise ValueError(f"the answer {shown(answer)} is not among its answers")
    return PhotoQuestion(
        _text(values.get("kind"), "kind", MAX_KIND), _text(values.get("text"), "text"), answer, answers
    )


def _list(values: dict[str, Any], key: str) -> list[Any]:
    if not isinstance(found := values.get(key), list):
        raise ValueError(f"{key} is no list")
    return found


def _text(value: Any, what: str, most: int = MAX_TEXT) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > most or "\0" in value:
        raise ValueError(f"{what} is {shown(value)}: it must be text of at most {most} characters")
    return value
