"""What a detector sees in each scene of a data set, computed once and kept in files.

Shapes: K regions a picture, F region feature, n scenes of one file.

    runs/regions/DETECTOR-scenes-train-seed0-k8/00000000.safetensors   features fp16 [n, K, F], boxes float [n, K, 4] as
        shares of the side, scores float [n, K], classes int16 [n, K], and each attribute of the detector int16 [n, K]

A file holds `SCENES_PER_FILE` scenes and is written under a temporary name, so that a killed computation goes on where
it stopped. DETECTOR is the beginning of the digest of its weights: another detector has other files.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from edgevl.atomic import CannotWrite, atomic_file
from edgevl.data import open_scenes
from edgevl.data.scenes import Scenes
from edgevl.errors import InputError, first_line
from edgevl.progress import Progress
from edgevl.regions.detector import LoadedDetector, Regions

SCENES_PER_FILE = 1024
BATCH = 32
NUMBERS = {"f": np.float32, "i": np.int64}


class RegionCache:
    """`cache[index]`: `region_features` float32 [K, F], `region_boxes` [K, 4] and `region_scores` [K] of one scene.

    And what the detector took them for: `region_classes` int64 [K], and each attribute, as `region_color`.
    """

    def __init__(self, folder: Path, count: int):
        self.folder, self.count = folder, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Raises `InputError` for a scene that is not kept, or a file that is damaged."""
        if not 0 <= index < self.count:
            raise InputError(f"scene {index} is not among the {self.count} whose regions are kept in {self.folder}")
        path, row = _file(self.folder, index), index % SCENES_PER_FILE
        try:
            with safe_open(path, "numpy") as file:
                names = file.keys()
                found = {f"region_{name}": file.get_slice(name)[row] for name in names}
                return {name: values.astype(NUMBERS[values.dtype.kind]) for name, values in found.items()}
        except (SafetensorError, OSError, LookupError) as error:
            raise InputError(f"{path} is damaged ({first_line(error)}): delete it, and it is computed again") from None


def cache_regions(
    loaded: LoadedDetector,
    data: str,
    seed: int,
    count: int,
    regions: int,
    root: Path | str = "runs/regions",
    progress: Progress | None = None,
) -> RegionCache:
    """Compute what is missing of the first `count` scenes of `data`, at the detector's own picture size."""
    scenes = open_scenes(data, seed=seed, size=loaded.config.image_size)
    name = f"{loaded.sha256[:12]}-{data.replace(':', '-')}-seed{seed}-k{regions}"
    folder = Path(root) / name
    for start in range(0, count, SCENES_PER_FILE):
        if not _file(folder, start).is_file():
            _write(_file(folder, start), loaded, scenes, start, regions)
        if progress:
            progress(min(start + SCENES_PER_FILE, count), count, f"regions of {data}")
    return RegionCache(folder, count)


def find_regions(loaded: LoadedDetector, scenes: Scenes, indices: range, regions: int) -> Regions:
    """The detector's regions in some scenes, all in one batch."""
    image = np.stack([scenes[i].pictures[0].transpose(2, 0, 1) for i in indices])
    with torch.inference_mode():
        return loaded.detector.regions(torch.from_numpy(image), regions)


def _write(path: Path, loaded: LoadedDetector, scenes: Scenes, start: int, regions: int) -> None:
    found = [
        find_regions(loaded, scenes, range(first, first + BATCH), regions)
        for first in range(start, start + SCENES_PER_FILE, BATCH)
    ]
    tensors = {
        "features": torch.cat([batch.features for batch in found]).half(),
        "boxes": torch.cat([batch.boxes for batch in found]),
        "scores": torch.cat([batch.scores for batch in found]),
        "classes": torch.cat([batch.classes for batch in found]).short(),
    }
    for name in found[0].attributes:
        tensors[name] = torch.cat([batch.attributes[name] for batch in found]).short()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            save_file(tensors, temporary)
    except (OSError, SafetensorError, CannotWrite) as error:
        raise InputError(f"cannot keep regions in {path.parent}: {first_line(error)}; set data.region_cache") from None


def _file(folder: Path, index: int) -> Path:
    return folder / f"{index // SCENES_PER_FILE * SCENES_PER_FILE:08d}.safetensors"
