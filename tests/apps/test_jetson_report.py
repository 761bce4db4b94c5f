"""What a board measured becomes a page, with its rails and its bundle: from the script to the HTML."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgevl.bundle.folder import Bundle
from edgevl.cli import main

SCRIPT = Path(__file__).parents[2] / "apps" / "jetson" / "benchmark.py"


@pytest.mark.slow  # two seconds of queries per scope are the preset's least
def test_a_page_of_what_a_board_measured(bundles, orin, tmp_path):
    out, page = tmp_path / "bench.json", tmp_path / "page.html"
    command = [sys.executable, SCRIPT, bundles["onnx"], "--preset", "rapid", "--threads", "1", "--out", out]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    assert main(["report", str(bundles["onnx"]), "--bench", str(out), "--out", str(page)]) == 0
    html = page.read_text(encoding="utf-8")
    for words in ("VDD_GPU_SOC", "VIN_SYS_5V0", "MAXN", "Temperatures", Bundle.open(bundles["onnx"]).artifact_sha256):
        assert words in html, words
