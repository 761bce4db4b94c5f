"""Opening a pipeline and asking it once: load, first inference, and the peak memory of the process that did it.

`python -m edgevl.bench.probe KIND FOLDER THREADS IMAGE QUESTION` does so in a process of its own and prints JSON;
`cold_start` starts that process. Peak memory only means something there.
"""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from edgevl.bench.harness import Clock, Stopwatch
from edgevl.bench.opponents import open_pipeline
from edgevl.bench.pipelines import Pipeline, Query
from edgevl.errors import EdgeVLError

TIMEOUT_S = 300


@dataclasses.dataclass(frozen=True)
class ColdStart:
    load_ms: float  # opening every file until the pipeline can be asked
    first_ms: dict[str, float]  # scope -> the first query's time
    peak_mb: float | None  # resident, in MiB; null when the process also did other things


def open_and_ask(kind: str, folder: Path, threads: int, query: Query, clock: Clock = time.perf_counter):
    """Open and answer one query in this process. Returns (pipeline, `ColdStart` without peak memory)."""
    start = clock()
    pipeline: Pipeline = open_pipeline(kind, folder, threads)
    loaded = clock()
    inputs = pipeline.prepare(query, Stopwatch(clock))
    prepared = clock()
    logits = pipeline.infer(inputs, Stopwatch(clock))
    inferred = clock()
    pipeline.answer(logits)
    first = {"model": 1e3 * (inferred - prepared), "pipeline": 1e3 * (clock() - loaded)}
    return pipeline, ColdStart(1e3 * (loaded - start), first, None)


def cold_start(kind: str, folder: Path, threads: int, query: Query, scratch: Path) -> ColdStart:
    """The same in a fresh process, with its peak memory. `scratch` is a folder for the picture.

    Files are likely in the page cache, as they were just written or read: the load is that of a process, not of a disk.
    """
    picture = scratch / "probe-picture"
    picture.write_bytes(query.image)
    arguments = [kind, str(folder), str(threads), str(picture), query.question]
    command = [sys.executable, "-m", "edgevl.bench.probe", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EdgeVLError(f"measuring {kind} in a fresh process failed with status {done.returncode}: {reason}")
    return ColdStart(**json.loads(done.stdout.splitlines()[-1]))


def peak_memory_mb() -> float | None:
    """Peak resident memory of this process in MiB, or None where the system does not tell.

    Linux: VmHWM, which starts anew at exec. `ru_maxrss` does not: a child inherits the peak of the process that
    forked it.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except (OSError, StopIteration):
        pass
    if sys.platform != "darwin":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def main(arguments: list[str]) -> int:
    kind, folder, threads, picture, question = arguments
    query = Query(Path(picture).read_bytes(), question)
    _, cold = open_and_ask(kind, Path(folder), int(threads), query)
    print(json.dumps(dataclasses.asdict(dataclasses.replace(cold, peak_mb=peak_memory_mb()))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
