"""What a bundle says reaches a board's terminal as text that commands nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

JETSON = Path(__file__).parents[2] / "apps" / "jetson"
HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202e\u2028\udc80\n\tverified é 赤"


@pytest.mark.parametrize("module", ["build_engine", "problems"])
def test_plain_is_one_line_of_characters_that_show(jetson, module):
    plain = getattr(jetson, module).plain
    shown = plain(HOSTILE)
    assert shown.isprintable() and shown.endswith("verified é 赤") and r"\x1b[2J\x9b31m\x7f\u202e" in shown
    assert plain("".join(map(chr, range(0x11000)))).isprintable()
    assert getattr(jetson, module).Problem(4, HOSTILE).args[0] == shown


@pytest.mark.parametrize("script", ["benchmark.py", "build_engine.py"])
def test_a_hostile_bundle_commands_no_terminal(bundles, tmp_path, script):
    bundle = Path(shutil.copytree(bundles["tensorrt"], tmp_path / "b\x1b[2J\x9b\u202e.edgevl"))
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    for values in ({"target": HOSTILE[:-9]}, {"programs": [{"artifact": HOSTILE[:9]}]}, {}):
        (bundle / "manifest.json").write_text(json.dumps({**manifest, **values}), encoding="utf-8")
        answer = subprocess.run([sys.executable, JETSON / script, str(bundle)], capture_output=True, cwd=tmp_path)
        text = answer.stderr.decode()
        assert (answer.returncode in (2, 3, 4) and text.startswith("error: ")) or "every file" in text, text
        assert all(line.isprintable() for line in (text + answer.stdout.decode()).split("\n")), text
