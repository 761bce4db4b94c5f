"""What an arm costs: multiply-adds counted over a real training step, speed of the arms in turns, latency."""

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgevl.bench.machine import Neighbors
from edgevl.bench.stats import bootstrap_interval, pair_ratios
from edgevl.data import open_dataset
from edgevl.detector import load_detector
from edgevl.models.region_model import is_region_model
from edgevl.training import detect, finetune, pretrain
from edgevl.training.compute import forward_macs
from edgevl.training.data import channels_first
from edgevl.training.loop import Progress
from edgevl.training.recipe import Recipe
from edgevl.training.study.arms import BASELINE
from edgevl.training.study.preset import Preset

RUN = {"pretrain": pretrain.run, "finetune": finetune.run, "detect": detect.run}
LATENCY_BLOCKS, LATENCY_QUERIES = 21, 10


def macs_per_step(recipe: Recipe) -> int:
    """Multiply-adds of one whole training step: the first of the recipe, forward and backward, teachers included.

    Regions that a detector finds are kept in files, so its forward passes over the batch are added.
    """
    macs = forward_macs(lambda: _few_steps(recipe, 1))
    detector = recipe.detector or _detector_of(recipe)
    if detector:
        found = load_detector(detector)
        image = torch.zeros(1, 3, found.config.image_size, found.config.image_size)
        with torch.no_grad():
            macs += recipe.batch_size * forward_macs(lambda: found.detector.regions(image, recipe.regions))
    return macs


def _detector_of(recipe: Recipe) -> str | None:
    if recipe.init and is_region_model(Path(recipe.init)):
        return json.loads((Path(recipe.init) / "config.json").read_text())["detector"]
    teacher = recipe.losses.get("region_distillation", {}).get("teacher", "")
    return teacher if Path(teacher).is_dir() else None


def _few_steps(recipe: Recipe, steps: int) -> float:
    """Run the first steps in a folder that is thrown away; pictures a second."""
    data = recipe.data.model_copy(update={"workers": 0})
    changes = {"stop_after": steps, "eval_samples": 0, "log_every": steps, "data": data}
    with tempfile.TemporaryDirectory() as folder:
        RUN[recipe.stage](recipe.model_copy(update=changes), out=Path(folder) / "run")
        rows = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    return json.loads(rows[-1])["samples_per_second"]


def speed(preset: Preset, recipes: Mapping[str, Recipe], _folder: Path, _progress: Progress | None) -> dict[str, Any]:
    """Pretraining speed of the arms, taken in turns so that a busy machine is busy for all of them.

    Drawing the pictures is in it, alike for all. `slower`: time of a step over that of the baseline in the same round,
    median of the rounds.
    """
    neighbors, rates = Neighbors(), {name: [] for name in recipes}
    for _ in range(preset.timing_rounds):
        for name, recipe in recipes.items():
            rates[name].append(_few_steps(recipe, preset.timing_steps))
    base = rates.get(BASELINE, [])
    slower = {
        name: round(statistics.median(b / own for b, own in zip(base, found)), 3)
        for name, found in rates.items()
        if base
    }
    found = {name: [round(rate, 1) for rate in rates[name]] for name in rates}
    timing = {"pictures_per_second": found, "slower": slower, "others_cpu": _share(neighbors)}
    return {"result": {}, "timing": timing}


def latency(preset: Preset, models: Mapping[str, Path], _folder: Path, _progress: Progress | None) -> dict[str, Any]:
    """Time of one question about one picture, region features against ours: PyTorch, one thread, blocks in turns."""
    from edgevl.training.study.evaluate import open_model

    opened = {name: open_model(folder) for name, folder in models.items()}
    neighbors, threads = Neighbors(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        blocks: dict[str, list[list[float]]] = {name: [] for name in opened}
        for _ in range(LATENCY_BLOCKS + 1):
            for name, loaded in opened.items():
                blocks[name].append(_block(loaded))
    finally:
        torch.set_num_threads(threads)
    theirs, ours = (blocks[name][1:] for name in models)  # the first block warms up
    pairs = pair_ratios(theirs, ours)
    ratio, interval = statistics.median(pairs), bootstrap_interval(pairs)
    p50 = {name: round(statistics.median(itertools.chain(*found[1:])), 3) for name, found in blocks.items()}
    timing = {"p50_ms": p50, "ratio": round(ratio, 3), "ci95": [round(side, 3) for side in interval]}
    return {"result": {}, "timing": timing | {"others_cpu": _share(neighbors)}}


def _block(loaded: Any) -> list[float]:
    scene = open_dataset("scenes:test", size=loaded.config.image_size)[0]  # what NMS does depends on the picture
    image = torch.from_numpy(channels_first(scene))[None].float()
    asked = loaded.tokenizer.encode_batch([scene.questions(1)[0].text], loaded.config.text_length)
    ids, times = torch.from_numpy(asked), []
    with torch.inference_mode():
        for _ in range(LATENCY_QUERIES):
            start = time.perf_counter()
            loaded.model(image, ids)
            times.append(1e3 * (time.perf_counter() - start))
    return times


def _share(neighbors: Neighbors) -> float | None:
    share = neighbors.share()
    return None if share is None else round(share, 3)
