"""Print what a detector of Scenes is worth: its mAP on each split, what its regions cover and know, what it cost.

    python tools/detector_table.py runs/detect_scenes/model
    python tools/detector_table.py runs/study-full/detector/detect/0/model --data scenes16

mAP needs torchmetrics and faster-coco-eval: pip install "edgevl[detect]".
"""

import argparse
import json

import torch
from torchvision.ops import box_iou

from edgevl.data import open_scenes
from edgevl.data.scenes import SIZES, Scenes
from edgevl.regions.cache import BATCH, find_regions
from edgevl.regions.detector import LoadedDetector, load_detector
from edgevl.training.compute import forward_macs
from edgevl.training.detect import average_precision

SPLITS = ("val", "test", "test_style", "test_pairs")
REGIONS = (4, 6, 8, 12, 16)


def known(loaded: LoadedDetector, scenes: Scenes, count: int) -> dict[str, float]:
    """Share of true objects with a region (IoU above 0.5) among the best K, and what the best of 8 says of them."""
    covered, right = dict.fromkeys(REGIONS, 0), {"class": 0, "color": 0, "size": 0}
    objects = 0
    for start in range(0, count, BATCH):
        indices = range(start, min(start + BATCH, count))
        found = find_regions(loaded, scenes, indices, max(REGIONS))
        for row, index in enumerate(indices):
            items = scenes.scene(index).objects
            overlaps = box_iou(torch.tensor([o.box for o in items]), scenes.size * found.boxes[row])
            objects += len(items)
            for k in REGIONS:
                covered[k] += int((overlaps[:, :k].amax(1) > 0.5).sum())
            for item, place in zip(items, overlaps[:, :8].argmax(1), strict=True):
                right["class"] += int(found.classes[row, place] == item.category_id)
                right["color"] += int(found.attributes["color"][row, place] == item.color_id)
                right["size"] += int(found.attributes["size"][row, place] == SIZES.index(item.size))
    return {f"in {k}": n / objects for k, n in covered.items()} | {key: n / objects for key, n in right.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", help="folder of a detector")
    parser.add_argument("--data", default="scenes", help="data set whose splits it looks at")
    parser.add_argument("--count", type=int, default=1000, help="scenes of each split")
    options = parser.parse_args()
    loaded = load_detector(options.detector)
    record = json.loads((loaded.path / "training.json").read_text(encoding="utf-8"))
    image = torch.zeros(1, 3, loaded.config.image_size, loaded.config.image_size)
    macs = forward_macs(lambda: loaded.detector.regions(image, 8))
    print(f"training: {record['pictures']} pictures, {record['training_macs'] / 1e12:.1f} x 10^12 multiply-adds")
    print(f"one picture: {macs / 1e6:.0f} million multiply-adds")
    for split in SPLITS:
        scenes = open_scenes(f"{options.data}:{split}", size=loaded.config.image_size)
        precision = average_precision(loaded.detector, scenes, options.count)
        shares = known(loaded, scenes, options.count)
        print(
            f"{split}: mAP {precision['val_map']:.3f}, at IoU 0.5 {precision['val_map_50']:.3f}; "
            + ", ".join(f"{name} {share:.3f}" for name, share in shares.items())
        )


if __name__ == "__main__":
    main()
