"""Energy of a query from the counters of an Intel or AMD processor (RAPL). Most machines show them to root only."""

import time
from collections.abc import Callable
from pathlib import Path

from edgevl.bench.machine import read_text
from edgevl.bench.schema import Energy

_POWERCAP = Path("/sys/class/powercap")
SECONDS = 1.0  # idle, and again under load: the counters step every millisecond


class Rapl:
    """The packages of the processor. `open` returns None where nothing can be read."""

    def __init__(self, packages: list[Path]):
        self._packages = packages
        self._ranges = [float(read_text(package / "max_energy_range_uj") or 0) for package in packages]
        names = [read_text(package / "name") or package.name for package in packages]
        self.source = "RAPL " + " + ".join(names)

    @classmethod
    def open(cls, folder: Path = _POWERCAP) -> "Rapl | None":
        """folder: of the kernel's power capping. A package is `intel-rapl:0`; `intel-rapl:0:0` is a part of it."""
        found = [path for path in sorted(folder.glob("intel-rapl:*")) if path.name.count(":") == 1]
        packages = [path for path in found if (read_text(path / "name") or "").startswith("package")]
        readable = packages and all(read_text(path / "energy_uj") for path in packages)
        return cls(packages) if readable else None

    def read(self) -> list[float]:
        """Microjoules of each package since some moment; the counter starts again at its range."""
        return [float(read_text(package / "energy_uj") or 0) for package in self._packages]

    def joules(self, before: list[float], after: list[float]) -> float:
        steps = zip(before, after, self._ranges, strict=True)
        return sum(now - then + (limit if now < then else 0) for then, now, limit in steps) / 1e6


def energy_of(
    query: Callable[[], object],
    meter: Rapl | None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy | None:
    """Energy of one query above idle, over a second of queries after a second of nothing. None without a meter."""
    if meter is None:
        return None
    start, at_start = clock(), meter.read()
    sleep(SECONDS)
    rested, at_rest = clock(), meter.read()
    count = 0
    while clock() - rested < SECONDS:
        query()
        count += 1
    end, at_end = clock(), meter.read()
    idle_watts = meter.joules(at_start, at_rest) / (rested - start)
    used = meter.joules(at_rest, at_end) - idle_watts * (end - rested)
    return Energy(mj=round(1e3 * max(0.0, used) / count, 4), source=meter.source)
