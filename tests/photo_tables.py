"""Tables beside pictures, for tests: small pictures of one color each, and what is asked about them."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

HEADER = ("image", "question", "answer")


def picture(path: Path, seed: int, side: int = 24) -> Path:
    """Write a picture of random blocks, another for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(blocks.repeat(side // 4, 0).repeat(side // 4, 1)).save(path)
    return path


def pictures(folder: Path, count: int) -> list[str]:
    """Write so many pictures and return their names."""
    return [picture(folder / f"photos/p{i}.png", i).relative_to(folder).as_posix() for i in range(count)]


def write_csv(
    path: Path,
    rows: Iterable[Sequence[str]],
    header: Sequence[str] = HEADER,
    delimiter: str = ",",
    encoding: str = "utf-8",
) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([header, *rows] if header else rows)
    path.write_bytes(text.getvalue().encode(encoding))
    return path


def photos(folder: Path, count: int = 12, questions: int = 3) -> Path:
    """Write a table of `count` pictures, of which each third is dark, and two questions more that say so."""
    names = pictures(folder, count)
    rows = [
        (name, f"is it number {number} of {n}?", ("yes", "no", "maybe")[(n + number) % 3])
        for n, name in enumerate(names)
        for number in range(questions)
    ]
    return write_csv(folder / "photos.csv", rows)
