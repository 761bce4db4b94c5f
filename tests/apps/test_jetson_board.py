"""Sensors, clocks and modes of a board, from what real boards printed (see recorded/README.md) and from sysfs."""

import time
from pathlib import Path

import pytest

RECORDED = Path(__file__).parent / "recorded"

ORIN_SYSFS = {
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN", "sys/class/hwmon/hwmon1/in1_input": 4984,
    "sys/class/hwmon/hwmon1/curr1_input": 1856,
    "sys/class/hwmon/hwmon1/in2_label": "NC", "sys/class/hwmon/hwmon1/in2_input": 0,
    "sys/class/hwmon/hwmon1/curr2_input": 0,
    "sys/class/hwmon/hwmon1/in7_label": "sum of shunt voltages", "sys/class/hwmon/hwmon1/in7_input": 10,
    "sys/class/hwmon/hwmon3/oc1_event_cnt": 0, "sys/class/hwmon/hwmon3/oc3_event_cnt": 27,
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal", "sys/class/thermal/thermal_zone0/temp": 46031,
    "sys/class/thermal/thermal_zone1/type": "cv0-thermal", "sys/class/thermal/thermal_zone1/temp": -256000,
    "sys/class/thermal/cooling_device0/type": "pwm-fan", "sys/class/thermal/cooling_device0/cur_state": 2,
    "sys/class/thermal/cooling_device1/type": "gpu-throttle-alert", "sys/class/thermal/cooling_device1/cur_state": 0,
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": 729600,
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": 729600,
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": 1510400,
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": 1510400,
    "sys/class/devfreq/17000000.gpu/cur_freq": 306000000,
    "sys/class/devfreq/17000000.gpu/min_freq": 306000000,
    "sys/class/devfreq/17000000.gpu/max_freq": 624750000,
    "sys/class/devfreq/15340000.vic/cur_freq": 115200000,
}  # fmt: skip


def first_line(name: str) -> str:
    return (RECORDED / f"{name}.tegrastats.txt").read_text(encoding="utf-8").splitlines()[0]


@pytest.mark.parametrize(
    ("name", "power", "clocks", "temperature"),
    [
        ("agx-orin-jp5", {"VDD_GPU_SOC": 2399, "VDD_CPU_CV": 400, "VIN_SYS_5V0": 4032, "VDDQ_VDD2_1V8AO": 301},
         {"CPU": 729, "GPU": 0, "EMC": 2133},
         {"cpu": 42.593, "tboard": 32, "soc2": 39.343, "tdiode": 33.25, "soc0": 39.375, "tj": 42.593, "soc1": 40.468}),
        ("orin-nx-jp5", {"VDD_IN": 5299, "VDD_CPU_GPU_CV": 773, "VDD_SOC": 1424}, {"CPU": 729, "GPU": 611, "EMC": 2133},
         {"cv0": 45.812, "cpu": 47.937, "soc2": 46.093, "soc0": 46.968, "cv1": 46.406, "gpu": 45.875, "tj": 48.875,
          "soc1": 48.875, "cv2": 45.75}),
        ("agx-orin-jp6", {"VDD_GPU_SOC": 2412, "VDD_CPU_CV": 1607, "VIN_SYS_5V0": 4707},
         {"CPU": 2201, "GPU": 0, "EMC": 2133}, {"cpu": 52.562, "soc2": 48.437, "soc0": 49.093, "tj": 52.562,
                                                "soc1": 49.656}),
        ("agx-orin-jp6-user", {"VDD_GPU_SOC": 3178, "VDD_CPU_CV": 794, "VIN_SYS_5V0": 4543}, {"CPU": 729},
         {"cpu": 52.875, "soc2": 48.656, "soc0": 49.062, "tj": 52.875, "soc1": 49.031}),
        ("orin-nano-jp7", {"VDD_IN": 3582, "VDD_CPU_GPU_CV": 523, "VDD_SOC": 1127},
         {"CPU": 729, "GPU": 305, "EMC": 665},
         {"cpu": 45.812, "soc2": 44.843, "soc0": 46.093, "gpu": 46.843, "tj": 46.843, "soc1": 46.281}),
        ("thor-jp7", {"VDD_GPU": 0, "VDD_CPU_SOC_MSS": 4165, "VIN_SYS_5V0": 4126}, {"CPU": 972, "GPU": 0, "EMC": 665},
         {"cpu": 34.468, "tj": 34.5, "soc012": 33.781, "soc345": 34.5}),
        ("thor-jp7.2", {"VDD_GPU": 37939, "VDD_CPU_SOC_MSS": 30059, "VIN_SYS_5V0": 15486, "VIN": 124486},
         {"CPU": 2601, "GPU": 1574, "EMC": 4266},
         {"cpu": 58.25, "tj": 66.625, "gpu": 56.937, "soc012": 55.375, "soc345": 55.812}),
    ],
)  # fmt: skip
def test_a_line_of_tegrastats(jetson, name, power, clocks, temperature):
    reading = jetson.jetson_board.parse_tegrastats(first_line(name), 1.5)
    assert reading == (1.5, power, temperature, clocks)


def test_a_line_that_is_none_gives_nothing(jetson):
    assert jetson.jetson_board.parse_tegrastats("tegrastats: command not found") == (0.0, {}, {}, {})


@pytest.mark.parametrize(
    ("name", "rails"),
    [
        ("agx-orin-jp5", ["VDD_CPU_CV", "VDD_GPU_SOC", "VIN_SYS_5V0"]),
        ("orin-nx-jp5", ["VDD_IN"]),
        ("orin-nano-jp7", ["VDD_IN"]),
        ("thor-jp7", ["VDD_CPU_SOC_MSS", "VDD_GPU", "VIN_SYS_5V0"]),
        ("thor-jp7.2", ["VIN"]),
    ],
)
def test_the_power_of_a_module_counts_no_rail_twice(jetson, name, rails):
    board = jetson.jetson_board
    assert board.input_rails(board.parse_tegrastats(first_line(name)).power_mw) == rails


def test_energy_is_what_is_above_idle(jetson):
    energy = jetson.jetson_board.energy_per_query
    idle, busy = {"VDD_IN": [3500.0, 3600.0, 40]}, {"VDD_IN": [9500.0, 9900.0, 100]}
    assert energy(idle, busy, 10.0, 2000) == {"mj": 30.0, "source": "VDD_IN"}  # 6 W for 10 s, 2000 queries
    assert energy(busy, idle, 10.0, 2000) is None  # less than idle: nothing that could be told
    assert energy({}, busy, 10.0, 2000) is None and energy(idle, {}, 10.0, 2000) is None
    assert energy({"VDD_IN": [3500.0, 3600.0, 2]}, busy, 10.0, 2000) is None  # two readings are no idle power
    assert energy({"VDD_CPU_CV": [1.0, 1.0, 40]}, {**busy, "VDD_SOC": [1.0, 1.0, 9]}, 1.0, 1) is None


def test_modes_and_locked_clocks(jetson):
    board = jetson.jetson_board

    def shown(name: str) -> str:
        return (RECORDED / f"{name}.jetson_clocks.txt").read_text(encoding="utf-8")

    assert board.power_mode("NV Power Mode: 25W\n1\n") == "25W"
    assert board.power_mode("NVPM WARN: fan mode is not set!\nNV Power Mode: MODE_30W_2CORE\n2\n") == "MODE_30W_2CORE"
    assert board.power_mode("") is None
    assert board.power_mode(shown("orin-nano-jp7")) == "25W"
    assert board.locked_in(shown("agx-orin-jp5")) is False
    assert board.locked_in(shown("orin-nano-jp7")) is False
    assert board.locked_in(shown("nano-locked")) is True  # although its core 2 is offline
    assert board.locked_in("Error: Run this script(/usr/bin/jetson_clocks) as a root user\n") is None


def test_without_tegrastats_sysfs_is_read(jetson, files):
    board, root = jetson.jetson_board, files(ORIN_SYSFS)
    reading = board.read_sysfs(root)
    assert reading.power_mw == {"VDD_IN": pytest.approx(4984 * 1856 / 1000)}
    assert reading.temperature_c == {"cpu": 46.031}
    assert reading.clock_mhz == {"CPU": 1510.4, "GPU": 306.0}
    assert board.clocks_locked(root) is False
    (root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq").write_text("1510400\n", encoding="utf-8")
    (root / "sys/class/devfreq/17000000.gpu/min_freq").write_text("624750000\n", encoding="utf-8")
    assert board.clocks_locked(root) is True


def test_what_held_the_board_back(jetson, files):
    board, root = jetson.jetson_board, files(ORIN_SYSFS)
    before = board.throttling(root)
    assert before == {"oc1_event_cnt": 0, "oc3_event_cnt": 27}  # events of before, and a fan, are no throttling
    assert board.throttled_between(before, board.throttling(root)) == []
    (root / "sys/class/hwmon/hwmon3/oc3_event_cnt").write_text("28\n", encoding="utf-8")
    (root / "sys/class/thermal/cooling_device1/cur_state").write_text("1\n", encoding="utf-8")
    assert board.throttled_between(before, board.throttling(root)) == ["gpu-throttle-alert", "oc3_event_cnt"]


def test_sensors_read_tegrastats_ten_times_a_second(jetson, orin, files):
    board, root = jetson.jetson_board, files(ORIN_SYSFS)
    with board.Sensors(root) as sensors:
        start = time.perf_counter()
        time.sleep(1.0)
        readings = sensors.between(start, time.perf_counter())
        assert sensors.between(0.0, start - 1.0) == []
    assert len(readings) >= 5  # ten on a machine that is not so busy
    assert readings[0].power_mw["VIN_SYS_5V0"] == 4543
    assert readings[0].clock_mhz == {"CPU": 729, "GPU": 306.0}  # the GPU's from sysfs: this line has none
    assert sensors._process.poll() is not None, "tegrastats still runs"


def test_sensors_poll_sysfs_where_no_tegrastats_is(jetson, files, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with jetson.jetson_board.Sensors(files(ORIN_SYSFS)) as sensors:
        time.sleep(0.4)
        readings = sensors.between(0.0, time.perf_counter())
    assert len(readings) >= 2 and set(readings[0].power_mw) == {"VDD_IN"}


def test_the_summary_of_a_run(jetson):
    board = jetson.jetson_board
    lines = (RECORDED / "orin-nano-jp7.tegrastats.txt").read_text(encoding="utf-8").splitlines()
    idle = [board.parse_tegrastats(line, float(at)) for at, line in enumerate(lines)]
    busy = [board.parse_tegrastats(line, at / 20) for at, line in enumerate(lines)]
    found = board.summary(idle, busy)
    assert found["sensor_hz"] == 20.0
    rail = {"name": "VDD_IN", "idle_mw": 3502.0, "mean_mw": 3502.0, "peak_mw": 3582.0, "samples": 3}
    assert rail in found["rails"] and len(found["rails"]) == 3
    assert found["temperature_c"]["soc0"] == [46.093, 46.312]
    assert found["clocks_mhz"]["GPU"] == [305.0, 306.0]
    assert board.summary([], busy[:1])["rails"][0]["idle_mw"] is None
    assert board.summary([], [])["sensor_hz"] is None


def test_the_board_itself(jetson, orin, files):
    board = jetson.jetson_board
    release = "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64, DATE: Thu Sep 18 2025"
    model = "NVIDIA Jetson AGX Orin Developer Kit\0"
    root = files({**ORIN_SYSFS, "etc/nv_tegra_release": release, "proc/device-tree/model": model})
    assert board.describe_board(root) == {
        "model": "NVIDIA Jetson AGX Orin Developer Kit", "l4t": "36.4.7", "jetpack": "6", "power_mode": "MAXN",
        "clocks_locked": False,
    }  # fmt: skip


def test_this_machine_is_no_board(jetson, files, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert jetson.jetson_board.describe_board(files({"etc/os-release": "x"})) is None


def test_clocks_are_locked_and_given_back(jetson, command, tmp_path):
    log = tmp_path / "log"
    command("jetson_clocks", f'echo "$@" >> {log}')
    command("sudo", '"$@"')
    with jetson.jetson_board.locked_clocks():
        assert log.read_text(encoding="utf-8").splitlines()[1:] == [""]
    words = [line.split() for line in log.read_text(encoding="utf-8").splitlines()]
    assert [line[0] if line else "" for line in words] == ["--store", "", "--restore"] and words[0][1] == words[2][1]


def test_clocks_that_cannot_be_locked(jetson, command, monkeypatch):
    command("jetson_clocks", "exit 1")
    command("sudo", '"$@"')
    problem = jetson.bundle_reader.Problem
    with pytest.raises(problem, match="needs root") as caught, jetson.jetson_board.locked_clocks():
        pytest.fail("went on")
    assert caught.value.exit_code == 2
    monkeypatch.setenv("PATH", "")
    with pytest.raises(problem, match="comes with Jetson Linux") as caught, jetson.jetson_board.locked_clocks():
        pytest.fail("went on")
    assert caught.value.exit_code == 3
