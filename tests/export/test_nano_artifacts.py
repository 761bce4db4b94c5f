"""The embedded model's artifacts are byte for byte those that were recorded, whatever is rebuilt around them."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import nano_artifacts  # pyright: ignore[reportMissingImports]

QUICK = ("onnx-fp32", "tensorrt-fp16-split", "coreml-fp16", "onnx-w8a8")
RECORD = json.loads(nano_artifacts.RECORD.read_text("utf-8"))


def test_every_case_is_recorded():
    assert set(RECORD) == set(nano_artifacts.CASES)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in nano_artifacts.CASES]
)
def test_bytes_are_as_recorded(name, tmp_path):
    known = RECORD[name]
    versions = nano_artifacts.converters(name)
    if versions != known["versions"]:
        pytest.skip(f"recorded with {known['versions']}, here are {versions}: python tools/nano_artifacts.py --write")
    assert nano_artifacts.digests(name, tmp_path) == known["files"]
