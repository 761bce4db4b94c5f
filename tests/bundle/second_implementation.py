"""A reader of bundles written from docs/bundle.md alone: nothing of EdgeVL, no Pillow, no `tokenizers`.

NumPy holds the arrays that ONNX Runtime takes; all arithmetic is plain Python. The sets of code points are read from
the document itself. Files of pictures are read in `second_pictures.py`.
"""

import hashlib
import json
import math
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from second_pictures import Rows, read_picture

DOCUMENT = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text(encoding="utf-8")


# Pictures


def weights(n: int, m: int) -> list[tuple[int, list[int]]]:
    scale = n / m
    support = max(scale, 1)
    found = []
    for out in range(m):
        center = (out + 0.5) * scale
        first = max(int(center - support + 0.5), 0)
        last = min(int(center + support + 0.5), n)
        w = [max(0, 1 - abs((x - center + 0.5) * (1 / support))) for x in range(first, last)]
        total = 0.0
        for value in w:
            total += value
        found.append((first, [int(0.5 + value / total * 2**22) for value in w]))
    return found


def resize_line(line: list[tuple[int, ...]], kernel: list[tuple[int, list[int]]]) -> list[tuple[int, ...]]:
    result = []
    for first, k in kernel:
        sums = [2**21] * 3
        for offset, factor in enumerate(k):
            for channel in range(3):
                sums[channel] += line[first + offset][channel] * factor
        result.append(tuple(min(max(value >> 22, 0), 255) for value in sums))
    return result


def resize(rows: Rows, size: int) -> Rows:
    """Horizontal pass over all rows, then the vertical one. A pass between equal lengths changes nothing."""
    if len(rows[0]) != size:
        kernel = weights(len(rows[0]), size)
        rows = [resize_line(row, kernel) for row in rows]
    if len(rows) != size:
        kernel = weights(len(rows), size)
        columns = [resize_line(list(column), kernel) for column in zip(*rows, strict=True)]
        rows = [list(row) for row in zip(*columns, strict=True)]
    return rows


# Text


def code_points(name: str) -> set[int]:
    """A set of the appendix."""
    found = re.search(rf"\*{name}\*\n\n```\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found, name
    ranges = [part.split("-") for part in found.group(1).split()]
    return {point for part in ranges for point in range(int(part[0], 16), int(part[-1], 16) + 1)}


REMOVED, BLANK, CJK, MARKS, PUNCTUATION = map(code_points, ("removed", "blank", "cjk", "marks", "punctuation"))


def normalize(text: str) -> str:
    cleaned = "".join(" " if ord(c) in BLANK else c for c in text if ord(c) not in REMOVED)
    spaced = "".join(f" {c} " if ord(c) in CJK else c for c in cleaned)
    plain = "".join(c for c in unicodedata.normalize("NFD", spaced) if ord(c) not in MARKS)
    return "".join(c.lower() for c in plain)


def words(text: str) -> list[str]:
    spaced = "".join(f" {c} " if ord(c) in PUNCTUATION else c for c in normalize(text))
    return [word for word in spaced.split(" ") if word]


def pieces(word: str, vocabulary: dict[str, int]) -> list[int]:
    found, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in vocabulary)
        end = next(ends, None)
        if end is None or len(word) > 100:
            return [vocabulary["[UNK]"]]
        found.append(vocabulary[prefix + word[start:end]])
        start = end
    return found


def encode(question: str, vocabulary: dict[str, int], length: int) -> list[int]:
    found = [piece for word in words(question) for piece in pieces(word, vocabulary)][: length - 2]
    if not found:
        raise ValueError("a question without a single piece")
    ids = [vocabulary["[CLS]"], *found, vocabulary["[SEP]"]]
    return ids + [0] * (length - len(ids))


# The domain


def halve(rows: Rows) -> Rows:
    return [
        [
            tuple(sum(rows[2 * y + i][2 * x + j][channel] for i in (0, 1) for j in (0, 1)) for channel in range(3))
            for x in range(len(rows[0]) // 2)
        ]
        for y in range(len(rows) // 2)
    ]


def steps(rows: Rows) -> list[int]:
    width, height = len(rows[0]), len(rows)
    right = [(rows[y][x], rows[y][x + 1]) for y in range(height) for x in range(width - 1)]
    down = [(rows[y][x], rows[y + 1][x]) for y in range(height - 1) for x in range(width)]
    return [max(abs(a - b) for a, b in zip(*pair)) for pair in right + down]


def shares(values: list[int], edges: list[int], factor: int) -> list[int]:
    reached = [sum(value >= edge * factor for edge in edges) for value in values]
    counts = [reached.count(k) for k in range(len(edges) + 1)]
    return [math.floor(255 * math.sqrt(count / len(values)) + 0.5) for count in counts]


def domain_numbers(pixels: Rows) -> list[int]:
    half = halve(pixels)
    flat = [pixel for row in half for pixel in row]
    return [
        *shares(steps(half), [1, 2, 5, 12, 30, 70], 4),
        *shares(steps(halve(half)), [1, 2, 5, 12, 30, 70], 16),
        *shares([sum(pixel) for pixel in flat], [32, 64, 96, 128, 160, 192, 224], 12),
        *shares([max(pixel) - min(pixel) for pixel in flat], [8, 24, 48, 96, 150], 4),
    ]


def domain_score(domain: dict[str, Any], pixels: Rows) -> float:
    own, found = domain_numbers(pixels), []
    for picture in domain["pictures"]:
        off = [(a - b) / spread for a, b, spread in zip(own, bytes.fromhex(picture), domain["spread"], strict=True)]
        found.append(math.sqrt(sum(value * value for value in off)))
    return sorted(found)[domain["neighbors"] - 1] / domain["picture_limit"]


def domain_confidence(domain: dict[str, Any], logits: list[float]) -> float:
    scaled = [math.exp((value - max(logits)) / domain["temperature"]) for value in logits]
    return max(scaled) / sum(scaled)


def strange_words(domain: dict[str, Any], question: str, vocabulary: dict[str, int]) -> list[str]:
    found = []
    for word in words(question):
        own = pieces(word, vocabulary)
        letter = len(word) == 1 and word in "abcdefghijklmnopqrstuvwxyz0123456789"
        if len(own) > 1 or own == [vocabulary["[UNK]"]] or (letter and word not in domain["characters"]):
            found.append(word)
    return found


# The bundle


class SecondBundle:
    """A bundle of the target `onnx`, opened as the document says."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        assert self.manifest["schema_version"] == 1
        for name, entry in self.manifest["files"].items():
            data = (folder / name).read_bytes()
            assert (hashlib.sha256(data).hexdigest(), len(data)) == (entry["sha256"], entry["bytes"]), name
        self.labels = self._json(self.manifest["labels"]["file"])
        self.vocabulary = self._json(self.manifest["tokenizer"]["file"])["model"]["vocab"]
        assert len(self.labels) == self.manifest["labels"]["count"]
        assert sorted(self.vocabulary.values()) == list(range(self.manifest["tokenizer"]["vocab_size"]))

    def _json(self, name: str):
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def logits(self, image: np.ndarray, ids: np.ndarray) -> list[float]:
        """Run one sample through each program: repeated to the batch, the first row kept."""
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when the library is loaded
        import onnxruntime

        batch = self.manifest["inputs"][0]["shape"][0]
        values: dict[str, Any] = {"image": np.repeat(image, batch, axis=0), "input_ids": np.repeat(ids, batch, axis=0)}
        for program in self.manifest["programs"] or [self.manifest]:
            session = onnxruntime.InferenceSession(str(self.folder / program["artifact"]))
            feeds = {spec["name"]: values[spec["name"]] for spec in program["inputs"]}
            values[program["outputs"][0]["name"]] = session.run(None, feeds)[0]
        return [float(value) for value in values["logits"][0]]

    def replay(self) -> int:
        """Replay every golden case; returns how many."""
        golden, length = self._json(self.manifest["golden"]), self.manifest["tokenizer"]["length"]
        for case in golden["cases"]:
            rows = resize(
                read_picture((self.folder / case["image"]).read_bytes()), self.manifest["preprocessing"]["size"]
            )
            flat = bytes(value for row in rows for pixel in row for value in pixel)
            assert hashlib.sha256(flat).hexdigest() == case["pixels_sha256"], case["image"]
            ids = encode(case["question"], self.vocabulary, length)
            assert ids == case["input_ids"], case["question"]
            image = np.array(rows, np.uint8)[None]
            logits = self.logits(image, np.array([ids], np.int32))
            assert len(logits) == len(self.labels) == len(case["logits"])
            differences = [abs(a - b) for a, b in zip(logits, case["logits"])]
            assert all(difference <= golden["tolerance"] for difference in differences), max(differences)
            answer = self.labels[logits.index(max(logits))]
            assert answer == case["answer"] or case["margin"] <= 2 * golden["tolerance"], case["image"]
        return len(golden["cases"])
