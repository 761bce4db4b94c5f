"""What the opponents of the benchmark compute: multiply-adds by stage, and what the choice of regions by NMS costs.

    python tools/opponent_work.py

The first table is counted, not timed: convolutions and matrix products of the modules, at the sizes that are measured.
The second is processor time of one thread: the second NMS of `region-heavy` with different numbers of class scores over
its threshold, and the loop over all classes and all scores of the published code, which keeps the same regions.
"""

import dataclasses
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import nms

from edgevl.config import named_config
from edgevl.models.vilt import Vilt, ViltConfig
from edgevl.models.vqa import VqaModel
from edgevl.regions.answerer import REGION_CONFIGS, RegionAnswerer, RegionConfig
from edgevl.regions.export import background_bias
from edgevl.regions.parts import RegionHead, RegionTrunk, build_detector
from edgevl.regions.set_detector import SetConfig, SetRegions
from edgevl.regions.stages import select_regions

NANO = named_config("nano")


def gmacs(run: Callable[[], object]) -> float:
    """1e9 multiply-adds of `run`."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 2e9


def region_work(config: RegionConfig) -> tuple[float, float, float]:
    """Backbone, region features, fusion."""
    detector, fusion = build_detector(config), config.fusion(NANO)
    trunk, head = RegionTrunk(detector, config).eval(), RegionHead(detector, config).eval()
    answerer = RegionAnswerer(fusion, config.feature_width).eval()
    image = torch.zeros(1, config.height, config.width, 3, dtype=torch.uint8)
    maps = list(trunk(image)[:-2])
    rois = [torch.zeros(len(part), 5) for part in torch.zeros(config.post_nms).chunk(len(maps))]
    features, boxes = torch.zeros(1, config.regions, config.feature_width), torch.zeros(1, config.regions, 4)
    return (
        gmacs(lambda: trunk(image)),
        gmacs(lambda: head(maps, rois)),
        gmacs(lambda: answerer(features, boxes, words())),
    )


def set_work() -> float:
    """The detector without NMS and the transformer behind it."""
    config = SetConfig()
    detector, answerer = SetRegions(config), RegionAnswerer(NANO, config.width).eval()
    image = torch.zeros(1, config.size, config.size, 3, dtype=torch.uint8)
    features, boxes = torch.zeros(1, config.regions, config.width), torch.zeros(1, config.regions, 4)
    return gmacs(lambda: detector(image)) + gmacs(lambda: answerer(features, boxes, words()))


def words() -> torch.Tensor:
    return torch.ones(1, NANO.text_length, dtype=torch.int32)


def print_work() -> None:
    print(f"{'1e9 multiply-adds':20} {'backbone':>9} {'regions':>9} {'fusion':>9} {'all':>9}")
    with torch.device("meta"):
        for name, config in REGION_CONFIGS.items():
            parts = region_work(config)
            print(f"{name:20} " + " ".join(f"{part:9.3f}" for part in (*parts, sum(parts))))
        vilt = Vilt(ViltConfig(NANO.text_length, NANO.num_answers)).eval()
        print(f"{'vilt':20} {gmacs(lambda: vilt(torch.zeros(1, 384, 384, 3), words())):39.3f}")
        nano, side = VqaModel(NANO).eval(), NANO.image_size
        print(f"{'nano':20} {gmacs(lambda: nano(torch.zeros(1, 3, side, side), words())):39.3f}")
    print(f"{'dfine':20} {set_work():39.3f}")  # its network reads numbers, which meta tensors do not have


def milliseconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Processor time, the least of some runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def published_loop(boxes: torch.Tensor, scores: torch.Tensor, iou: float) -> torch.Tensor:
    """The best score that each region keeps after NMS in every class: `boxes` [R, 4], `scores` [R, C] -> [R]."""
    best = torch.zeros(len(boxes))
    for column in range(1, scores.shape[1]):
        kept = nms(boxes, scores[:, column], iou)
        best[kept] = torch.maximum(best[kept], scores[kept, column])
    return best


def print_suppression() -> None:
    torch.set_num_threads(1)
    config, rng = REGION_CONFIGS["region-heavy"], torch.Generator().manual_seed(0)
    corners = torch.rand(config.post_nms, 2, generator=rng) * torch.tensor([700.0, 400.0])
    boxes = torch.cat([corners, corners + 30 + 270 * torch.rand(config.post_nms, 2, generator=rng)], dim=1)
    logits = config.logit_std * torch.randn(config.post_nms, config.classes, generator=rng)
    for candidates in (150, 300, 600, 900, 1200):
        trial = dataclasses.replace(config, candidates=candidates)
        moved = logits.clone()
        moved[:, 0] += background_bias(logits, trial)
        spent = milliseconds(lambda trial=trial, moved=moved: select_regions(trial, boxes, moved))
        print(
            f"{select_regions(trial, boxes, moved)[1]:>8,} class scores over {config.score_threshold}: {spent:8.2f} ms"
        )
    loop = milliseconds(lambda: published_loop(boxes, logits.softmax(dim=1), config.class_iou), repeats=2)
    print(f"{config.post_nms * (config.classes - 1):>8,} class scores, in a loop: {loop:6.2f} ms")


if __name__ == "__main__":
    print_work()
    print_suppression()
