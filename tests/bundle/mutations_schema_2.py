"""Damage to the JSON files of a bundle of schema 2, wherever they hold something. The other lists damage schema 1."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mutation_base import Mutation, forged
from mutations_json import ACTIONS, fuzz, places

BASES = ("onnx2", "split2")
UNTOUCHED = {"files", "audit", "versions"}  # damaged enough in schema 1: they are the same
MANIFESTS, GOLDEN = 100, 40  # mutations of each


def schema_2() -> Iterator[Mutation]:
    """Yield the same mutations every time."""
    for number in range(MANIFESTS):
        base = BASES[number % 2]
        yield Mutation(f"schema 2, manifest, {number}", base, lambda bundle, number=number: _manifest(bundle, number))
    for number in range(GOLDEN):
        name = f"schema 2, golden cases, {number}"
        yield forged(name, "onnx2", lambda bundle, number=number: _golden(bundle, number), "artifact")


def _manifest(bundle: Path, number: int) -> None:
    _damage(bundle / "manifest.json", number, lambda path: path[0] not in UNTOUCHED)


def _golden(bundle: Path, number: int) -> None:
    # Of the 167 values of a case only the first: the others are alike.
    _damage(bundle / "golden.json", number, lambda path: "data" not in path or path[-1] in ("data", 0))


def _damage(file: Path, number: int, wanted: Any) -> None:
    values, chance = json.loads(file.read_text("utf-8")), random.Random(number)
    path = chance.choice([path for path in places(values) if wanted(path)])
    fuzz(values, path, chance.choice(ACTIONS))
    file.write_text(json.dumps(values), "utf-8")
