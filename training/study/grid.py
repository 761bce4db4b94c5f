"""The runner: executes the jobs that have no result yet, and gathers what there is into one JSON.

runs/study/preset.yaml              what was asked
           ARM/STAGE/SEED/          an ordinary run folder, with `result.json` once it is judged
           results.json             everything, written anew after each job
           study.md, images/        the page
"""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgevl.atomic import write_atomically, write_json
from edgevl.bench.machine import Neighbors, cpu_name, installed_versions, usable_cores
from edgevl.errors import InputError
from edgevl.progress import Progress
from edgevl.reading import MAX_RESULTS_BYTES, read_json
from edgevl.training.checkpoints import list_checkpoints
from edgevl.training.lock import exclusive
from edgevl.training.study.jobs import Job, in_row, make_jobs, wanted_jobs
from edgevl.training.study.preset import Plan, load_preset
from edgevl.training.study.results import SCHEMA, load_results
from edgevl.training.yaml_file import dump_yaml, read_yaml

WAIT_S = 5
Note = Callable[[str], None]


def run_study(
    preset: str | Path | Plan,
    folder: Path,
    only: str | None = None,
    again: bool = False,
    taken: Path | None = None,
    note: Note = lambda text: None,
    progress: Progress | None = None,
) -> Path:
    """Run what is missing of a study and return its `results.json`. A killed study goes on where it stopped.

    Several processes may work on one folder: two of one thread each train small models faster than one of two.

    only: a row, `ARM/STAGE/SEED` or the beginning of one; what it needs runs too. again: its rows are run anew.
    taken: a `results.json` of another machine or of an earlier day; its rows keep their results. Where another row
        needs the model of one, which is not in that file, it is trained again for that alone.
    Arms may be added to a study later, in its folder or to those results; anything else makes another preset.

    Raises `InputError` for an unknown preset, arm or row, or results or a folder of another preset.
    """
    preset = preset if isinstance(preset, Plan) else load_preset(preset)
    jobs = make_jobs(preset, folder)
    chosen = wanted_jobs(jobs, only)
    known = _results_of(taken, preset) if taken else None
    _claim(folder, preset)
    if known:
        _take_over(folder, jobs, known)
    if again:
        _remove(folder, [job for job in chosen if only is None or in_row(job.name, only)])
    _reopen(folder, jobs, chosen)
    while todo := [job for job in chosen if not is_done(folder, job.name)]:
        noisy = any(not job.quiet for job in todo)
        ready = [job for job in todo if all(is_done(folder, need) for need in job.needs) and not (job.quiet and noisy)]
        if not any(_execute(job, folder, note, progress, preset, jobs) for job in ready):
            time.sleep(WAIT_S)  # another process has the rest
    _gather_into(folder, preset, jobs)
    return folder / "results.json"


def is_done(folder: Path, row: str) -> bool:
    return (folder / row / "result.json").is_file()


def _results_of(path: Path, preset: Plan) -> dict[str, Any]:
    results = load_results(path)
    if not preset.makes_rows_of(results["preset"]):
        raise InputError(f"{path} holds results of another preset, which nothing can be added to")
    return results


def _take_over(folder: Path, jobs: list[Job], results: dict[str, Any]) -> None:
    """Count the rows of `results` as done. Their models lie on another disk: see `_reopen`."""
    for job in jobs:
        if job.name in results["runs"] and not (folder / job.name).exists():
            (folder / job.name).mkdir(parents=True)
            found = {"result": results["runs"][job.name], "timing": results["timing"].get(job.name, {})}
            write_json(folder / job.name / "result.json", found)


def _reopen(folder: Path, jobs: list[Job], chosen: list[Job]) -> None:
    """Open the rows that were taken over from other results, where one of `chosen` needs the model that they lack.

    Their results are put aside and stay: what was published once does not change because a model was lost.
    """
    by_name = {job.name: job for job in jobs}
    todo = [job for job in chosen if not is_done(folder, job.name)]
    while todo:
        for need in todo.pop().needs:
            if (folder / need).is_dir() and [path.name for path in (folder / need).iterdir()] == ["result.json"]:
                _kept(folder, need).parent.mkdir(exist_ok=True)
                (folder / need / "result.json").replace(_kept(folder, need))
                todo.append(by_name[need])


def _kept(folder: Path, row: str) -> Path:
    """Where the result lies of a row that is trained again for its model alone."""
    return folder / ".kept" / f"{row.replace('/', '-')}.json"


def _remove(folder: Path, jobs: list[Job]) -> None:
    """Throw rows away. Raises `InputError` if another process is training one of them."""
    for job in jobs:
        with _mine(folder, job) as mine:
            if not mine:
                raise InputError(f"another process is running {job.name} in {folder}; wait for it, or stop it")
            _kept(folder, job.name).unlink(missing_ok=True)
            shutil.rmtree(folder / job.name, ignore_errors=True)


def _claim(folder: Path, preset: Plan) -> None:
    saved = folder / "preset.yaml"
    if saved.is_file() and not preset.makes_rows_of(read_yaml(saved, type(preset))):
        raise InputError(f"{folder} holds a study of another preset; choose another --out, or remove the folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(saved, dump_yaml(preset.model_dump(mode="json")))
    except OSError as error:
        raise InputError(f"cannot write the study's folder {folder}: {error.strerror}") from None


def _execute(job: Job, folder: Path, note: Note, progress: Progress | None, preset: Plan, jobs: list[Job]) -> bool:
    """Run a job and keep its result, if no other process has it. Says whether it did."""
    with _mine(folder, job) as mine:
        if not mine or is_done(folder, job.name):
            return False
        note(f"{sum(is_done(folder, other.name) for other in jobs) + 1}/{len(jobs)} {job.name}")
        place, neighbors = folder / job.name, Neighbors()
        found = job.execute(place, progress)
        share = neighbors.share()
        found["timing"].setdefault("others_cpu", None if share is None else round(share, 3))
        found["timing"]["cpu"] = cpu_name()
        if (kept := _kept(folder, job.name)).is_file():
            found = _result(kept)
        place.mkdir(parents=True, exist_ok=True)
        write_json(place / "result.json", found)
        for checkpoint in list_checkpoints(place):  # last: until then, a kill loses minutes and not the run
            shutil.rmtree(checkpoint)
    _gather_into(folder, preset, jobs)
    return True


@contextlib.contextmanager
def _mine(folder: Path, job: Job) -> Iterator[bool]:
    """Hold a job's lock, which a killed process loses; two processes can share a study. Quiet jobs have one lock."""
    locks = folder / ".locks"
    locks.mkdir(exist_ok=True)
    with exclusive(locks / ("quiet" if job.quiet else job.name.replace("/", "-"))) as mine:
        yield mine


def _gather_into(folder: Path, preset: Plan, jobs: list[Job]) -> None:
    write_atomically(folder / "results.json", json.dumps(gather(preset, jobs, folder), indent=1) + "\n")


def gather(preset: Plan, jobs: list[Job], folder: Path) -> dict[str, Any]:
    """One object: `runs` is the same each time, `timing` and `machine` are not."""
    found = _finished(jobs, folder)
    return {
        "schema": SCHEMA,
        "preset": preset.model_dump(mode="json"),
        "rows": len(jobs),
        "machine": {"cpu": cpu_name(), "cores": usable_cores(), "versions": installed_versions()},
        "runs": {name: values["result"] for name, values in found.items()},
        "timing": {name: values["timing"] for name, values in found.items()},
    }


def _finished(jobs: list[Job], folder: Path) -> dict[str, dict[str, Any]]:
    """Of each row that is done: its `result` and its `timing`."""
    done = [job.name for job in jobs if is_done(folder, job.name)]
    return {name: _result(folder / name / "result.json") for name in done}


def _result(path: Path) -> dict[str, Any]:
    """What `_execute` wrote. Raises `InputError` for a file that is damaged."""
    found = read_json(path, dict, MAX_RESULTS_BYTES)
    if not all(isinstance(found.get(key), dict) for key in ("result", "timing")):
        raise InputError(f"{path} is not whole: remove its folder, and the row is run again")
    return found


def row_scores(
    preset: Plan, folder: Path, only: str | None = None, taken: Path | None = None
) -> list[tuple[str, float | None, str]]:
    """(row, its score where it has one, `done` or `open`), of every row; or of `only` and what it needs.

    Arguments and errors are those of `run_study`.
    """
    jobs = wanted_jobs(make_jobs(preset, folder), only)
    runs: dict[str, Any] = _results_of(taken, preset)["runs"] if taken else {}
    runs |= {name: found["result"] for name, found in _finished(jobs, folder).items()}
    return [(job.name, runs.get(job.name, {}).get("score"), "done" if job.name in runs else "open") for job in jobs]
