"""The index of a folder of pictures: which files there were, and the embedding of each, in one safetensors file.

It is a copy of what the pictures say, made anew for whatever has changed; nothing in it is believed about a file that
is not there. Shapes: N pictures, E channels of an embedding.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgevl.atomic import atomic_file
from edgevl.errors import InputError, first_line
from edgevl.reading import Unreadable, strict_json

NAME = ".edgevl-index.safetensors"  # in the folder of the pictures
FORMAT = "edgevl-index-1"


class Entry(NamedTuple):
    """A picture as it was when it was embedded."""

    path: str  # relative to the folder, with /
    size: int  # bytes
    modified: int  # nanoseconds since 1970
    sha256: str


@dataclasses.dataclass(frozen=True)
class Index:
    """Rows of `vectors_NE` belong to `entries`, in order."""

    model: str  # what made the embeddings: see `edgevl.search.folder.Model`
    entries: tuple[Entry, ...]
    vectors_NE: np.ndarray  # float32, of length 1
    written: int = 0  # nanoseconds since 1970
    made_by: str = ""  # the model in words


def save_index(path: Path, index: Index) -> None:
    """Write an index, atomically. Raises `InputError` when the disk is full or cannot be written."""
    entries = np.frombuffer(json.dumps(index.entries, ensure_ascii=True).encode(), np.uint8)
    vectors = np.ascontiguousarray(index.vectors_NE, np.float32)
    metadata = {
        "format": FORMAT, "model": index.model, "made_by": index.made_by, "written": str(index.written)
    }  # fmt: skip
    with atomic_file(path) as temporary:
        temporary.write_bytes(save({"entries": entries, "vectors": vectors}, metadata))


def load_index(path: Path) -> Index:
    """Read an index. Raises `InputError` for a file that is none, is damaged, or is of another version."""
    try:
        if not path.is_file():  # a pipe would keep the reader waiting
            raise ValueError("it is not a plain file")
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError(f"{path} is no index of this version of edgevl: remove it, and it is made anew")
            entries = strict_json(file.get_tensor("entries").tobytes().decode("ascii"))
            index = Index(
                model=metadata["model"],
                entries=tuple(_entry(row) for row in entries),
                vectors_NE=file.get_tensor("vectors"),
                written=int(metadata["written"]),
                made_by=metadata.get("made_by", ""),
            )
        _check(index)
    except (SafetensorError, OSError, Unreadable, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is damaged ({first_line(error)}): remove it, and it is made anew") from None
    return index


def _entry(row: Any) -> Entry:
    entry = Entry(*row)
    if [type(value) for value in entry] != [str, int, int, str]:
        raise ValueError("an entry has other fields")
    return entry


def _check(index: Index) -> None:
    vectors = index.vectors_NE
    if vectors.ndim != 2 or vectors.dtype != np.float32 or len(vectors) != len(index.entries):
        raise ValueError("the embeddings do not fit the entries")
    if not np.isfinite(vectors).all():
        raise ValueError("an embedding is not finite")
    if len({entry.path for entry in index.entries}) != len(index.entries):
        raise ValueError("a picture is in it twice")
