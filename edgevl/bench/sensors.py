"""Whether the machine kept its speed: clocks, temperature, throttle counters, and a yardstick that it ran itself.

Many machines tell nothing (a virtual one shows no clock at all), so the same matrix product is timed before and after
the run: what slows it down slows the model down too.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edgevl.bench.machine import read_text
from edgevl.bench.presets import NOISE_DRIFT
from edgevl.bench.schema import Flag

_CORES = Path("/sys/devices/system/cpu")


@dataclasses.dataclass(frozen=True)
class Reading:
    """One look at the machine. What it does not tell is None."""

    frequency_mhz: float | None = None  # mean over the measured cores
    temperature_c: float | None = None  # of the hottest sensor
    throttles: int | None = None  # how often these cores were slowed down since the machine started
    gmacs: float | None = None  # of the yardstick, 1e9 multiply-adds a second


def read_sensors(cores: Sequence[int] | None, gmacs: float | None = None, system: Path = _CORES) -> Reading:
    """Read them now, right after work: the clock of an idle core says nothing. `system`: the cores in sysfs."""
    watched = [folder.name.removeprefix("cpu") for folder in system.glob("cpu[0-9]*")] if cores is None else cores
    clocks = [read_text(system / f"cpu{core}/cpufreq/scaling_cur_freq") for core in watched]
    counts = [read_text(system / f"cpu{core}/thermal_throttle/core_throttle_count") for core in watched]
    khz = [int(clock) for clock in clocks if clock]
    return Reading(
        frequency_mhz=sum(khz) / len(khz) / 1e3 if khz else None,
        temperature_c=hottest(),
        throttles=sum(int(count) for count in counts if count) if any(counts) else None,
        gmacs=gmacs,
    )


def hottest() -> float | None:
    """Degrees Celsius of the hottest sensor; None where there is none."""
    import psutil

    read = getattr(psutil, "sensors_temperatures", None)
    found = [sensor.current for sensors in (read() if read else {}).values() for sensor in sensors]
    return max(found, default=None)


def both(before: float | None, after: float | None) -> tuple[float, float] | None:
    return None if before is None or after is None else (round(before, 1), round(after, 1))


def throttle_flags(before: Reading, after: Reading) -> list[Flag]:
    """Flag a machine that was slower after the run than before it."""
    found = []
    if before.throttles is not None and after.throttles is not None and after.throttles > before.throttles:
        found.append(f"the processor slowed itself down {after.throttles - before.throttles} times")
    if fell(before.frequency_mhz, after.frequency_mhz):
        found.append(f"the clock fell from {before.frequency_mhz:.0f} to {after.frequency_mhz:.0f} MHz")
    if fell(before.gmacs, after.gmacs):
        text = f"the same matrix product fell from {before.gmacs:.1f} to {after.gmacs:.1f} GMAC/s"
        found.append(f"{text} between the start and the end of the run")
    return [Flag(code="throttled", text="; ".join(found))] if found else []


def fell(before: float | None, after: float | None) -> bool:
    """Did a speed fall by more than what a run may drift?"""
    return before is not None and after is not None and before > after * (1 + NOISE_DRIFT)
