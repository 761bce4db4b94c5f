"""Reading a bundle on the device: digests, tokenizer, pixels, golden cases. Python 3.8, numpy and Pillow.

Written from docs/bundle.md of EdgeVL, which is the contract; nothing of EdgeVL is imported.
Shapes: S side of the model's picture, T text tokens, A answers, B the artifact's fixed batch.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pictures
from bundle_files import file_problems, programs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

BAD_INPUT, MISSING, REFUSED = 2, 3, 4  # exit codes, those of EdgeVL
SLACK = 2  # answers whose margin is below this many tolerances are not compared


def plain(text: str) -> str:
    """One line that no terminal obeys: whatever is not a character that shows is written out, as \\x1b."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in " ".join(text.split()))


class Problem(Exception):
    """What the user must hear, as one line, with the exit code of the process."""

    def __init__(self, exit_code: int, message: str):
        super().__init__(plain(message))
        self.exit_code = exit_code


class Bundle:
    """A bundle whose every file is the one in its manifest."""

    def __init__(self, path: Path):
        """Raises `Problem`: no bundle (2), of another target (2), or a file that is not the manifest's (4)."""
        self.path = Path(os.path.abspath(str(path)))
        self.manifest = self._read_manifest()
        self._check_digests()
        self.labels: list[str] = self.json(self.manifest["labels"]["file"])
        self.vocabulary: dict[str, int] = self.json(self.manifest["tokenizer"]["file"])["model"]["vocab"]
        self.size: int = self.manifest["preprocessing"]["size"]
        self.length: int = self.manifest["tokenizer"]["length"]

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
        if len(parts) == 1:
            return next(iter(parts.values()))
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(parts.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def json(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Problem(REFUSED, f"{name} of the bundle cannot be read ({error}): copy it again") from None

    def _read_manifest(self) -> dict[str, Any]:
        if not (self.path / "manifest.json").is_file():
            raise Problem(BAD_INPUT, f"{self.path} is not a bundle: name a folder that `edgevl export` wrote")
        manifest = self.json("manifest.json")
        try:
            version, target, files = manifest["schema_version"], manifest["target"], manifest["files"]
            read = [manifest["labels"]["file"], manifest["tokenizer"]["file"], manifest["golden"]]
            names = [*files, *(program["artifact"] for program in programs_of(manifest))]
            problems = list(file_problems(manifest))
        except (KeyError, TypeError, AttributeError) as error:
            raise Problem(REFUSED, f"manifest.json is damaged ({error!r}): copy the bundle again") from None
        if version != 1:
            raise Problem(BAD_INPUT, f"the bundle has schema version {version}, this script reads 1: copy a newer one")
        if target not in ("onnx", "tensorrt"):
            raise Problem(BAD_INPUT, f"a bundle for {target} does not run here: export with --target tensorrt or onnx")
        for name in names:
            if name.startswith(("/", "~")) or "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
                raise Problem(REFUSED, f"manifest.json names {name!r}, which is not inside the bundle")
        for name in read:
            if name not in files:
                raise Problem(REFUSED, f"manifest.json names {name!r}, which is not among its files")
        for name, what in problems:
            raise Problem(REFUSED, f"{name} {what}")
        return manifest

    def _check_digests(self) -> None:
        listed, found = self.manifest["files"], dict(_walk(str(self.path)))
        extra = sorted(found.keys() - listed.keys() - {"manifest.json", "README.md"})
        if extra:
            raise Problem(REFUSED, f"{extra[0]} is not in the manifest: copy the bundle again")
        for name, entry in listed.items():
            if found.get(name) != "file":
                raise Problem(REFUSED, f"{name} is {'a link' if name in found else 'missing'}: copy the bundle again")
            data = (self.path / name).read_bytes()
            if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
                raise Problem(REFUSED, f"{name} has changed: its sha256 is not the manifest's; copy the bundle again")

    def encode(self, question: str) -> np.ndarray:
        """Token ids int32 [T]. Raises `Problem` for a question without a single piece."""
        pieces = [index for word in split_words(question) for index in word_pieces(word, self.vocabulary)]
        if not pieces:
            raise Problem(BAD_INPUT, "the question is empty")
        framed = [self.vocabulary["[CLS]"], *pieces[: self.length - 2], self.vocabulary["[SEP]"]]
        return np.array(framed + [0] * (self.length - len(framed)), np.int32)

    def golden_cases(self) -> tuple[float, list[dict[str, Any]]]:
        """(tolerance of a logit, cases)"""
        golden = self.json(self.manifest["golden"])
        return float(golden["tolerance"]), golden["cases"]

    def replay(self, run: Any) -> int:
        """Replay every golden case; `run(pixels [S, S, 3], ids [T])` gives logits [A]. Returns how many there are.

        Raises `Problem` (4) with the first case that fails: the pixels, the token ids, a logit or the answer.
        """
        tolerance, cases = self.golden_cases()
        for case in cases:
            if case["image"] not in self.manifest["files"]:
                raise Problem(REFUSED, f"golden case {case['image']!r} is not among the files of manifest.json")
            pixels = to_pixels(decode((self.path / case["image"]).read_bytes()), self.size)
            if hashlib.sha256(pixels.tobytes()).hexdigest() != case["pixels_sha256"]:
                raise Problem(REFUSED, f"golden case {case['image']}: other pixels than recorded (Pillow's resize)")
            ids = self.encode(case["question"])
            if ids.tolist() != case["input_ids"]:
                raise Problem(REFUSED, f"golden case {case['question']!r}: other token ids than recorded")
            problem = self._compare(case, run(pixels, ids), tolerance)
            if problem:
                raise Problem(REFUSED, f"golden case {case['image']}: {problem}")
        return len(cases)

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


def _walk(folder: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(relative path, "file" or "link"); a link is not followed, a .DS_Store not seen."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, prefix + entry.name + "/")
        elif entry.name != ".DS_Store":
            yield prefix + entry.name, "file" if entry.is_file(follow_symlinks=False) else "link"


# Text. A code point newer than Unicode 8 may be judged otherwise than by EdgeVL, whose sets are fixed.


def split_words(text: str) -> list[str]:
    """Clean, part CJK, drop accents, lower, split at blanks and punctuation."""
    spaced = []
    for char in text:
        kind = unicodedata.category(char)
        if char in "\t\n\r" or kind == "Zs" or char in "\u2028\u2029":
            spaced.append(" ")
        elif kind not in ("Cc", "Cf", "Co") and char != "\ufffd":
            spaced.append(f" {char} " if _is_cjk(ord(char)) else char)
    plain = [c for c in unicodedata.normalize("NFD", "".join(spaced)) if unicodedata.category(c) != "Mn"]
    lower = "".join(c.lower() for c in plain)
    return "".join(f" {c} " if _is_punctuation(c) else c for c in lower).split(" ")


def _is_cjk(point: int) -> bool:
    blocks = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B81F),
              (0x2B920, 0x2CEAF), (0x2F800, 0x2FA1F))  # fmt: skip
    return any(low <= point <= high for low, high in blocks)


def _is_punctuation(char: str) -> bool:
    symbol = "!" <= char <= "~" and not char.isalnum()  # of ASCII, also those that Unicode calls symbols: $ + < = > ^
    return symbol or unicodedata.category(char)[0] == "P"


def word_pieces(word: str, vocabulary: dict[str, int]) -> list[int]:
    """The longest known prefix, again and again; [UNK] for the whole word if one part is unknown."""
    found: list[int] = []
    start = 0
    while start < len(word):
        prefix = "##" if start else ""
        ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in vocabulary)
        end = next(ends, None)
        if end is None or len(word) > 100:
            return [vocabulary["[UNK]"]]
        found.append(vocabulary[prefix + word[start:end]])
        start = end
    return found


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
