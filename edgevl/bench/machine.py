"""What a measurement ran on, how busy that was, and how many threads it may use."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from edgevl.bench.schema import Machine

PACKAGES = ("edgevl", "torch", "torchvision", "onnxruntime", "onnx", "coremltools", "numpy", "pillow")


def describe_machine(load_before: list[float] | None = None, others_cpu: float | None = None) -> Machine:
    """The machine section of a report; the two arguments are what was observed around and during the run."""
    import psutil

    return Machine(
        cpu=cpu_name(),
        cores=usable_cores(),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        os=platform.platform(),
        python=platform.python_version(),
        versions=installed_versions(),
        load_before=load_before,
        others_cpu=None if others_cpu is None else round(others_cpu, 4),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    )


def cpu_name() -> str:
    """The processor's own name (Linux: /proc/cpuinfo; macOS: sysctl), else what Python knows."""
    if sys.platform == "darwin":
        import subprocess

        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or platform.processor()
    for line in (_read("/proc/cpuinfo") or "").splitlines():
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
    """Share of the machine's processor time that other processes took between `start` and `share`.

    A load average cannot tell our own minutes of work from a neighbor's; processor time can. Time stolen by a
    hypervisor counts as others'.
    """

    def __init__(self) -> None:
        import psutil

        self._psutil = psutil
        self._process = psutil.Process()
        self._start = self._read()

    def _read(self) -> tuple[float, float]:
        """Seconds that the machine was busy with others, and seconds in all, both over all cores."""
        machine = self._psutil.cpu_times()
        total = sum(machine) - getattr(machine, "guest", 0.0) - getattr(machine, "guest_nice", 0.0)
        idle = machine.idle + getattr(machine, "iowait", 0.0)
        own = sum(self._process.cpu_times()[:4])  # user, system, and those of children that ended
        return total - idle - own, total

    def share(self) -> float | None:
        """0..1; None when too little time has passed for the system's counters (10 ms steps) to tell."""
        others, total = (now - then for now, then in zip(self._read(), self._start, strict=True))
        return None if total < 0.5 else min(1.0, max(0.0, others / total))


@contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """Torch's intra-op threads for the duration; ONNX sessions get theirs when they are opened."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
