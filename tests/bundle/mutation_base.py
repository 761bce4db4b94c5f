"""Two hundred and more ways to damage a bundle: seeded, distinct, each a function that changes a copy in place.

Beside the bundle lies `outside/`, which holds what an attacker would like to have read: files that would do in place of
the bundle's own, with a canary in them.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevl.bundle.folder import list_files

CANARY = "canary-7f3e"  # in every file outside; it must never show
Key = str | int
BASES = ("onnx", "coreml", "split")


@dataclass(frozen=True)
class Mutation:
    """One kind of damage.

    `change` gets the folder of a bundle. `kind` "refused" must be refused, or named by inspect; of the others,
    test_bundle_fuzz lets `verify` pass those that change nothing that could be proved or that measure as good.
    """

    name: str
    base: str  # which bundle is changed
    change: Callable[[Path], object]
    kind: str = ""


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    values = json.loads(path.read_text("utf-8"))
    result = change(values)
    path.write_text(json.dumps(values if result is None else result), "utf-8")


def forge(bundle: Path) -> None:
    """Make the digests of the manifest those of the files, as far as they can be read."""
    files = {name: entry.model_dump() for name, entry in list_files(bundle).items()}
    edit_json(bundle / "manifest.json", lambda values: values.update(files=files))


def forged(name: str, base: str, change: Callable[[Path], object], kind: str = "") -> Mutation:
    """A change behind digests that fit, so that what reads the file must notice."""

    def both(bundle: Path) -> None:
        change(bundle)
        forge(bundle)

    return Mutation(f"{name}, digests forged", base, both, kind)


def bytes_of(file: str, make: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda bundle: (bundle / file).write_bytes(make((bundle / file).read_bytes()))


def parent_of(value: Any, path: tuple[Key, ...]) -> Any:
    """The object or list that holds what is at `path`."""
    for key in path[:-1]:
        value = value[key]
    return value
