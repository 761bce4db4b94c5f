"""Write a split to disk: PNG images, one line of JSON per scene, and a contact sheet to look at."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from edgevl.atomic import Kind, atomic_folder
from edgevl.data.scenes.contact_sheet import contact_sheet
from edgevl.data.scenes.scene import Scene, SceneObject, Scenes
from edgevl.errors import InputError
from edgevl.progress import Progress

SHEET_SCENES = 12
SHARD_SCENES = 1000
MARKER = "annotations.jsonl"
DATA_SET = Kind("data set", MARKER, "FOLDER/NAME")


def materialize(
    split: str,
    count: int,
    out: str | Path,
    seed: int = 0,
    size: int = 128,
    force: bool = False,
    progress: Progress | None = None,
    shards: bool = False,
) -> Path:
    """Write the first `count` scenes of a split under `out` and return it.

    The folder holds `images/000000.png` …, `annotations.jsonl` and `contact_sheet.png`; with `shards` the images and
    annotations lie in `shard-000000.tar` … instead of `images` (WebDataset: NNNNNN.png beside NNNNNN.json). It is
    made as a sibling and renamed at the end, so that half a data set never exists. `progress(done, total, text)`.

    Raises InputError for an unknown split, a count below 1, and an `out` that exists and is not empty: `force`
    replaces it, if it holds an earlier data set.
    """
    data, out = Scenes(split, seed, size), Path(out)
    if count < 1:
        raise InputError(f"{count} scenes: at least 1 is needed")
    empty = out.is_dir() and not any(out.iterdir())
    with atomic_folder(out, force or empty, DATA_SET) as folder:
        _write(data, count, folder, shards, progress or (lambda done, total, text: None))
    return out


def _write(data: Scenes, count: int, folder: Path, shards: bool, progress: Progress) -> None:
    if not shards:
        (folder / "images").mkdir()
    first: list[Scene] = []
    with open(folder / MARKER, "w", encoding="utf-8") as lines:
        for start in range(0, count, SHARD_SCENES):
            scenes = (data.scene(i) for i in range(start, min(count, start + SHARD_SCENES)))
            shard = folder / f"shard-{start // SHARD_SCENES:06d}.tar"
            tar = tarfile.open(shard, "w") if shards else None  # noqa: SIM115 closed below, in both cases
            try:
                for scene in scenes:
                    if scene.index < SHEET_SCENES:
                        first.append(scene)
                    _write_scene(scene, folder, tar, lines)
                    progress(scene.index + 1, count, f"{data.split} scenes")
            finally:
                if tar:
                    tar.close()
    contact_sheet(first).save(folder / "contact_sheet.png", optimize=True)


def _write_scene(scene: Scene, folder: Path, tar: tarfile.TarFile | None, lines: io.TextIOBase) -> None:
    name = f"{scene.index:06d}"
    path = f"{name}.png" if tar else f"images/{name}.png"
    line = json.dumps({"image": path} | annotation(scene))
    lines.write(line + "\n")
    if tar is None:
        Image.fromarray(scene.image).save(folder / path)
        return
    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, "PNG")
    for suffix, data in (("png", buffer.getvalue()), ("json", line.encode())):
        member = tarfile.TarInfo(f"{name}.{suffix}")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))


def annotation(scene: Scene) -> dict:
    """Everything known of a scene as plain JSON values; masks as run lengths (see `run_lengths`)."""
    return {
        "split": scene.split,
        "seed": scene.seed,
        "index": scene.index,
        "size": scene.image.shape[0],
        "objects": [_object(item) for item in scene.objects],
        "captions": scene.captions(),
        "false_captions": scene.negative_caption(),
        "questions": [vars(question) for question in scene.questions()],
        "statements": [vars(statement) for statement in scene.statements()],
        "referring": [vars(referring) for referring in scene.referring()],
    }


def _object(item: SceneObject) -> dict:
    plain = {key: getattr(item, key) for key in ("category", "group", "color", "size", "box")}
    return plain | {"mask": run_lengths(item.mask)}


def run_lengths(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of a mask bool [S, S] read row by row, beginning with a (maybe empty) run of False."""
    flat = np.concatenate(([False], mask.ravel()))
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate(([0], starts, [mask.size]))).tolist()
