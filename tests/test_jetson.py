"""A Jetson is recognized from its own files, in real formats, and what follows from its TensorRT is said."""

from pathlib import Path

import pytest

from edgevl.jetson import find_jetson

RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 2025\n"
OLD_RELEASE = "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: Tue Aug  1 2023\n"


def machine(
    root: Path, release: str, headers: str = "", board: str = "NVIDIA Jetson Orin Nano Developer Kit\0"
) -> Path:
    files = {"etc/nv_tegra_release": release, "proc/device-tree/model": board}
    files |= {"usr/include/aarch64-linux-gnu/NvInferVersion.h": headers} if headers else {}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def header(major: int, minor: int, patch: int) -> str:
    return "".join(
        f"#define NV_TENSORRT_{part} {number} //!< TensorRT {part.lower()} version.\n"
        for part, number in (("MAJOR", major), ("MINOR", minor), ("PATCH", patch))
    )


def test_a_jetson_with_tensorrt_10(tmp_path):
    jetson = find_jetson(machine(tmp_path, RELEASE, header(10, 3, 0)))
    assert jetson is not None and jetson.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert (jetson.l4t, jetson.jetpack, jetson.tensorrt) == ("36.4.3", "6", "10.3.0")
    assert "python3 BUNDLE/build_engine.py" in jetson.advice


def test_newer_headers_name_their_version_otherwise(tmp_path):
    text = "#define TRT_MAJOR_ENTERPRISE 10\n#define TRT_MINOR_ENTERPRISE 13\n#define TRT_PATCH_ENTERPRISE 3\n"
    text += "#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE\n"
    jetson = find_jetson(machine(tmp_path, RELEASE, text))
    assert jetson is not None and jetson.tensorrt == "10.13.3"


@pytest.mark.parametrize(
    ("headers", "advice"),
    [("", "sudo apt-get install nvidia-jetpack"), (header(8, 5, 2), "TensorRT 8.5.2 is older than 10")],
)
def test_what_is_missing_is_said(tmp_path, headers, advice):
    jetson = find_jetson(machine(tmp_path, OLD_RELEASE, headers))
    assert jetson is not None and jetson.jetpack == "5" and advice in jetson.advice


def test_any_other_machine_is_none(tmp_path):
    assert find_jetson(tmp_path) is None


def test_doctor_shows_it(tmp_path, monkeypatch, capsys):
    from edgevl.cli import main

    jetson = find_jetson(machine(tmp_path, RELEASE, header(10, 3, 0)))
    monkeypatch.setattr("edgevl.doctor.find_jetson", lambda: jetson)
    assert main(["doctor"]) == 0
    assert "L4T 36.4.3, JetPack 6, TensorRT 10.3.0" in capsys.readouterr().out
