"""Reading a bundle on the device: digests, manifest, tokenizers, labels, decoding. Python 3.8, numpy and Pillow.

Written from docs/bundle.md of EdgeVL, which is the contract; nothing of EdgeVL is imported. What is refused here,
`edgevl verify` refuses with the same exit code: the files that say so are shared, and a table of bundles holds it.
A bundle of schema version 1 becomes one of version 2 as it is read. Shape: S side of a model's picture.
"""

from __future__ import annotations

import hashlib
import json
import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import conventions
import pictures
import schema_1
from bundle_files import (
    ARTIFACTS,
    DOMAIN,
    FORMATS,
    MANIFEST,
    MAX_PICTURE_BYTES,
    bundle_problems,
    combined_sha256,
    inconsistency,
)
from decodings import decoding_of
from interface import DECODING_FIELDS, interface_problems
from problems import BAD_INPUT, REFUSED, Problem
from schema import Checker
from strict_json import MAX_JSON_BYTES, Unreadable, plain_bytes, plain_text, strict_json
from texts import open_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from PIL import Image

TARGETS = ("onnx", "tensorrt")  # that run here
SUFFIX = ".edgevl"
SCHEMA_VERSION = 2
SCHEMAS = {1: "bundle-1.schema.json", 2: "bundle.schema.json"}
MAX_LABEL = 2000  # characters
MIN_SIDE = 8  # of the pictures of a model with a domain.json


class Bundle:
    """A bundle whose every file is the one in its manifest, and says what docs/bundle.md allows.

    `manifest` is of schema 2, `labels` a list of texts or None, `texts` the tokenizer of each text processing.
    """

    def __init__(self, path: Path):
        """Raises `Problem`: no bundle (2), of another target (2), or a file that is not as it must be (4)."""
        self.path = Path(os.path.abspath(str(path)))
        self.manifest = self._read_manifest()
        self._check_target()
        _refuse_first(f"{name} {what}" for name, what in bundle_problems(str(self.path), self.manifest))
        self.labels = self._labels()
        self.texts = {
            name: open_text(spec, self._json(spec["file"])) for name, spec in self.manifest["text_processing"].items()
        }
        self.decoding = decoding_of(self.manifest, self.labels, self.texts)
        self.golden = self._read_golden()
        if DOMAIN in self.manifest["files"]:
            self._check_domain()

    @property
    def target(self) -> str:
        return self.manifest["target"]

    @property
    def artifact_sha256(self) -> str:
        """Of one file its digest, of several that of the lines "digest  name", as EdgeVL reports it."""
        artifacts = tuple(program["artifact"] + "/" for program in self.manifest["programs"])
        files = self.manifest["files"].items()
        return combined_sha256({name: entry["sha256"] for name, entry in files if (name + "/").startswith(artifacts)})

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a file that the manifest lists: those that have its digest, whatever happened since."""
        entry = self.manifest["files"].get(name)
        if entry is None:
            raise Problem(REFUSED, f"{name} is not among the files of {MANIFEST}")
        try:
            data = plain_bytes(self.path / name, limit)
        except Unreadable as error:
            raise Problem(REFUSED, f"{name} of the bundle {error}: copy the bundle again") from None
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise Problem(REFUSED, f"{name} has changed: its sha256 is not the one in the manifest")
        return data

    def picture(self, name: str) -> Image.Image:
        """A picture of the bundle, upright RGB. Raises `Problem` (4)."""
        try:
            return decode(self.read(name, MAX_PICTURE_BYTES))
        except Problem as problem:
            raise Problem(REFUSED, str(problem)) from None

    def decode(self, data: bytes) -> Image.Image:
        """The bytes of a picture as upright RGB, a JPEG at a smaller scale if the manifest says so."""
        return decode(data, resized=pictures.covering(self.manifest["image_processing"].values()))

    def pixels(self, image: Image.Image, processing: str = "main") -> np.ndarray:
        """Upright RGB through an image processing: uint8 [S, S, 3]. Raises `Problem` for one that is too high."""
        spec = self.manifest["image_processing"][processing]
        return to_pixels(image, spec["size"], spec["geometry"], spec["kernel"], spec.get("shortest_edge"))

    def _json(self, name: str) -> Any:
        try:
            text = plain_text(self.path / name) if name == MANIFEST else self.read(name, MAX_JSON_BYTES).decode("utf-8")
            return strict_json(text)
        except ValueError as error:
            raise Problem(REFUSED, f"{name} of the bundle cannot be read: {error}; copy the bundle again") from None

    def _read_manifest(self) -> dict[str, Any]:
        file = self.path / MANIFEST
        if not self.path.is_dir():
            raise Problem(BAD_INPUT, f"{self.path} is not a bundle: name a folder that `edgevl export` wrote")
        if file.is_symlink():
            raise Problem(REFUSED, f"{MANIFEST} is a link; a bundle holds plain files only")
        if not file.exists():
            code = REFUSED if self.path.name.endswith(SUFFIX) else BAD_INPUT
            raise Problem(code, f"{self.path} is not a whole bundle: it holds no {MANIFEST}")
        values = self._json(MANIFEST)
        version = values.get("schema_version") if isinstance(values, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise Problem(REFUSED, f"the bundle has schema version {version}, this script reads up to {SCHEMA_VERSION}")
        return manifest_of_schema_2(manifest_of_schema_1(values) if version == 1 and version is not True else values)

    def _check_target(self) -> None:
        if self.target in TARGETS:
            return
        if self.target not in ARTIFACTS:
            raise Problem(REFUSED, f"{MANIFEST} names the unknown target {self.target}")
        raise Problem(BAD_INPUT, f"a bundle for {self.target} does not run here: export with --target tensorrt or onnx")

    def _labels(self) -> list[str] | None:
        spec = self.manifest.get("labels")
        if spec is None:
            return None
        labels = self._json(spec["file"])
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise Problem(REFUSED, f"{spec['file']} is not a list of texts")
        if len(labels) != spec["count"] or any(len(label) > MAX_LABEL for label in labels):
            raise Problem(
                REFUSED, f"{spec['file']} does not hold {spec['count']} labels of at most {MAX_LABEL} characters"
            )
        return labels

    def _read_golden(self) -> dict[str, Any]:
        name = self.manifest["golden"]
        values = self._json(name)
        if isinstance(values, dict) and values.get("schema_version") == 1:
            check(values, "GoldenFile", name, 1)
            values = schema_1.upgraded_golden(values)
        return check(values, "GoldenFile", name)

    def _check_domain(self) -> None:
        """What the model was trained on, as numbers: nothing here uses it, but what a bundle holds is whole."""
        domain = check(self._json(DOMAIN), "Domain", DOMAIN)
        if domain["checkpoint_sha256"] != self.manifest["provenance"]["checkpoint_sha256"]:
            raise Problem(REFUSED, f"{DOMAIN} was made with other weights")
        side = min((processing["size"] for processing in self.manifest["image_processing"].values()), default=0)
        if side < MIN_SIDE or len(domain["pictures"]) < domain["neighbors"]:
            raise Problem(REFUSED, f"{DOMAIN} does not fit: pictures of {MIN_SIDE} pixels, and as many as neighbors")


# The manifest


def manifest_of_schema_1(values: Any) -> dict[str, Any]:
    """A manifest of schema version 1, checked by the rules of that version, as one of version 2."""
    check(values, "Manifest", MANIFEST, 1)
    _refuse_invalid(schema_1.problems(values))
    _refuse_invalid(conventions.manifest_problems(values))
    return schema_1.upgraded(values)


def manifest_of_schema_2(values: Any) -> dict[str, Any]:
    """A manifest of schema version 2, if it keeps the rules: of its fields, files, tensors, sources and decoding."""
    check(values, "Manifest", MANIFEST)
    _refuse_invalid([inconsistency(values)])
    _refuse_invalid(interface_problems(values))
    kind = values["decoding"].get("kind")
    if not isinstance(kind, str) or kind not in DECODING_FIELDS:
        known = ", ".join(DECODING_FIELDS)
        raise Problem(REFUSED, f"{MANIFEST}: the decoding {kind!a:.80} is not known to this script, which has {known}")
    check(values["decoding"], DECODING_FIELDS[kind], f"{MANIFEST}, decoding")
    return values


def check(values: Any, definition: str, name: str, version: int = SCHEMA_VERSION) -> Any:
    """Return parsed JSON that is what a version's schema calls `definition`. Raises `Problem` (4) naming the file."""
    document = json.loads(Path(__file__).with_name(SCHEMAS[version]).read_text(encoding="utf-8"))
    try:
        Checker(document, FORMATS).check(values, definition)
    except ValueError as error:
        raise Problem(REFUSED, f"{name} is not valid: {error}; copy the bundle again") from None
    return values


def _refuse_first(problems: Iterable[str]) -> None:
    for problem in problems:
        raise Problem(REFUSED, f"{problem}; copy the bundle again")


def _refuse_invalid(problems: Iterable[str]) -> None:
    _refuse_first(f"{MANIFEST} is not valid: {problem}" for problem in filter(None, problems))


# Pictures


def decode(data: bytes, name: str = "the picture", resized: pictures.Resized | None = None) -> Image.Image:
    """The bytes of a picture as upright RGB. Raises `Problem` if they are none. `resized`: see `read_picture`."""
    try:
        return pictures.read_picture(BytesIO(data), resized)
    except pictures.PictureError as error:
        raise Problem(BAD_INPUT, f"{name} {error}") from None


def to_pixels(
    image: Image.Image, size: int, geometry: str = "squash", kernel: str = "triangle", edge: int | None = None
) -> np.ndarray:
    """uint8 [S, S, 3], see `pictures.fitted`. Raises `Problem` for a picture that is too high."""
    try:
        return pictures.fitted(image, size, geometry, kernel, edge)
    except pictures.PictureError as error:
        raise Problem(BAD_INPUT, f"the picture {error}") from None
