"""Pictures of a folder by words: the best for a text, or the best label for each picture.

Shapes: N pictures, E channels of an embedding, A labels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgevl.bundle.folder import Bundle, is_bundle
from edgevl.contracts import Query
from edgevl.decodings.rank import ABOUT_SIDES, SIDES, Rank
from edgevl.errors import InputError
from edgevl.inputs.preprocess import load_image
from edgevl.opened import Opened
from edgevl.progress import Progress
from edgevl.search.folder import Changes, update_index
from edgevl.search.index import Index


@dataclass(frozen=True)
class Hit:
    """A picture that was found. score: product of the embeddings, -1 to 1; of a label its share, 0 to 1."""

    path: str  # relative to the folder, with /
    score: float
    label: str | None = None


class Embedder:
    """A model whose decoding is `rank`, as the search uses it."""

    def __init__(self, model: Opened, sha256: str, name: str = ""):
        """Take an opened model and the digest of its weights or artifacts. Raises `InputError` for one of another kind.

        name: what an index calls it; default: the model's own.
        """
        decoding = model.decoder
        if not isinstance(decoding, Rank):
            raise InputError(
                f"the model {model.name} is for {model.task_name}: a search needs one that embeds pictures and texts, "
                "such as the embedded nano-retrieval"
            )
        assert model.runner, "a model for a search is opened to run"
        self.model, self.decoding, self.runner = model, decoding, model.runner
        self.name, self._sha256 = name or model.name, sha256

    @classmethod
    def load(cls, source: str | Path) -> "Embedder":
        """Open a bundle or a model folder. Raises as `edgevl.predict.Answerer.load` does."""
        if is_bundle(source):
            bundle = Bundle.open(source).checked()
            manifest = bundle.manifest
            name = f"{manifest.name} ({manifest.target}, {manifest.precision})"
            return cls(bundle.opened(remember=0), f"{manifest.target}:{bundle.artifact_sha256}", name)
        from edgevl.models.kinds import open_deployable
        from edgevl.opened import eager

        model = open_deployable(source)
        return cls(eager(model, fill=False), model.sha256)

    @property
    def identity(self) -> str:
        """The digest of everything that decides the embedding of a picture."""
        processings = sorted((name, each.model_dump_json()) for name, each in self.model.images.items())
        parts = [self._sha256, self.decoding.fields.picture, *(f"{a}={b}" for a, b in processings)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def open_picture(self, data: bytes) -> Image.Image:
        """Decode a file as the model's image processings say. Raises `InputError` for what is none."""
        return load_image(data, self.model.resized)

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
        if not self.index.entries:
            return []
        shares_NA = self.embedder.decoding.label_shares(self.embedder.runner, self.index.vectors_NE, labels)
        rows = zip(self.index.entries, shares_NA, shares_NA.argmax(axis=1))
        return [Hit(entry.path, float(shares[best]), labels[int(best)]) for entry, shares, best in rows]


def notes_about(text: str) -> list[str]:
    """Return what a user should know about a query."""
    return [ABOUT_SIDES] if SIDES.search(text) else []
