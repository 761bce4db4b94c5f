"""What an arm costs: multiply-adds counted over a real training step, speed of the arms in turns, latency."""

import statistics
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from edgevl.bench.machine import Neighbors
from edgevl.bench.pipelines import SCOPES
from edgevl.bench.run import run_bench
from edgevl.progress import Progress
from edgevl.reading import read_json
from edgevl.regions.detector import load_detector
from edgevl.regions.model import is_region_model
from edgevl.training import detect, finetune, pretrain
from edgevl.training.compute import forward_macs
from edgevl.training.metric_log import METRICS, read_rows
from edgevl.training.recipe import Recipe
from edgevl.training.study.arms import BASELINE, OURS
from edgevl.training.study.preset import Preset

STAGES = {"pretrain": pretrain.run, "finetune": finetune.run, "detect": detect.run}
LATENCY_PRESET = "quick"  # of `edgevl bench`


def macs_per_step(recipe: Recipe) -> int:
    """Multiply-adds of a whole training step, forward and backward, teachers included: the mean over a run's phases.

    Regions that a detector finds are kept in files, so its forward passes over the batch are added.
    """
    macs = round(sum(share * forward_macs(lambda part=part: _few_steps(part, 1)) for share, part in phases(recipe)))
    detector = recipe.detector or _detector_of(recipe)
    if detector:
        found = load_detector(detector)
        image = torch.zeros(1, 3, found.config.image_size, found.config.image_size)
        with torch.no_grad():
            macs += recipe.batch_size * forward_macs(lambda: found.detector.regions(image, recipe.regions))
    return macs


def _detector_of(recipe: Recipe) -> str | None:
    if recipe.init and is_region_model(Path(recipe.init)):
        return read_json(Path(recipe.init) / "config.json")["detector"]
    teacher = recipe.losses.get("region_distillation", {}).get("teacher", "")
    return teacher if Path(teacher).is_dir() else None


def phases(recipe: Recipe) -> Iterator[tuple[float, Recipe]]:
    """Yield the parts of a run that compute the same losses: the share of its steps, and a recipe that begins so."""
    after = {name: options.get("after", 0) for name, options in recipe.losses.items()}
    begins = sorted({0, *after.values()})
    for begin, end in zip(begins, [*begins[1:], recipe.last_step], strict=True):
        losses = {name: given | {"after": 0} for name, given in recipe.losses.items() if after[name] <= begin}
        yield (end - begin) / recipe.last_step, recipe.model_copy(update={"losses": losses})


def _rate(recipe: Recipe, steps: int) -> float:
    """Return the pictures a second of a whole run, from a few steps of each phase."""
    return 1 / sum(share / _few_steps(part, steps) for share, part in phases(recipe))


def _few_steps(recipe: Recipe, steps: int) -> float:
    """Run the first steps in a folder that is thrown away; pictures a second."""
    data = recipe.data.model_copy(update={"workers": 0})
    changes = {"stop_after": steps, "eval_samples": 0, "log_every": steps, "data": data}
    with tempfile.TemporaryDirectory() as folder:
        STAGES[recipe.stage](recipe.model_copy(update=changes), out=Path(folder) / "run")
        rows = read_rows(Path(folder) / "run" / METRICS)
    return rows[-1]["samples_per_second"]


def speed(preset: Preset, recipes: Mapping[str, Recipe], _folder: Path, _progress: Progress | None) -> dict[str, Any]:
    """Pretraining speed of the arms, taken in turns so that a busy machine is busy for all of them.

    Drawing the pictures is in it, alike for all. `slower`: time of a step over that of the baseline in the same round,
    median of the rounds.
    """
    neighbors, rates = Neighbors(), {name: [] for name in recipes}
    for _ in range(preset.timing_rounds):
        for name, recipe in recipes.items():
            rates[name].append(_rate(recipe, preset.timing_steps))
    base = rates.get(BASELINE, [])
    slower = {
        name: round(statistics.median(b / own for b, own in zip(base, found)), 3)
        for name, found in rates.items()
        if base
    }
    found = {name: [round(rate, 1) for rate in rates[name]] for name in rates}
    timing = {"pictures_per_second": found, "slower": slower, "others_cpu": _share(neighbors)}
    return {"result": {}, "timing": timing}


def latency(opponent: str, theirs: Path, ours: Path, _folder: Path, progress: Progress | None) -> dict[str, Any]:
    """Time of one question about one picture, region features (an arm) against ours, as `edgevl bench` measures it.

    Both are exported to ONNX and run by onnxruntime on one thread, interleaved. `model`: from pixels to logits;
    `pipeline`: from the bytes of a picture to the answer.
    """
    report = run_bench(str(ours), [str(theirs)], preset=LATENCY_PRESET, threads=1, progress=progress, frame=None)
    timing: dict[str, Any] = {"others_cpu": report.machine.others_cpu, "preset": LATENCY_PRESET}
    for scope in SCOPES:
        ratio = report.ratio(str(theirs), scope)
        names = {opponent: str(theirs), OURS: report.candidate}
        timing[scope] = {
            "ratio": round(ratio.ratio, 3),
            "ci95": [round(side, 3) for side in ratio.ci95],
            "p50_ms": {arm: round(report.result(name, scope).p50_ms, 3) for arm, name in names.items()},
        }
    timing["flags"] = sorted({flag.code for result in report.results for flag in result.flags if flag.invalidates})
    return {"result": {}, "timing": timing}


def _share(neighbors: Neighbors) -> float | None:
    share = neighbors.share()
    return None if share is None else round(share, 3)
