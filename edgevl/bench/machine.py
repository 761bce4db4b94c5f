"""What a measurement ran on, how busy that was, and how many threads it may use."""

import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from edgevl.bench.schema import Machine

PACKAGES = ("edgevl", "torch", "torchvision", "onnxruntime", "onnx", "coremltools", "numpy", "pillow")
_SYSTEM = Path("/sys/devices/system/cpu")
_STAT = Path("/proc/stat")
Times = tuple[float, float]  # seconds of a core since it started: busy, and in all


def describe_machine(
    load_before: list[float] | None = None, others_cpu: float | None = None, cores: int | None = None, **observed: Any
) -> Machine:
    """The machine section of a report.

    Args:
        load_before, others_cpu: what was observed before and during the run.
        cores: that the process may use when it is not bound; None counts them now.
        observed: other fields of `Machine`.
    """
    import psutil

    return Machine(
        cpu=cpu_name(),
        cores=cores or usable_cores(),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        os=platform.platform(),
        python=platform.python_version(),
        versions=installed_versions(),
        load_before=load_before,
        others_cpu=None if others_cpu is None else round(others_cpu, 4),
        governor=read_text(_SYSTEM / "cpu0/cpufreq/scaling_governor"),
        **observed,
    )


def cpu_name() -> str:
    """The processor's own name (Linux: /proc/cpuinfo; macOS: sysctl), else what Python knows."""
    if sys.platform == "darwin":
        import subprocess

        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        said = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace").stdout
        return said.strip() or platform.processor()
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Logical cores that this process may run on, which a container or taskset makes fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def installed_versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def load_average() -> list[float] | None:
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


class Neighbors:
    """Share of processor time that other processes took between `start` and `share`.

    It is taken over the measured cores and over the whole machine, and the larger counts: a neighbor on one of two
    measured cores is half of what we need, if a small part of the machine, and one on all other cores takes caches,
    memory and clock from us. A load average cannot tell our own minutes of work from a neighbor's; processor time can.
    Time stolen by a hypervisor counts as others'.
    """

    def __init__(self, cores: Sequence[int] | None = None, stat: Path = _STAT):
        """cores: those that this process is bound to; None where it is not. stat: Linux's counters of the cores."""
        import psutil

        self._process, self._cores, self._stat = psutil.Process(), cores, stat
        self._start = self._read()

    def _read(self) -> list[Times]:
        """(seconds busy with others, seconds in all) of the machine and of the measured cores."""
        own = sum(self._process.cpu_times()[:4])  # user, system, and those of children that ended
        each = core_times(self._stat)
        ours = [each[core] for core in self._cores or () if core in each] or list(each.values())
        return [
            (sum(busy for busy, _ in part) - own, sum(total for _, total in part)) for part in (each.values(), ours)
        ]

    def share(self) -> float | None:
        """0..1; None when too little time has passed for the system's counters (10 ms steps) to tell."""
        shares = []
        for (others, total), (others_then, total_then) in zip(self._read(), self._start, strict=True):
            if total - total_then < 0.5:
                return None
            shares.append((others - others_then) / (total - total_then))
        return min(1.0, max(0.0, *shares))


def core_times(stat: Path = _STAT) -> dict[int, Times]:
    """The times of each core that is online, by the number that `sched_setaffinity` knows it by.

    Not psutil's list: it has no entry for a core that is offline, and the places behind it are those of other cores.
    """
    lines = [line.split() for line in (read_text(stat) or "").splitlines() if re.match(r"cpu\d", line)]
    if not lines:  # no Linux: there a process is not bound to cores, and only the sum is asked for
        import psutil

        return {place: _psutil_times(core) for place, core in enumerate(psutil.cpu_times(percpu=True))}
    ticks = os.sysconf("SC_CLK_TCK")
    return {int(name[3:]): _ticked([int(value) / ticks for value in values]) for name, *values in lines}


def _ticked(values: Sequence[float]) -> Times:
    """From user, nice, system, idle, iowait, irq, softirq, steal; behind them guests, who are in user already."""
    total = sum(values[:8])
    return total - sum(values[3:5]), total


def _psutil_times(core: Any) -> Times:
    total = sum(core) - getattr(core, "guest", 0.0) - getattr(core, "guest_nice", 0.0)
    return total - core.idle - getattr(core, "iowait", 0.0), total


@contextmanager
def pinned_threads(threads: int) -> Iterator[list[int] | None]:
    """Torch's intra-op threads, and `threads` cores for the whole process, for the duration.

    Yields the cores; None where the system cannot bind a process (macOS, Windows). ONNX sessions get their number of
    threads when they are opened, and the cores from here, whether they are opened inside or were before.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with _bound(choose_cores(threads)) as cores:
            yield cores
    finally:
        torch.set_num_threads(before)


def choose_cores(threads: int, system: Path = _SYSTEM) -> list[int] | None:
    """The logical cores to measure on: one of each physical core first, the fastest first, core 0 last.

    Core 0 serves most interrupts. `system` is the folder of the cores in sysfs.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None

    def key(core: int) -> tuple[int, int, bool, int]:
        siblings = _cores_in(read_text(system / f"cpu{core}/topology/thread_siblings_list") or str(core))
        fastest = int(read_text(system / f"cpu{core}/cpufreq/cpuinfo_max_freq") or 0)
        return siblings.index(core) if core in siblings else 0, -fastest, core == 0, core

    return sorted(sorted(os.sched_getaffinity(0), key=key)[:threads])


def _cores_in(text: str) -> list[int]:
    """ "0-1,4" is [0, 1, 4]."""
    ends = [part.split("-") for part in text.split(",")]
    return [core for end in ends for core in range(int(end[0]), int(end[-1]) + 1)]


@contextmanager
def _bound(cores: list[int] | None) -> Iterator[list[int] | None]:
    """Bind every thread that this process has to `cores`; threads and processes that come later inherit them."""
    if cores is None:
        yield None
        return
    before = os.sched_getaffinity(0)
    _bind_all(cores)
    try:
        yield cores
    finally:
        _bind_all(before)


def _bind_all(cores: Iterable[int]) -> None:
    """`os.sched_setaffinity(0, ...)` binds the calling thread only, hence the list of all."""
    tasks = Path("/proc/self/task")
    for thread in [int(task.name) for task in tasks.iterdir()] if tasks.is_dir() else [0]:
        with suppress(ProcessLookupError):  # it ended just now
            os.sched_setaffinity(thread, cores)


def read_text(path: str | Path) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
