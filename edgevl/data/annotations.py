"""Boxes that a detector found in pictures without annotation: written by `edgevl data annotate`, read by pretraining.

A JSON Lines file. The first line says where it comes from (`data`, `seed`, `size`, `detector`, `classes`, `attributes`
…), each other one holds the objects of a scene, in order: `{"index": 0, "objects": [{"category", "box", "score",
"color", "size"}]}`, boxes in pixels as in `edgevl data scenes`.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgevl.atomic import write_atomically
from edgevl.data import open_scenes
from edgevl.data.scenes import CATEGORIES, COLORS, GROUP_OF, SIZES, Scene, SceneObject
from edgevl.errors import InputError
from edgevl.limits import check_real, shown
from edgevl.progress import Progress
from edgevl.reading import MAX_RESULTS_BYTES, read_text, strict_json
from edgevl.regions.cache import BATCH, find_regions
from edgevl.regions.detector import LoadedDetector, Regions

MAX_OBJECTS = 8  # of a picture, best first


def annotate(
    loaded: LoadedDetector,
    data: str,
    count: int,
    out: Path,
    seed: int = 0,
    threshold: float = 0.5,
    progress: Progress | None = None,
) -> Path:
    """Write what the detector finds, with a score of at least `threshold`, in the first `count` scenes of `data`.

    Only the pictures are looked at. Raises `InputError` for unknown data or a file that cannot be written.
    """
    scenes = open_scenes(data, seed=seed, size=loaded.config.image_size)
    head = {"data": data, "seed": seed, "size": loaded.config.image_size, "count": count, "threshold": threshold}
    head |= {"detector": loaded.sha256, "classes": loaded.config.classes, "attributes": loaded.config.attributes}
    lines = [json.dumps(head)]
    for start in range(0, count, BATCH):
        indices = range(start, min(start + BATCH, count))
        found = find_regions(loaded, scenes, indices, MAX_OBJECTS)
        for row, index in enumerate(indices):
            lines.append(json.dumps({"index": index, "objects": [*_objects(loaded, found, row, threshold)]}))
        if progress:
            progress(indices.stop, count, f"annotating {data}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, "\n".join(lines) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None
    return out


def _objects(loaded: LoadedDetector, found: Regions, row: int, threshold: float) -> Iterator[dict[str, Any]]:
    config = loaded.config
    for place, score in enumerate(found.scores[row].tolist()):
        if score >= threshold:
            attributes = {name: config.attributes[name][ids[row, place]] for name, ids in found.attributes.items()}
            box = [round(side * config.image_size, 2) for side in found.boxes[row, place].tolist()]
            category = config.classes[int(found.classes[row, place])]
            yield {"category": category, "box": box, "score": round(score, 4), **attributes}


class Annotations:
    """The objects of each scene as a detector saw them, read from a file of `annotate`."""

    def __init__(self, path: Path | str, data: str, seed: int, count: int):
        """`data`, `seed`, `count`: the scenes that are asked for. Raises `InputError` when the file is not for them."""
        self.path = Path(path)
        head, self._lines = _read(self.path)
        found = head.get("data"), head.get("seed")
        if found != (data, seed):
            raise InputError(
                f"{path} annotates {found[0]} with seed {found[1]}, the recipe trains on {data} with {seed}"
            )
        if head["classes"] != list(CATEGORIES) or head["attributes"] != {"color": list(COLORS), "size": list(SIZES)}:
            raise InputError(f"{path} was made by a detector of other classes or attributes than those of {data}")
        if len(self._lines) < count:
            raise InputError(
                f"{path} annotates {len(self._lines)} scenes, the recipe sees {count}: "
                f"run `edgevl data annotate {data} --count {count}`, or lower steps or batch_size"
            )
        self._size = head["size"]
        for number, line in enumerate(self._lines, start=2):
            for item in line["objects"]:
                _check_object(item, f"{path}: line {number}")

    def scene(self, scene: Scene) -> Scene:
        """The same picture with the objects of the file for its own. Its texts would be about them: do not ask it."""
        scale = scene.image.shape[0] / self._size
        objects = self._lines[scene.index]["objects"]
        owner = np.full(scene.owner.shape, -1, np.int8)
        for place in reversed(range(len(objects))):  # the best lies on top
            owner[inside(objects[place]["box"], scale, len(owner))] = place
        made = tuple(_scene_object(item, scale, owner == place) for place, item in enumerate(objects))
        return dataclasses.replace(scene, objects=made, owner=owner)


def inside(box: list[float], scale: float, side: int) -> np.ndarray:
    """Pixels of the ellipse in a box, bool [side, side]. A box has corners, a thing has few (docs/regions.md)."""
    x0, y0, x1, y1 = (value * scale for value in box)
    steps = np.arange(side) + 0.5
    across = (steps - (x0 + x1) / 2) / max((x1 - x0) / 2, 0.5)
    down = (steps - (y0 + y1) / 2) / max((y1 - y0) / 2, 0.5)
    return across[None] ** 2 + down[:, None] ** 2 < 1


def _scene_object(item: dict[str, Any], scale: float, mask: np.ndarray) -> SceneObject:
    category, color = item["category"], item["color"]
    x0, y0, x1, y1 = (value * scale for value in item["box"])
    ids = CATEGORIES.index(category), COLORS.index(color)
    return SceneObject(category, ids[0], GROUP_OF[category], color, ids[1], item["size"], (x0, y0, x1, y1), mask)


def _read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The first line of a file of `annotate`, and a line for each scene. Raises `InputError` for what is not one."""
    if not path.is_file():
        raise InputError(f"no annotations at {path}: make them with `edgevl data annotate`")
    lines = []
    for number, line in enumerate(read_text(path, MAX_RESULTS_BYTES).splitlines(), start=1):
        try:
            lines.append(strict_json(line))
            _check_line(lines[-1], number)
        except ValueError as error:
            raise InputError(f"{path} is not a file of `edgevl data annotate`: line {number}: {error}") from None
    if not lines:
        raise InputError(f"{path} is not a file of `edgevl data annotate`: it is empty")
    return lines[0], lines[1:]


def _check_line(line: Any, number: int) -> None:
    """Raise `ValueError` for a line that `annotate` does not write."""
    if not isinstance(line, dict):
        raise ValueError("it is no object")
    if number == 1:
        size = line.get("size")
        if not {"classes", "attributes"} <= line.keys() or type(size) is not int or not 1 <= size <= 4096:
            raise ValueError("it does not say what the file is")
        return
    objects = line.get("objects")
    if line.get("index") != number - 2 or not isinstance(objects, list) or len(objects) > MAX_OBJECTS:
        raise ValueError(f"it must hold the index {number - 2} and at most {MAX_OBJECTS} objects")


def _check_object(item: Any, where: str) -> None:
    """Raise `InputError` for an object without a box in pixels, or one of no class, color or size of Scenes."""
    if not isinstance(item, dict) or not isinstance(box := item.get("box"), list) or len(box) != 4:
        raise InputError(f"{where}: an object has no box of four sides")
    for side in box:
        check_real(side, f"{where}: a side of a box", -1e5, 1e5)
    for key, known in (("category", CATEGORIES), ("color", COLORS), ("size", SIZES)):
        if item.get(key) not in known:
            raise InputError(f"{where}: {shown(item.get(key))} is no {key}")
