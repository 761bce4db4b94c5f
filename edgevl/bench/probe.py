"""A fresh process from its start to the answer: load, first query, peak memory, and the whole of it.

`python -m edgevl.bench.probe KIND FOLDER THREADS IMAGE QUESTION` opens a pipeline, reads the picture, answers and
prints the answer, then what it measured as JSON. `ask_fresh_process` starts that process; peak memory and the scope
`end_to_end` only mean something there.
"""

import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from edgevl.bench.harness import Clock, Stopwatch, Subject, Trace
from edgevl.bench.pipelines import CANDIDATE, EdgePipeline, Pipeline, Query
from edgevl.bench.stats import percentile
from edgevl.errors import EdgeVLError, VerificationFailed
from edgevl.guard.children import be_limited
from edgevl.guard.processes import run_module
from edgevl.progress import Progress

TIMEOUT_S = 300


@dataclasses.dataclass(frozen=True)
class ColdStart:
    load_ms: float  # opening every file until the pipeline can be asked
    first_ms: dict[str, float]  # scope -> the first query's time
    peak_mb: float | None  # resident, in MiB; null when the process also did other things


def open_pipeline(kind: str, folder: Path, threads: int) -> Pipeline:
    """A bundle of ours or a built opponent. Opponents import torch, and a process of ours must not pay for that."""
    if kind == CANDIDATE:
        return EdgePipeline.from_bundle(folder, threads)
    from edgevl.bench.opponents import find_opponent

    return find_opponent(kind).open(folder, threads)


def open_and_ask(kind: str, folder: Path, threads: int, query: Query, clock: Clock = time.perf_counter):
    """Open and answer one query in this process. Returns (pipeline, `ColdStart` without peak memory, answer)."""
    start = clock()
    pipeline = open_pipeline(kind, folder, threads)
    loaded = clock()
    inputs = pipeline.prepare(query, Stopwatch(clock))
    prepared = clock()
    logits = pipeline.infer(inputs, Stopwatch(clock))
    inferred = clock()
    answer = pipeline.answer(logits)
    first = {"model": 1e3 * (inferred - prepared), "pipeline": 1e3 * (clock() - loaded)}
    return pipeline, ColdStart(1e3 * (loaded - start), first, None), answer


@dataclasses.dataclass
class FreshProcesses:
    """A pipeline asked once by each of several processes."""

    kind: str
    folder: Path
    trace: Trace
    starts: list[ColdStart] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, name: str, kind: str, folder: Path) -> "FreshProcesses":
        return cls(kind, folder, Trace(Subject(name, "end_to_end", lambda watch: None)))

    def cold(self) -> ColdStart:
        """The medians over the processes; of memory the peak over all."""
        peaks = [start.peak_mb for start in self.starts if start.peak_mb is not None]
        scopes = self.starts[0].first_ms
        return ColdStart(
            percentile([start.load_ms for start in self.starts], 50),
            {scope: percentile([start.first_ms[scope] for start in self.starts], 50) for scope in scopes},
            max(peaks, default=None),
        )

    def take(self, threads: int, picture: Path, question: str) -> None:
        seconds, cold = ask_fresh_process(self.kind, self.folder, threads, picture, question)
        self.starts.append(cold)
        self.trace.blocks.append([seconds])
        load, query = cold.load_ms / 1e3, cold.first_ms["pipeline"] / 1e3
        for stage, value in {"start, imports": seconds - load - query, "load": load, "query": query}.items():
            self.trace.stages.setdefault(stage, []).append(max(0.0, value))


def take_turns(
    subjects: Sequence[FreshProcesses], samples: Sequence[int], threads: int, picture: Path, question: str,
    progress: Progress | None = None,
) -> None:  # fmt: skip
    """`samples` processes of each subject, interleaved, after one of each that is not recorded.

    That one brings files into the page cache: the times are those of a process, not of a disk.
    """
    for subject in subjects:
        ask_fresh_process(subject.kind, subject.folder, threads, picture, question)
    for done in range(max(samples, default=0)):
        order = [subject for subject, count in zip(subjects, samples, strict=True) if done < count]
        for subject in order if done % 2 == 0 else reversed(order):
            subject.take(threads, picture, question)
        if progress:
            progress(done + 1, max(samples), "timing fresh processes")


def ask_fresh_process(kind: str, folder: Path, threads: int, picture: Path, question: str) -> tuple[float, ColdStart]:
    """Seconds from starting the process to having its answer, and what it measured itself."""
    arguments = [kind, str(folder), str(threads), str(picture), question]
    command, environment = run_module("edgevl.bench.probe", arguments)
    environment["OMP_NUM_THREADS"] = str(threads)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=environment, encoding="utf-8", errors="replace"
        )
        limit = threading.Timer(TIMEOUT_S, process.kill)
        limit.start()
        try:
            assert process.stdout is not None
            process.stdout.readline()  # the answer
            seconds = time.perf_counter() - start
            measured = process.stdout.read()
            status = process.wait()
        finally:
            limit.cancel()
            process.kill()  # where it is still there, after Ctrl-C
        errors.seek(0)
        reason = (errors.read().strip().splitlines() or ["no message"])[-1]
    if status < 0:
        raise VerificationFailed(f"{kind} ended a fresh process that asked it ({signal.Signals(-status).name})")
    if status:
        raise EdgeVLError(f"measuring {kind} in a fresh process failed with status {status}: {reason}")
    return seconds, ColdStart(**json.loads(measured))


def peak_memory_mb() -> float | None:
    """Peak resident memory of this process in MiB, or None where the system does not tell.

    Linux: VmHWM, which starts anew at exec. `ru_maxrss` does not: a child inherits the peak of the process that
    forked it.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except (OSError, StopIteration):
        pass
    if sys.platform != "darwin":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def main(arguments: list[str]) -> int:
    be_limited()
    kind, folder, threads, picture, question = arguments
    query = Query(Path(picture).read_bytes(), question)
    _, cold, answer = open_and_ask(kind, Path(folder), int(threads), query)
    print(json.dumps(answer), flush=True)
    print(json.dumps(dataclasses.asdict(dataclasses.replace(cold, peak_mb=peak_memory_mb()))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
