"""The machine: its cores, its neighbors, its clocks and its energy counters, here and in recorded folders of sysfs."""

import os
import threading
import time

import pytest

from edgevl.bench.energy import SECONDS, Rapl, energy_of
from edgevl.bench.machine import Neighbors, choose_cores, core_times, describe_machine, pinned_threads
from edgevl.bench.sensors import Reading, both, read_sensors, throttle_flags

linux_only = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process")


def test_machine_section_holds_what_a_reader_needs():
    machine = describe_machine([0.1, 0.1, 0.1], None)
    assert machine.cores >= 1 and machine.memory_gb > 0 and machine.cpu
    assert {"torch", "onnxruntime", "numpy"} <= set(machine.versions)
    assert machine.others_cpu is None  # not measured is null


def test_neighbors_do_not_count_ourselves():
    neighbors = Neighbors()
    assert neighbors.share() is None  # too early to tell
    until = time.perf_counter() + 1.0
    while time.perf_counter() < until:
        sum(range(1000))
    share = neighbors.share()
    assert share is not None and 0 <= share <= 1


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")


@linux_only
def test_every_thread_is_bound_and_let_go_again():
    before, seen, done = os.sched_getaffinity(0), [], threading.Event()
    older = threading.Thread(target=lambda: (done.wait(), seen.append(os.sched_getaffinity(0))))
    older.start()
    with pinned_threads(1) as cores:
        assert cores is not None
        assert os.sched_getaffinity(0) == set(cores) and len(cores) == 1
        done.set()
        older.join()
    assert seen == [set(cores)]  # a thread from before is bound too: onnxruntime may have opened its own
    assert os.sched_getaffinity(0) == before


@linux_only
def test_cores_are_physical_ones_first_and_core_0_last(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4, 5})
    for core, (siblings, khz) in enumerate([("0,3", 5e6), ("1,4", 5e6), ("2,5", 5e6)] * 2):
        write(tmp_path / f"cpu{core}", topology__thread_siblings_list=siblings, cpufreq__cpuinfo_max_freq=int(khz))
    assert [choose_cores(count, tmp_path) for count in (1, 2, 3, 4)] == [[1], [1, 2], [0, 1, 2], [0, 1, 2, 3]]
    write(tmp_path / "cpu0", topology__thread_siblings_list="0", cpufreq__cpuinfo_max_freq=6000000)
    assert choose_cores(1, tmp_path) == [0]  # it is the fastest


def stat(file, busy, seconds):
    """Write /proc/stat as Linux does: `busy` are the seconds that each core which is online worked, of `seconds`."""
    rows = {
        core: [0, 0, 0, round(100 * (seconds - used)), 0, 0, 0, round(100 * used), 0, 0] for core, used in busy.items()
    }
    total = [sum(row[place] for row in rows.values()) for place in range(10)]
    lines = [f"cpu  {' '.join(map(str, total))}"] + [
        f"cpu{core} {' '.join(map(str, row))}" for core, row in rows.items()
    ]
    file.write_text("\n".join([*lines, "intr 5 0 9", "ctxt 12", "btime 1", "softirq 4 1"]) + "\n", encoding="utf-8")
    return file


def shares(file, busy, *bound, seconds=10.0):
    """What neighbors took while the cores worked as `busy` says: for each choice of cores that we are bound to."""
    stat(file, dict.fromkeys(busy, 0.0), 0)
    watchers = [Neighbors(cores, file) for cores in bound]
    stat(file, busy, seconds)
    return [watcher.share() for watcher in watchers]


@linux_only
def test_a_neighbor_on_our_cores_is_seen_whole(tmp_path):
    """Sixteen cores, two of them ours; somebody takes one of the two: half of what we measure with, not a sixteenth."""
    busy = {core: 10.0 if core == 1 else 0.0 for core in range(16)}
    ours, everywhere = shares(tmp_path / "stat", busy, [1, 2], None)
    assert ours == pytest.approx(0.5, abs=0.1) and everywhere == pytest.approx(1 / 16, abs=0.02)


@linux_only
def test_cores_are_known_by_their_number_where_one_is_offline(tmp_path):
    """Core 4 is offline, so core 5 is the fifth of the list, and what the sixth place says is nobody's."""
    busy = {0: 0.0, 1: 0.0, 2: 0.0, 3: 0.0, 5: 5.0, 6: 0.0, 7: 10.0}
    last, idle, taken, mixed = shares(tmp_path / "stat", busy, [5], [6], [7], [3, 5])
    assert last == pytest.approx(0.5, abs=0.1)
    assert idle == pytest.approx(15 / 70, abs=0.05)  # the whole machine's share, not that of core 7 behind the gap
    assert taken == pytest.approx(1.0, abs=0.1) and mixed == pytest.approx(0.25, abs=0.05)


@linux_only
def test_a_core_that_went_offline_leaves_the_machine_to_judge(tmp_path):
    assert shares(tmp_path / "stat", {0: 5.0, 1: 5.0}, [6]) == [pytest.approx(0.5, abs=0.1)]


def test_the_cores_of_this_machine_are_those_that_a_process_may_use():
    if hasattr(os, "sched_getaffinity"):
        assert os.sched_getaffinity(0) <= set(core_times())
    assert all(0 <= busy <= total for busy, total in core_times().values())


def test_clocks_are_read_by_number_too(tmp_path):
    for core, khz in {0: 1_000_000, 1: 2_000_000, 5: 3_000_000}.items():
        write(tmp_path / f"cpu{core}", cpufreq__scaling_cur_freq=khz)
    assert read_sensors(None, None, tmp_path).frequency_mhz == 2000.0


def test_sensors_of_a_recorded_machine(tmp_path):
    for core, (khz, count) in enumerate([(3_400_000, 0), (3_200_000, 7), (800_000, 90)]):
        write(tmp_path / f"cpu{core}", cpufreq__scaling_cur_freq=khz, thermal_throttle__core_throttle_count=count)
    reading = read_sensors([0, 1], 50.0, tmp_path)
    assert (reading.frequency_mhz, reading.throttles, reading.gmacs) == (3300.0, 7, 50.0)


def test_a_machine_that_tells_nothing_gives_nulls(tmp_path):
    reading = read_sensors([0, 1], None, tmp_path)
    assert (reading.frequency_mhz, reading.throttles) == (None, None)
    assert both(None, 3.0) is None and not throttle_flags(reading, reading)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (Reading(frequency_mhz=3400), Reading(frequency_mhz=2100), "the clock fell from 3400 to 2100 MHz"),
        (Reading(throttles=3), Reading(throttles=5), "slowed itself down 2 times"),
        (Reading(gmacs=100), Reading(gmacs=80), "the same matrix product fell from 100.0 to 80.0 GMAC/s"),
    ],
)
def test_a_throttled_machine_is_flagged(before, after, said):
    (flag,) = throttle_flags(before, after)
    assert flag.code == "throttled" and flag.invalidates and said in flag.text
    assert not throttle_flags(before, before)


class Package:
    """A recorded folder of RAPL whose counter runs: `idle` watts always, `load` more while a query takes its time."""

    def __init__(self, folder, idle, load, start, limit=1e9):
        self.now, self.joules, self.start, self.limit = 0.0, 0.0, start, limit
        self.idle, self.load, self.folder = idle, load, folder
        write(folder / "intel-rapl:0", name="package-0", max_energy_range_uj=int(limit), energy_uj=start)
        write(folder / "intel-rapl:0:0", name="core", max_energy_range_uj=1, energy_uj=5)
        write(folder / "intel-rapl:1", name="psys", max_energy_range_uj=1, energy_uj=5)

    def spend(self, seconds, watts):
        self.now, self.joules = self.now + seconds, self.joules + seconds * watts
        write(self.folder / "intel-rapl:0", energy_uj=int((self.start + 1e6 * self.joules) % self.limit))

    def sleep(self, seconds):
        self.spend(seconds, self.idle)

    def query(self):
        self.spend(0.01, self.idle + self.load)


@pytest.mark.parametrize("start", [1_000, 999_000_000])  # the second counter starts again during the run
def test_energy_of_a_query_is_above_idle(tmp_path, start):
    package = Package(tmp_path, idle=8.0, load=20.0, start=start)
    found = energy_of(package.query, Rapl.open(tmp_path), lambda: package.now, package.sleep)
    assert found is not None and found.source == "RAPL package-0" and SECONDS == 1
    assert found.mj == pytest.approx(200, rel=0.01)  # 20 W above idle for 10 ms


def test_no_counter_no_energy(tmp_path):
    assert Rapl.open(tmp_path) is None
    assert energy_of(lambda: None, None) is None
