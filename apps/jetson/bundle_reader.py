"""Reading a bundle on the device: digests, tokenizer, pixels, golden cases. Python 3.8, numpy and Pillow.

Written from docs/bundle.md of EdgeVL, which is the contract; nothing of EdgeVL is imported. What is refused here,
`edgevl verify` refuses with the same exit code: the files that say so are shared, and a table of bundles holds it.
Shapes: S side of the model's picture, T text tokens, A answers, B the artifact's fixed batch.
"""

from __future__ import annotations

import hashlib
import json
import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pictures
from bundle_files import (
    ARTIFACTS,
    DOMAIN,
    FORMATS,
    MANIFEST,
    MAX_PICTURE_BYTES,
    bundle_problems,
    combined_sha256,
    inconsistency,
    programs_of,
)
from conventions import manifest_problems
from schema import Checker
from strict_json import MAX_JSON_BYTES, Unreadable, plain_bytes, plain_text, strict_json
from wordpiece import PAD_ID, split_words, vocabulary_of, word_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from PIL import Image

BAD_INPUT, MISSING, REFUSED = 2, 3, 4  # exit codes, those of EdgeVL
TARGETS = ("onnx", "tensorrt")  # that run here
SUFFIX = ".edgevl"
SCHEMA_VERSION = 1
SCHEMA = Path(__file__).with_name("bundle.schema.json")
MAX_LABEL = 2000  # characters
MIN_SIDE = 8  # of the pictures of a model with a domain.json
SLACK = 2  # answers whose margin is below this many tolerances are not compared


def plain(text: str) -> str:
    """One line that no terminal obeys: whatever is not a character that shows is written out, as \\x1b."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in " ".join(text.split()))


class Problem(Exception):
    """What the user must hear, as one line that any terminal takes, with the exit code of the process."""

    def __init__(self, exit_code: int, message: str):
        super().__init__(plain(message)[:2000])
        self.exit_code = exit_code


class Bundle:
    """A bundle whose every file is the one in its manifest, and says what docs/bundle.md allows."""

    def __init__(self, path: Path):
        """Raises `Problem`: no bundle (2), of another target (2), or a file that is not as it must be (4)."""
        self.path = Path(os.path.abspath(str(path)))
        self._schema = Checker(json.loads(SCHEMA.read_text(encoding="utf-8")), FORMATS)
        self.manifest = self._read_manifest()
        self._check_target()
        _refuse_first(f"{name} {what}" for name, what in bundle_problems(str(self.path), self.manifest))
        _refuse_first(f"{MANIFEST}: {problem}" for problem in manifest_problems(self.manifest))
        self.size: int = self.manifest["preprocessing"]["size"]
        self.length: int = self.manifest["tokenizer"]["length"]
        self.labels = self._labels()
        self.vocabulary = self._vocabulary()
        self.golden = self._checked(self.manifest["golden"], "GoldenFile")
        if DOMAIN in self.manifest["files"]:
            self._check_domain()

    @property
    def target(self) -> str:
        return self.manifest["target"]

    @property
    def programs(self) -> list[dict[str, Any]]:
        """The artifacts in the order in which they run, each with `artifact`, `inputs`, `outputs`."""
        return programs_of(self.manifest)

    @property
    def artifact_sha256(self) -> str:
        """Of one file its digest, of several that of the lines "digest  name", as EdgeVL reports it."""
        artifact, files = self.manifest["artifact"], self.manifest["files"]
        parts = {name: entry["sha256"] for name, entry in files.items() if (name + "/").startswith(artifact + "/")}
        return combined_sha256(parts)

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

    def _json(self, name: str) -> Any:
        try:
            text = plain_text(self.path / name) if name == MANIFEST else self.read(name, MAX_JSON_BYTES).decode("utf-8")
            return strict_json(text)
        except ValueError as error:
            raise Problem(REFUSED, f"{name} of the bundle cannot be read: {error}; copy the bundle again") from None

    def _checked(self, name: str, definition: str) -> dict[str, Any]:
        values = self._json(name)
        try:
            self._schema.check(values, definition)
        except ValueError as error:
            raise Problem(REFUSED, f"{name} is not valid: {error}; copy the bundle again") from None
        return values

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
            raise Problem(REFUSED, f"the bundle has schema version {version}, this script reads {SCHEMA_VERSION}")
        manifest = self._checked(MANIFEST, "Manifest")
        _refuse_first(f"{MANIFEST} is not valid: {problem}" for problem in filter(None, [inconsistency(manifest)]))
        return manifest

    def _check_target(self) -> None:
        if self.target in TARGETS:
            return
        if self.target not in ARTIFACTS:
            raise Problem(REFUSED, f"{MANIFEST} names the unknown target {self.target}")
        raise Problem(BAD_INPUT, f"a bundle for {self.target} does not run here: export with --target tensorrt or onnx")

    def _labels(self) -> list[str]:
        spec = self.manifest["labels"]
        labels = self._json(spec["file"])
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise Problem(REFUSED, f"{spec['file']} is not a list of texts")
        if len(labels) != spec["count"] or any(len(label) > MAX_LABEL for label in labels):
            raise Problem(
                REFUSED, f"{spec['file']} does not hold {spec['count']} labels of at most {MAX_LABEL} characters"
            )
        return labels

    def _vocabulary(self) -> dict[str, int]:
        spec = self.manifest["tokenizer"]
        try:
            vocabulary = vocabulary_of(self._json(spec["file"]))
        except ValueError as error:
            raise Problem(REFUSED, f"{spec['file']} cannot be read as a tokenizer: {error}") from None
        if len(vocabulary) != spec["vocab_size"]:
            raise Problem(REFUSED, f"{spec['file']} has {len(vocabulary)} pieces, {MANIFEST} says {spec['vocab_size']}")
        return vocabulary

    def _check_domain(self) -> None:
        """What the model was trained on, as numbers: nothing here uses it, but what a bundle holds is whole."""
        domain = self._checked(DOMAIN, "Domain")
        if domain["checkpoint_sha256"] != self.manifest["provenance"]["checkpoint_sha256"]:
            raise Problem(REFUSED, f"{DOMAIN} was made with other weights")
        if self.size < MIN_SIDE or len(domain["pictures"]) < domain["neighbors"]:
            raise Problem(REFUSED, f"{DOMAIN} does not fit: pictures of {MIN_SIDE} pixels, and as many as neighbors")

    def encode(self, question: str) -> np.ndarray:
        """Token ids int32 [T]. Raises `Problem` for a question without a single piece."""
        pieces = [index for word in split_words(question) for index in word_pieces(word, self.vocabulary)]
        if not pieces:
            raise Problem(BAD_INPUT, "the question is empty")
        framed = [self.vocabulary["[CLS]"], *pieces[: self.length - 2], self.vocabulary["[SEP]"]]
        return np.array(framed + [PAD_ID] * (self.length - len(framed)), np.int32)

    def check_golden(self) -> None:
        """Hold every golden case against its own picture, question and answer, before anything of the bundle runs.

        Raises `Problem` (4) with the first case that fails.
        """
        for case in self.golden["cases"]:
            self._prepare(case)
            wanted = case["logits"]
            if len(wanted) != len(self.labels) or self.labels[int(np.argmax(wanted))] != case["answer"]:
                raise Problem(REFUSED, f"golden case {case['image']}: its answer is not the label of its largest logit")

    def golden_picture(self, case: dict[str, Any]) -> Image.Image:
        """The upright RGB picture of a golden case."""
        try:
            return decode(self.read(case["image"], MAX_PICTURE_BYTES))
        except Problem as problem:
            raise Problem(REFUSED, f"golden case {case['image']}: {problem}") from None

    def _prepare(self, case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """(pixels [S, S, 3], ids [T]) of a golden case, which are the recorded ones."""
        pixels = to_pixels(self.golden_picture(case), self.size)
        if hashlib.sha256(pixels.tobytes()).hexdigest() != case["pixels_sha256"]:
            raise Problem(REFUSED, f"golden case {case['image']}: other pixels than recorded (Pillow's resize)")
        try:
            ids = self.encode(case["question"])
        except Problem as problem:
            raise Problem(REFUSED, f"golden case {case['image']}: {problem}") from None
        if ids.tolist() != case["input_ids"]:
            raise Problem(REFUSED, f"golden case {case['question']!r}: other token ids than recorded")
        return pixels, ids

    def replay(self, run: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> int:
        """Replay every golden case; `run(pixels [S, S, 3], ids [T])` gives logits [A]. Returns how many there are.

        Raises `Problem` (4) with the first case that fails: the pixels, the token ids, a logit or the answer.
        """
        for case in self.golden["cases"]:
            problem = self._compare(case, run(*self._prepare(case)), self.golden["tolerance"])
            if problem:
                raise Problem(REFUSED, f"golden case {case['image']}: {problem}")
        return len(self.golden["cases"])

    def _compare(self, case: dict[str, Any], logits: np.ndarray, tolerance: float) -> str:
        wanted = np.array(case["logits"])
        if logits.shape != wanted.shape:
            return f"{logits.size} logits, {wanted.size} recorded"
        worst = float(np.abs(logits.astype(np.float64) - wanted).max())
        if not worst <= tolerance:  # a NaN is not within it
            return f"a logit differs by {worst:.4g}, at most {tolerance:.4g} is allowed"
        answer = self.labels[int(logits.argmax())]
        if answer != case["answer"] and case["margin"] > SLACK * tolerance:
            return f'the answer is "{answer}", recorded is "{case["answer"]}"'
        return ""


def _refuse_first(problems: Iterable[str]) -> None:
    for problem in problems:
        raise Problem(REFUSED, f"{problem}; copy the bundle again")


# Pictures


def decode(data: bytes, name: str = "the picture") -> Image.Image:
    """The bytes of a picture as upright RGB. Raises `Problem` if they are none."""
    try:
        return pictures.read_picture(BytesIO(data))
    except pictures.PictureError as error:
        raise Problem(BAD_INPUT, f"{name} {error}") from None


def to_pixels(image: Image.Image, size: int) -> np.ndarray:
    """uint8 [S, S, 3]. Raises `Problem` for a picture that is too high."""
    try:
        return pictures.squash(image, size)
    except pictures.PictureError as error:
        raise Problem(BAD_INPUT, f"the picture {error}") from None
