"""What the board says of itself: model, power mode, clocks, temperatures, power rails, throttling.

Works without root: what only root may read (`jetson_clocks --show`, some clocks of tegrastats) comes from sysfs then.
`root` is where the file system lies, for tests.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from problems import BAD_INPUT, MISSING, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path("/")
INTERVAL_MS = 50  # of tegrastats: with 100 its own work makes it a little slower than 10 samples a second
JETPACK_OF_L4T = {"32": "4", "34": "5", "35": "5", "36": "6", "38": "7", "39": "7"}
OFF = -200  # degrees: tegrastats prints -256 for the sensor of a part that is switched off


class Reading(NamedTuple):
    seconds: float  # time.perf_counter when it arrived
    power_mw: dict[str, float]
    temperature_c: dict[str, float]
    clock_mhz: dict[str, float]


def describe_board(root: Path = ROOT) -> dict[str, Any] | None:
    """Model, releases, power mode and whether clocks are locked; None where nothing says that this is a board."""
    model = _read(root / "proc/device-tree/model").strip("\0\n ")
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _read(root / "etc/nv_tegra_release"))
    if not (model or release or shutil.which("tegrastats")):
        return None
    packaged = _output("dpkg-query", "--show", "--showformat", "${Version}", "nvidia-jetpack")
    return {
        "model": model or "unknown board",
        "l4t": f"{release[1]}.{release[2]}" if release else None,
        "jetpack": (packaged or "").strip() or JETPACK_OF_L4T.get(release[1] if release else ""),
        "power_mode": power_mode(_output("nvpmodel", "-q") or ""),
        "clocks_locked": clocks_locked(root),
    }


def power_mode(text: str) -> str | None:
    """Of `nvpmodel -q`: "MAXN", "15W", "MODE_30W" …"""
    found = re.search(r"NV Power Mode:\s*(\S+)", text)
    return found[1] if found else None


def clocks_locked(root: Path = ROOT) -> bool | None:
    """Does each part run at one clock? By `jetson_clocks --show`, which wants root, else by sysfs; None: unknown."""
    shown = locked_in(_output("jetson_clocks", "--show") or "")
    if shown is not None:
        return shown
    pairs = [(_number(core / "scaling_min_freq"), _number(core / "scaling_max_freq")) for core in _cores(root)]
    pairs += [(_number(gpu / "min_freq"), _number(gpu / "max_freq")) for gpu in _gpus(root)]
    pairs = [pair for pair in pairs if None not in pair]
    return all(low == high for low, high in pairs) if pairs else None


def locked_in(shown: str) -> bool | None:
    """Of the output of `jetson_clocks --show`; None if it holds no clock (without root it only complains)."""
    lines = [line for line in shown.splitlines() if re.match(r"(cpu\d+|GPU)\b", line) and "Online=0" not in line]
    clocks = [re.search(r"MinFreq=(\d+) MaxFreq=(\d+)", line) for line in lines]
    known = [found for found in clocks if found]
    return all(found[1] == found[2] for found in known) if known else None


@contextlib.contextmanager
def locked_clocks() -> Iterator[None]:
    """`jetson_clocks`, and the clocks of before afterwards. Asks for the password of sudo if it must."""
    if not shutil.which("jetson_clocks"):
        raise Problem(MISSING, "--lock-clocks needs jetson_clocks, which comes with Jetson Linux: leave it out here")
    command = ([] if os.geteuid() == 0 else ["sudo"]) + ["jetson_clocks"]
    with tempfile.TemporaryDirectory() as folder:
        saved = os.path.join(folder, "clocks")
        try:
            subprocess.run([*command, "--store", saved], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            raise Problem(BAD_INPUT, "jetson_clocks could not lock the clocks: it needs root (sudo)") from None
        try:
            yield
        finally:
            subprocess.run([*command, "--restore", saved], stdout=subprocess.DEVNULL)


def throttling(root: Path = ROOT) -> dict[str, int]:
    """What slows the board down: alerts of thermal zones (state now), events of over-current (count since boot)."""
    found = {}
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind, state = _read(device / "type").strip(), _number(device / "cur_state")
        if kind.endswith("-alert") and state:
            found[kind] = int(state)
    for counter in sorted((root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt")):
        found[counter.name] = int(_number(counter) or 0)
    return found


def throttled_between(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Alerts on before or after, counters that grew: what held the board back meanwhile."""
    alerts = [name for name in {**before, **after} if name.endswith("-alert")]
    events = [name for name, count in after.items() if name.endswith("_cnt") and count > before.get(name, 0)]
    return sorted(alerts + events)


def parse_tegrastats(line: str, seconds: float = 0.0) -> Reading:
    """One line of tegrastats, of JetPack 5 to 7. A power is `now/average` or `now/average/peak`: now is taken."""
    power = {name: float(now) for name, now in re.findall(r"\b([A-Z][A-Z0-9_]+) (-?\d+)mW", line) if name != "NC"}
    degrees = re.findall(r"\b([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C\b", line)
    temperature = {name.lower(): float(value) for name, value in degrees if float(value) > OFF}
    clocks = {"GPU": r"GR3D_FREQ (?:\d+%)?@\[?([\d,]+)", "EMC": r"EMC_FREQ (?:\d+%)?@(\d+)"}
    found = {unit: re.search(pattern, line) for unit, pattern in clocks.items()}
    values = {unit: max(map(float, match[1].strip(",").split(","))) for unit, match in found.items() if match}
    cores = re.search(r"CPU \[([^\]]*)\](?:@(\d+))?", line)
    speeds = [float(mhz) for mhz in re.findall(r"@(\d+)", cores[0])] if cores else []
    return Reading(seconds, power, temperature, {**({"CPU": max(speeds)} if speeds else {}), **values})


def read_sysfs(root: Path = ROOT) -> Reading:
    """The same from the INA power monitors (mV x mA), thermal zones and clocks in sysfs."""
    power = {}
    for label in (root / "sys/class/hwmon").glob("hwmon*/in[123]_label"):
        name, channel = _read(label).strip(), label.name[2]
        millivolt, milliampere = (
            _number(label.with_name(f"in{channel}_input")),
            _number(label.with_name(f"curr{channel}_input")),
        )
        if name and name != "NC" and millivolt is not None and milliampere is not None:
            power[name] = millivolt * milliampere / 1000
    temperature = {}
    for zone in (root / "sys/class/thermal").glob("thermal_zone*"):
        value = _number(zone / "temp")  # of a part that is off: cannot be read, or -256
        if value is not None and value / 1000 > OFF:
            temperature[re.sub("-thermal$", "", _read(zone / "type").strip())] = value / 1000
    speeds = [_number(core / "scaling_cur_freq") for core in _cores(root)]
    clocks = {"CPU": max(speed / 1e3 for speed in speeds if speed)} if any(speeds) else {}
    return Reading(time.perf_counter(), power, temperature, {**clocks, **_gpu_clock(root)})


class Sensors:
    """Readings taken beside the measurement: lines of tegrastats where it is, else sysfs at the same rate.

    The thread keeps lines and the time of their arrival; they are parsed afterwards, so that it hardly takes the
    interpreter from what is being timed.
    """

    def __init__(self, root: Path = ROOT):
        self._root, self._lines, self._readings = root, [], []
        self._stop, self._process = threading.Event(), None
        with contextlib.suppress(OSError):
            command = ["tegrastats", "--interval", str(INTERVAL_MS)]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._thread = threading.Thread(target=self._follow if self._process else self._poll, daemon=True)

    def __enter__(self) -> Sensors:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        if self._process:
            self._process.terminate()
            self._process.wait()
        self._thread.join(2)

    def _follow(self) -> None:
        assert self._process and self._process.stdout
        for line in iter(self._process.stdout.readline, b""):
            # Without root tegrastats tells no clock of the GPU, and sysfs does.
            clock = {} if b"GR3D_FREQ" in line and b"@[" in line else _gpu_clock(self._root)
            self._lines.append((time.perf_counter(), line, clock))

    def _poll(self) -> None:
        while not self._stop.wait(INTERVAL_MS / 1000):
            self._readings.append(read_sysfs(self._root))

    def between(self, start: float, end: float) -> list[Reading]:
        """Readings that arrived in this time of time.perf_counter."""
        lines = [entry for entry in list(self._lines) if start <= entry[0] <= end]
        parsed = []
        for seconds, line, clock in lines:
            reading = parse_tegrastats(line.decode("utf-8", "replace"), seconds)
            parsed.append(reading._replace(clock_mhz={**clock, **reading.clock_mhz}))
        return parsed + [reading for reading in list(self._readings) if start <= reading.seconds <= end]


def rate(readings: list[Reading]) -> float | None:
    """Readings a second."""
    if len(readings) < 2:
        return None
    return (len(readings) - 1) / (readings[-1].seconds - readings[0].seconds)


def power_means(readings: Iterable[Reading]) -> dict[str, list[float]]:
    """rail -> [mean, peak, readings], power in mW."""
    rails: dict[str, list[float]] = {}
    for reading in readings:
        for name, value in reading.power_mw.items():
            rails.setdefault(name, []).append(value)
    return {name: [sum(values) / len(values), max(values), len(values)] for name, values in rails.items()}


def input_rails(names: Iterable[str]) -> list[str]:
    """The rails that together are the power of the module, each milliwatt once.

    Orin NX and Nano measure their input (VDD_IN), Thor with JetPack 7.2 the board's (VIN). AGX Orin and Thor have none:
    there it is the sum of the rails, less VDDQ, which VIN_SYS_5V0 feeds.
    """
    names = sorted(names)
    for whole in ("VDD_IN", "VIN"):
        if whole in names:
            return [whole]
    return [name for name in names if not name.startswith("VDDQ")]


def energy_per_query(
    idle: dict[str, list[float]], busy: dict[str, list[float]], seconds: float, queries: int
) -> dict[str, Any] | None:
    """Millijoules of one query above idle; None if a rail was not read in both, or idle drew as much."""
    rails = input_rails(busy)
    if not rails or any(name not in idle or min(idle[name][2], busy[name][2]) < 3 for name in rails):
        return None
    above = sum(busy[name][0] - idle[name][0] for name in rails)  # mW
    return {"mj": round(above * seconds / queries, 4), "source": " + ".join(rails)} if above > 0 else None


def summary(idle: list[Reading], busy: list[Reading]) -> dict[str, Any]:
    """Rails, temperatures (at the start, highest) and clocks (lowest, highest) of a run, as the report has them."""
    quiet = power_means(idle)
    rails = [
        {"name": name, "idle_mw": round(quiet[name][0], 1) if name in quiet else None, "mean_mw": round(mean, 1),
         "peak_mw": peak, "samples": int(count)}
        for name, (mean, peak, count) in sorted(power_means(busy).items())
    ]  # fmt: skip
    temperatures: dict[str, list[float]] = {}
    clocks: dict[str, list[float]] = {}
    for reading in busy:
        for name, value in reading.temperature_c.items():
            temperatures.setdefault(name, []).append(value)
        for name, value in reading.clock_mhz.items():
            clocks.setdefault(name, []).append(value)
    hertz = rate(busy)
    return {
        "sensor_hz": None if hertz is None else round(hertz, 2),
        "rails": rails,
        "temperature_c": {name: [values[0], max(values)] for name, values in sorted(temperatures.items())},
        "clocks_mhz": {name: [min(values), max(values)] for name, values in sorted(clocks.items())},
    }


def _cores(root: Path) -> list[Path]:
    return sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))


def _gpus(root: Path) -> list[Path]:
    """17000000.gpu of JetPack 6 and 7 on Orin, 17000000.ga10b of JetPack 5, gpu-gpc-0 of Thor."""
    folders = (root / "sys/class/devfreq").glob("*")
    return sorted(folder for folder in folders if re.search(r"\.(gpu|ga10b|gv11b)$|^gpu-gpc", folder.name))


def _gpu_clock(root: Path) -> dict[str, float]:
    clocks = [clock for clock in (_number(gpu / "cur_freq") for gpu in _gpus(root)) if clock is not None]
    return {"GPU": max(clocks) / 1e6} if clocks else {}


def _read(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _number(path: Path) -> float | None:
    with contextlib.suppress(ValueError):
        return float(_read(path))
    return None


def _output(*command: str) -> str | None:
    """Standard output of a command that ended well; None if it is not there or did not."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10)
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "replace")
    return None


def processor() -> str:
    """The processor's name: lscpu knows Arm's cores, of which /proc/cpuinfo gives numbers only."""
    for text in (_output("lscpu") or "", _read(Path("/proc/cpuinfo"))):
        found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE | re.IGNORECASE)
        if found and found[1].strip() != "-":
            return found[1].strip()
    return os.uname().machine
