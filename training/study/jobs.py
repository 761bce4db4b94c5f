"""The grid as a list of jobs. A job is a row that can be run alone: `ARM/STAGE/SEED`, which is its folder too."""

import dataclasses
import difflib
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from edgevl.errors import unknown_name
from edgevl.progress import Progress
from edgevl.training.checkpoints import list_checkpoints
from edgevl.training.metric_log import METRICS, read_rows
from edgevl.training.recipe import Recipe
from edgevl.training.study import costs, evaluate
from edgevl.training.study.arms import ABLATION, ARMS, OURS, SIDES, latency_row
from edgevl.training.study.preset import Plan, Preset, Sprint, detect_recipe, finetune_recipe, pretrain_recipe

Result = dict[str, Any]  # "result": what is the same each time; "timing": what is not


@dataclasses.dataclass(frozen=True)
class Job:
    name: str
    execute: Callable[[Path, Progress | None], Result]  # given the job's own folder
    needs: tuple[str, ...] = ()
    quiet: bool = False  # it measures time: nothing else of the study may run beside it


def make_jobs(preset: Plan, folder: Path) -> list[Job]:
    """Every job of a study or a sprint in `folder`, in an order in which each comes after what it needs."""
    if isinstance(preset, Sprint):
        return [*_sprint_jobs(preset, folder)]
    assert isinstance(preset, Preset)
    return _study_jobs(preset, folder)


def _sprint_jobs(preset: Sprint, folder: Path) -> Iterator[Job]:
    """CHANGE/ARM/STAGE/SEED: each arm pretrained and fine-tuned with each change, all with the first seed first."""
    for seed in preset.seeds:
        for change in preset.changes:
            for arm in preset.arms:
                row, place = f"{change}/{arm}", folder / change
                recipe = pretrain_recipe(preset, arm, seed, place, preset.overrides(change, "pretrain"))
                yield Job(f"{row}/pretrain/{seed}", partial(_train, recipe, evaluate.last_losses, False))
                recipe = finetune_recipe(preset, arm, "vqa", seed, place, preset.overrides(change, "finetune"))
                judge = partial(evaluate.by_kind, preset)
                yield Job(f"{row}/vqa/{seed}", partial(_train, recipe, judge, False), (f"{row}/pretrain/{seed}",))


def _study_jobs(preset: Preset, folder: Path) -> list[Job]:
    """Every job of a study.

    The arms of one seed come before the next seed, so that a study which is cut short has whole seeds; the arms that
    the preset names `first` come before the others.
    """
    jobs: list[Job] = []
    others = tuple(name for name in preset.arms if name not in preset.first)
    for names in (preset.first, others):
        for seed in preset.seeds:
            for name in names:
                if seed in preset.seeds_of(name):
                    jobs += [*_detector_jobs(preset, folder, name, seed), *_arm_jobs(preset, folder, name, seed)]
    return [*{job.name: job for job in [*jobs, *_once(preset, folder)]}.values()]  # arms share a detector


def _arm_jobs(preset: Preset, folder: Path, name: str, seed: int) -> Iterator[Job]:
    arm, first = ARMS[name], seed == preset.seeds[0]
    needs = (f"detector/{arm.detector_stage}/{seed}",) if arm.detector else ()
    needs += (f"detector/labels/{seed}",) if arm.detector == "labels" else ()
    start = f"{name}/pretrain/{seed}"
    recipe = pretrain_recipe(preset, name, seed, folder)
    judge = partial(evaluate.pretrained, preset)
    yield Job(start, partial(_train, recipe, judge, first), needs)
    for task in arm.tasks:
        recipe = finetune_recipe(preset, name, task, seed, folder)
        judge = partial(evaluate.finetuned, preset, task, first and name == OURS and task == "vqa")
        yield Job(f"{name}/{task}/{seed}", partial(_train, recipe, judge, first), (start,))


def _detector_jobs(preset: Preset, folder: Path, name: str, seed: int) -> Iterator[Job]:
    """What an arm needs of a detector: itself, and the boxes that it finds."""
    arm = ARMS[name]
    if not arm.detector:
        return
    recipe, row = detect_recipe(preset, seed, arm), f"detector/{arm.detector_stage}/{seed}"
    yield Job(row, partial(_train, recipe, evaluate.detector, False))
    if arm.detector == "labels":
        write = partial(evaluate.annotate, preset, folder / row / "model", seed)
        yield Job(f"detector/labels/{seed}", write, (row,))


def _once(preset: Preset, folder: Path) -> Iterator[Job]:
    """What is measured once: the blind baseline, speed of the arms in turns, latency beside region features."""
    seed = preset.seeds[0]
    yield Job("once/blind/0", partial(evaluate.blind, preset))
    alike = [name for name in preset.arms if name in ABLATION]
    recipes = {name: pretrain_recipe(preset, name, seed, folder) for name in alike}
    yield Job("once/speed/0", partial(costs.speed, preset, recipes), quiet=True)
    for opponent in (name for name in SIDES if name in preset.arms and OURS in preset.arms):
        models = [folder / name / "vqa" / str(seed) / "model" for name in (opponent, OURS)]
        needs = tuple(f"{name}/vqa/{seed}" for name in (opponent, OURS))
        yield Job(latency_row(opponent), partial(costs.latency, opponent, *models), needs, quiet=True)


def _train(
    recipe: Recipe, judge: Callable[[Path], dict[str, Any]], count: bool, folder: Path, progress: Progress | None
) -> Result:
    """Train by a recipe, going on where a killed run stopped, and judge the model."""
    if not list_checkpoints(folder):  # killed before the first one: nothing is lost
        shutil.rmtree(folder, ignore_errors=True)
    costs.STAGES[recipe.stage](recipe, out=folder, resume=folder.is_dir(), progress=progress)
    rows = read_rows(folder / METRICS)
    steps = int(rows[-1]["step"])  # fewer than the recipe's, where it stops at an accuracy
    found = {
        "steps": steps,
        "pictures": steps * recipe.batch_size,
        "curve": [[row["step"], round(row["val_accuracy"], 6)] for row in rows if "val_accuracy" in row],
        **judge(folder),
    }
    if count:
        found["macs_per_step"] = costs.macs_per_step(recipe)
    rate = [row["samples_per_second"] for row in rows if "samples_per_second" in row][-1]
    timing = {"seconds": round(found["pictures"] / rate, 1), "processor_seconds": rows[-1]["processor_seconds"]}
    return {"result": found, "timing": timing}


def wanted_jobs(jobs: list[Job], only: str | None) -> list[Job]:
    """All jobs, or those of a row (`all/vqa/0`, or the beginning of it: `all/vqa`, `all`) and what they need."""
    if only is None:
        return jobs
    by_name = {job.name: job for job in jobs}
    chosen = {name for name in by_name if in_row(name, only)}
    if not chosen:
        arms = {name.split("/")[0] for name in by_name}
        raise unknown_name("row of the study", only, difflib.get_close_matches(only, by_name, n=8) or arms)
    todo = [*chosen]
    while todo:
        more = set(by_name[todo.pop()].needs) - chosen
        chosen |= more
        todo += more
    return [job for job in jobs if job.name in chosen]


def in_row(name: str, row: str) -> bool:
    """Is a job that row, or does its name begin with it in whole words?"""
    return f"{name}/".startswith(f"{row.rstrip('/')}/")
