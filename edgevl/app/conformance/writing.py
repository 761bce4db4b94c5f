"""Writes the suite: pictures, bundles, cases, and the list of them all."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from edgevl.app.conformance import LIST
from edgevl.app.conformance.bundles import nano_bundles, small_bundles
from edgevl.app.conformance.cases import Suite, cases_of, write_picture
from edgevl.app.conformance.frames import write_frames
from edgevl.app.conformance.hostile import hostile_bundles
from edgevl.app.conformance.pictures import every_picture
from edgevl.app.conformance.texts import every_text
from edgevl.atomic import Kind, atomic_folder, check_destination
from edgevl.progress import Progress
from edgevl.quantize import require_torchao

SUITE = Kind("conformance suite", LIST, "FOLDER/conformance")
SPOILED = ("asked", "bytes")  # the bundles that hostile ones are made from


def write(out: Path, only: str | None, force: bool, progress: Progress) -> tuple[Path, dict[str, int]]:
    """Write the suite; see `edgevl.app.conformance.write_conformance`."""
    check_destination(out, force, SUITE)
    if only is None:
        require_torchao()
    with atomic_folder(out, force, SUITE) as folder:
        values = _written(folder, only, progress)
        (folder / LIST).write_text(_listed(values), encoding="utf-8", newline="\n")
        frames = write_frames(folder)
    return out, {**Counter(case["kind"] for case in values["cases"]), "frame": frames}


def _written(folder: Path, only: str | None, progress: Progress) -> dict[str, Any]:
    suite = Suite(folder, {picture.name: picture for picture in every_picture()}, every_text())
    pictures = {name: write_picture(suite, picture) for name, picture in suite.pictures.items()}
    places = folder / "bundles"
    places.mkdir()
    makers = [*small_bundles(places), *(() if only else nano_bundles(places))]
    bundles, cases = {}, []
    for number, (name, make) in enumerate(makers):
        progress(number, len(makers), name)
        path = make()
        bundles[name] = {"path": path.relative_to(folder).as_posix()}
        cases += cases_of(suite, name, path)
    cases += hostile_bundles(folder, *(places / f"{name}.edgevl" for name in SPOILED))
    progress(len(makers), len(makers), "done")
    return {"version": 1, "bundles": bundles, "pictures": pictures, "cases": cases}


def _listed(values: dict[str, Any]) -> str:
    """Return JSON with a line for each case."""
    parts = [f'"cases": [\n{_lines(values["cases"])}\n]']
    parts = [f'"{key}": {json.dumps(values[key], indent=1)}' for key in ("version", "bundles", "pictures")] + parts
    return "{" + ",\n ".join(parts) + "}\n"


def _lines(cases: list[dict[str, Any]]) -> str:
    return ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
