"""The runner: executes the jobs that have no result yet, and gathers what there is into one JSON.

runs/study/preset.yaml              what was asked
           ARM/STAGE/SEED/          an ordinary run folder, with `result.json` once it is judged
           results.json             everything, written anew after each job
           study.md, images/        the page
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from edgevl.bench.machine import Neighbors, cpu_name, installed_versions, usable_cores
from edgevl.checkpoint import write_json
from edgevl.errors import InputError
from edgevl.training.checkpoints import list_checkpoints
from edgevl.training.loop import Progress
from edgevl.training.study.jobs import Job, make_jobs, wanted_jobs
from edgevl.training.study.preset import Preset, load_preset

SCHEMA = "edgevl.study/1"
Note = Callable[[str], None]


def run_study(
    preset: str | Path | Preset,
    folder: Path,
    only: str | None = None,
    again: bool = False,
    note: Note = lambda text: None,
    progress: Progress | None = None,
) -> Path:
    """Run what is missing of a study and return its `results.json`. A killed study goes on where it stopped.

    only: a row, `ARM/STAGE/SEED` or the beginning of one; what it needs runs too. again: its rows are run anew.

    Raises `InputError` for an unknown preset, arm or row, or a folder that holds a study of another preset.
    """
    preset = preset if isinstance(preset, Preset) else load_preset(preset)
    jobs = make_jobs(preset, folder)
    chosen = wanted_jobs(jobs, only)
    _claim(folder, preset)
    if again:
        for job in chosen:
            if only is None or job.name.startswith(only.rstrip("/")):
                shutil.rmtree(folder / job.name, ignore_errors=True)
    for place, job in enumerate(chosen, start=1):
        if not is_done(folder, job):
            note(f"{place}/{len(chosen)} {job.name}")
            _execute(job, folder, progress)
            write_json(folder / "results.json", gather(preset, jobs, folder))
    write_json(folder / "results.json", gather(preset, jobs, folder))
    return folder / "results.json"


def is_done(folder: Path, job: Job) -> bool:
    return (folder / job.name / "result.json").is_file()


def _claim(folder: Path, preset: Preset) -> None:
    saved = folder / "preset.yaml"
    asked: dict[str, Any] = json.loads(preset.model_dump_json())
    if saved.is_file() and yaml.safe_load(saved.read_text()) != asked:
        raise InputError(f"{folder} holds a study of another preset; choose another --out, or remove the folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / ".preset.yaml.tmp"
        temporary.write_text(yaml.safe_dump(asked, sort_keys=False))
        temporary.replace(saved)
    except OSError as error:
        raise InputError(f"cannot write the study's folder {folder}: {error.strerror}") from None


def _execute(job: Job, folder: Path, progress: Progress | None) -> None:
    """Run a job and keep its result. Its checkpoints go last: until then, a kill loses minutes and not the run."""
    place = folder / job.name
    neighbors = Neighbors()
    found = job.execute(place, progress)
    share = neighbors.share()
    found["timing"].setdefault("others_cpu", None if share is None else round(share, 3))
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / "result.json", found)
    for checkpoint in list_checkpoints(place):
        shutil.rmtree(checkpoint)


def gather(preset: Preset, jobs: list[Job], folder: Path) -> dict[str, Any]:
    """One object: `runs` is the same each time, `timing` and `machine` are not."""
    found = {
        job.name: json.loads((folder / job.name / "result.json").read_text()) for job in jobs if is_done(folder, job)
    }
    return {
        "schema": SCHEMA,
        "preset": json.loads(preset.model_dump_json()),
        "rows": len(jobs),
        "machine": {"cpu": cpu_name(), "cores": usable_cores(), "versions": installed_versions()},
        "runs": {name: values["result"] for name, values in found.items()},
        "timing": {name: values["timing"] for name, values in found.items()},
    }


def load_results(path: Path) -> dict[str, Any]:
    """Read a `results.json`. Raises `InputError` for a file that is none, or of another version."""
    try:
        results = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} holds no results of a study ({error}); write some with edgevl study") from None
    if not isinstance(results, dict) or results.get("schema") != SCHEMA:
        raise InputError(f"{path} is no {SCHEMA}; write one with edgevl study")
    return results


def row_scores(preset: Preset, folder: Path) -> list[tuple[str, float | None, str]]:
    """(row, its score where it has one, `done` or `open`), of every row."""
    rows = []
    for job in make_jobs(preset, folder):
        path = folder / job.name / "result.json"
        result = json.loads(path.read_text())["result"] if path.is_file() else {}
        rows.append((job.name, result.get("score"), "done" if path.is_file() else "open"))
    return rows
