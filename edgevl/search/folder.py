"""Keep the index of a folder true: embed what is new, keep what is the same, drop what is gone.

Shapes: N pictures, E channels of an embedding.
"""

import dataclasses
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from edgevl.apps.jetson.strict_json import Unreadable, plain_bytes
from edgevl.errors import InputError, no_such_path
from edgevl.pictures import MAX_FILE_BYTES, SUFFIXES
from edgevl.progress import Progress
from edgevl.search.index import NAME, Entry, Index, load_index, save_index

CHUNK = 32  # pictures that are decoded and embedded together
SAVED_EVERY = 2048  # pictures: a long first run that is stopped goes on from there
_RACY = 2 * 10**9  # ns: a file that was written so shortly before the index may have changed within one tick


class Model(Protocol):
    """What embeds pictures. Two models with one `identity` give the same embeddings."""

    @property
    def identity(self) -> str: ...
    @property
    def name(self) -> str: ...
    def open_picture(self, data: bytes) -> Image.Image:
        """Decode a file as the model reads one. Raises `InputError` for what is no picture."""
        ...

    def embed_pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Return [N, E], of length 1."""
        ...


@dataclasses.dataclass
class Changes:
    """What an update did: counts of pictures, and why files were left out."""

    kept: int = 0
    embedded: int = 0
    moved: int = 0  # renamed or copied: their content was known
    removed: int = 0
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)  # path -> reason


def update_index(
    folder: Path, model: Model, path: Path | None = None, force: bool = False, progress: Progress | None = None
) -> tuple[Index, Changes]:
    """Bring the index of a folder up to date and write it if anything changed.

    path: of the index; default: `.edgevl-index.safetensors` in the folder. force: make it anew, whatever it is.

    Raises:
        InputError: no such folder; an index that is damaged or of another model; nowhere to write it.
    """
    if not folder.is_dir():
        raise (
            no_such_path("folder", folder, "name a folder of pictures")
            if not folder.exists()
            else InputError(f'"{folder}" is a file: name the folder that it lies in')
        )
    path = path or folder / NAME
    old = None if force or not path.exists() else _load(path, model)
    update = _Update(folder, model, path, old, progress)
    return update.run()


def _load(path: Path, model: Model) -> Index:
    index = load_index(path)
    if index.model != model.identity:
        raise InputError(
            f"{path} was made by {_other(index.made_by, model.name)}, whose embeddings mean something else than those "
            f"of {model.name}: name that model, name another --index, or make it anew with --force"
        )
    return index


def _other(made_by: str, name: str) -> str:
    return f"another {name}" if made_by == name else made_by or "another model"


def pictures_in(folder: Path) -> Iterator[Path]:
    """Yield picture files below a folder, in order. Links to folders and what begins with a dot are left out."""
    for directory, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(directory, name)


class _Update:
    def __init__(self, folder: Path, model: Model, path: Path, old: Index | None, progress: Progress | None):
        self.folder, self.model, self.path, self.old = folder, model, path, old
        self.tell = progress or (lambda done, total, text: None)
        rows = enumerate(old.entries) if old else ()
        self.by_path = {entry.path: row for row, entry in rows}
        self.by_content = {entry.sha256: row for row, entry in enumerate(old.entries)} if old else {}
        self.entries: list[Entry] = []
        self.vectors: list[np.ndarray] = []
        self.changes, self.unsaved = Changes(), 0
        self.waiting: list[tuple[Entry, Image.Image]] = []

    def run(self) -> tuple[Index, Changes]:
        files = [*pictures_in(self.folder)]
        for number, file in enumerate(files):
            self._add(file)
            self.tell(number + 1, len(files), "looking at pictures")
        self._embed()
        self.changes.removed = len(self.by_path.keys() - {entry.path for entry in self.entries})
        index = self._index()
        if self.old and index.entries == self.old.entries:
            return self.old, self.changes
        save_index(self.path, index)
        return index, self.changes

    def _add(self, file: Path) -> None:
        name = file.relative_to(self.folder).as_posix()
        try:
            found = file.stat()
            row = self.by_path.get(name)
            if row is not None and self._is_same(row, found):
                self.changes.kept += 1
                self._keep(row, self.old.entries[row])  # pyright: ignore[reportOptionalMemberAccess]
                return
            data = plain_bytes(file, MAX_FILE_BYTES)
            entry = Entry(name, len(data), found.st_mtime_ns, hashlib.sha256(data).hexdigest())
            known = self.by_content.get(entry.sha256)
            if known is not None:
                self.changes.moved += name not in self.by_path
                self.changes.kept += name in self.by_path
                self._keep(known, entry)
                return
            self.waiting.append((entry, self.model.open_picture(data)))
        except (OSError, Unreadable, InputError) as error:
            self.changes.skipped[name] = str(error).removeprefix("the image bytes ")
        if len(self.waiting) == CHUNK:
            self._embed()

    def _is_same(self, row: int, found: os.stat_result) -> bool:
        assert self.old
        entry = self.old.entries[row]
        settled = found.st_mtime_ns < self.old.written - _RACY
        return settled and (entry.size, entry.modified) == (found.st_size, found.st_mtime_ns)

    def _keep(self, row: int, entry: Entry) -> None:
        assert self.old
        self.entries.append(entry)
        self.vectors.append(self.old.vectors_NE[row])

    def _embed(self) -> None:
        if not self.waiting:
            return
        vectors = self.model.embed_pictures([picture for _, picture in self.waiting])
        self.entries += [entry for entry, _ in self.waiting]
        self.vectors += [*vectors]
        self.changes.embedded += len(self.waiting)
        self.unsaved += len(self.waiting)
        self.waiting = []
        if self.unsaved >= SAVED_EVERY:
            save_index(self.path, self._index(self._unseen()))
            self.unsaved = 0

    def _unseen(self) -> list[tuple[Entry, np.ndarray]]:
        """Return what the old index has of pictures that were not looked at yet."""
        seen = {entry.path for entry in self.entries}
        rows = zip(self.old.entries, self.old.vectors_NE) if self.old else ()
        return [(entry, vector) for entry, vector in rows if entry.path not in seen]

    def _index(self, others: Sequence[tuple[Entry, np.ndarray]] = ()) -> Index:
        rows = sorted([*zip(self.entries, self.vectors), *others], key=lambda row: row[0].path)
        vectors = np.stack([vector for _, vector in rows]) if rows else np.zeros((0, 0), np.float32)
        return Index(self.model.identity, tuple(entry for entry, _ in rows), vectors, time.time_ns(), self.model.name)
