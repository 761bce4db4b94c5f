"""Run a study in pieces of a few minutes, on a machine that keeps nothing: a large GPU that is lent for ten minutes.

    python tools/study_piece.py --preset full --seconds 540 --processes 12 --out $OUT               # the first piece
    python tools/study_piece.py --preset full --seconds 540 --processes 12 --out $OUT --from study.tar   # the next one

Several processes of one thread share the study's folder and the GPU, each with a row of its own. When the time is over
they are stopped wherever they are, and what is worth keeping goes into one file, OUT/study.tar: results, metrics, the
newest checkpoint of each row that has begun, and the models that rows still to come need. The next piece, there or on
another machine, goes on from it; pictures are made anew there. `edgevl study --results results.json --publish docs`
makes the page of what is done. Without a GPU it runs on the CPU.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from edgevl.atomic import Kind, atomic_folder
from edgevl.errors import EdgeVLError, InputError
from edgevl.plain import plain
from edgevl.training.checkpoints import list_checkpoints
from edgevl.training.study.grid import is_done
from edgevl.training.study.jobs import Job, make_jobs
from edgevl.training.study.preset import Plan, load_preset

PACK = "study.tar"
FOLDER = Path("build/study")  # from where it is started: recipes name what they begin with by this path
STUDY = Kind("study", "preset.yaml", "FOLDER")
PATIENCE_S = 20.0  # between being asked to stop and being killed


def unpack(source: Path, folder: Path) -> None:
    """Make the folder what the piece before has left; an earlier one is replaced when all is there.

    Raises `InputError` for a file that is no such archive, or holds anything but files inside the folder.
    """
    try:
        with tarfile.open(source) as archive, atomic_folder(folder, force=True, kind=STUDY) as place:
            for member in archive:
                target = (place / member.name).resolve()
                if not member.isfile() or not target.is_relative_to(place.resolve()):
                    raise InputError(f'{source} is not what a piece of a study left: it holds "{plain(member.name)}"')
                target.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(member)
                assert content is not None, "a file has content"
                with content, target.open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{source} is not what a piece of a study left: {error}") from error


def worth_keeping(folder: Path, jobs: list[Job]) -> list[Path]:
    """Files that the next piece needs, none of them twice."""
    needed = {need for job in jobs if not is_done(folder, job.name) for need in job.needs}
    kept = [*folder.glob("*.json"), *folder.glob("preset.yaml"), *folder.glob("*/preset.yaml")]
    for job in jobs:
        place = folder / job.name
        newest = list_checkpoints(place)[-1:] if not is_done(folder, job.name) else []
        models = [place / "model"] if job.name in needed else []
        kept += [path for path in place.glob("*") if path.is_file()]
        kept += [path for part in (*newest, *models) for path in part.rglob("*") if path.is_file()]
    return sorted(set(kept))


def pack(folder: Path, jobs: list[Job], target: Path) -> Path:
    """Write the archive, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    with tarfile.open(partial, "w") as archive:
        for path in worth_keeping(folder, jobs):
            archive.add(path, path.relative_to(folder))
    partial.replace(target)
    return target


def work(preset: str, folder: Path, only: str | None, seconds: float, processes: int) -> None:
    """Let processes share the study until all is done or the time is over."""
    command = [sys.executable, "-m", "edgevl", "study", "--preset", preset, "--out", str(folder)]
    command += ["--only", only] if only else []
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
    ends, running = time.monotonic() + seconds, []
    for number in range(processes):
        with (folder / f"process-{number}.log").open("w", encoding="utf-8") as log:
            running.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        time.sleep(0.2)  # so that each finds what the one before has taken
    while time.monotonic() < ends and any(process.poll() is None for process in running):
        time.sleep(0.5)
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    for process in running:
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    stopped = (0, 130, -signal.SIGINT, -signal.SIGKILL)
    failed = [number for number, process in enumerate(running) if process.returncode not in stopped]
    for number in failed:
        last = (folder / f"process-{number}.log").read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
        print(f"process {number} ended with {running[number].returncode}: {' '.join(last)}", file=sys.stderr)


def run_piece(arguments: argparse.Namespace) -> Path:
    plan: Plan = load_preset(arguments.preset)
    folder = FOLDER / plan.name
    if arguments.source:
        unpack(arguments.source, folder)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = make_jobs(plan, folder)
    before = sum(is_done(folder, job.name) for job in jobs)
    work(arguments.preset, folder, arguments.only, arguments.seconds, arguments.processes)
    target = pack(folder, jobs, arguments.out / PACK)
    if (results := folder / "results.json").is_file():
        shutil.copy(results, arguments.out)
    done = [job.name for job in jobs if is_done(folder, job.name)]
    begun = sum(bool(list_checkpoints(folder / job.name)) for job in jobs)
    print(f"{len(done)} of {len(jobs)} rows are done, {len(done) - before} of them now; {begun} have begun")
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", required=True, help="of edgevl study: full, sprint, or a YAML file")
    parser.add_argument("--seconds", type=float, default=540.0, help="of training; packing takes some more")
    parser.add_argument("--processes", type=int, default=2, help="that share the machine")
    parser.add_argument("--only", help="rows, as of edgevl study")
    parser.add_argument("--from", dest="source", type=Path, help="the study.tar of the piece before")
    parser.add_argument("--out", type=Path, required=True, help="folder for study.tar and results.json")
    arguments = parser.parse_args()
    if not (arguments.seconds > 0 and 1 <= arguments.processes <= 256):
        parser.error("--seconds must be above 0, and --processes 1 to 256")
    try:
        run_piece(arguments)
    except EdgeVLError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
