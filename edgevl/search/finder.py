"""Pictures of a folder by words: the best for a text, or the best label for each picture.

Shapes: N pictures, E channels of an embedding, A labels.
"""

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgevl.contracts import Deployable, Query
from edgevl.decodings import decoding_of
from edgevl.decodings.base import to_shares
from edgevl.decodings.rank import Rank
from edgevl.decodings.runner import Runner
from edgevl.errors import InputError
from edgevl.progress import Progress
from edgevl.search.folder import Changes, update_index
from edgevl.search.index import Index

_SIDES = re.compile(r"\b(left|right|above|below|under|over|behind)\b", re.IGNORECASE)
ABOUT_SIDES = (
    "a search compares what is in a picture, not where it is: which of two things is left, right, above or below the "
    "other hardly counts"
)


@dataclass(frozen=True)
class Hit:
    """A picture that was found. score: product of the embeddings, -1 to 1; of a label its share, 0 to 1."""

    path: str  # relative to the folder, with /
    score: float
    label: str | None = None


class Embedder:
    """A model whose decoding is `rank`, as the search uses it."""

    def __init__(self, model: Deployable, runner: Runner | None = None, made_by: str = ""):
        """Raises `InputError` for a model of another kind.

        runner: over artifacts of the model; default: its float programs. made_by: the digest of those artifacts.
        """
        decoding = decoding_of(model)
        if not isinstance(decoding, Rank):
            raise InputError(
                f"the model {model.name} is for {model.task}: a search needs one that embeds pictures and texts, as "
                "`edgevl finetune retrieval_scenes_nano` trains it"
            )
        self.model, self.decoding, self._runner, self._made_by = model, decoding, runner, made_by

    @functools.cached_property
    def runner(self) -> Runner:
        if self._runner:
            return self._runner
        from edgevl.runtime.eager_session import eager_runner

        return eager_runner(self.model)

    @property
    def identity(self) -> str:
        """The digest of everything that decides the embedding of a picture."""
        processings = sorted((name, each.model_dump_json()) for name, each in self.model.images.items())
        parts = [self.model.sha256, self._made_by, self.decoding.fields.picture, *(f"{a}={b}" for a, b in processings)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def embed_pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Return float32 [N, E]."""
        rows = self.runner.many(self.decoding.fields.picture, [Query((picture,)) for picture in pictures])
        return np.stack(rows).astype(np.float32)

    def embed_text(self, text: str) -> np.ndarray:
        """Return float32 [E]. Raises `InputError` for an empty text."""
        return self.runner.many(self.decoding.fields.text, [Query((), (text,))])[0].astype(np.float32)


@dataclass
class Finder:
    """A folder with its index, ready to be asked. `find` takes milliseconds."""

    embedder: Embedder
    index: Index
    changes: Changes

    @classmethod
    def open(
        cls,
        folder: Path,
        embedder: Embedder,
        path: Path | None = None,
        force: bool = False,
        progress: Progress | None = None,
    ) -> "Finder":
        """Bring the index of a folder up to date: see `edgevl.search.folder.update_index`."""
        return cls(embedder, *update_index(folder, embedder, path, force, progress))

    def find(self, text: str, top: int = 10) -> list[Hit]:
        """Return the pictures that fit a text best, best first."""
        if not self.index.entries:
            return []
        scores_N = self.index.vectors_NE @ self.embedder.embed_text(text)
        best = np.argsort(-scores_N, kind="stable")[:top]
        return [Hit(self.index.entries[row].path, float(scores_N[row])) for row in best.tolist()]

    def label(self, labels: Sequence[str]) -> list[Hit]:
        """Return each picture with the best of the labels, in the order of the index. Two labels at least."""
        if len(set(labels)) < 2:
            raise InputError(f"{len(set(labels))} label: give two or more, for a picture gets the best of them")
        if not self.index.entries:
            return []
        decoding = self.embedder.decoding
        texts_AE = decoding.label_embeddings(self.embedder.runner, labels)
        shares_NA = to_shares(decoding.scores(self.index.vectors_NE, texts_AE), decoding.fields.activation)
        rows = zip(self.index.entries, shares_NA, shares_NA.argmax(axis=1))
        return [Hit(entry.path, float(shares[best]), labels[int(best)]) for entry, shares, best in rows]


def notes_about(text: str) -> list[str]:
    """Return what a user should know about a query."""
    return [ABOUT_SIDES] if _SIDES.search(text) else []
