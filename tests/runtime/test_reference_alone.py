"""The executor stands alone: a copy of its folder, under another name and without EdgeVL, loads and runs a package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mil_programs import save_mil  # pyright: ignore[reportMissingImports]

FOLDER = Path(__file__).parents[2] / "edgevl" / "runtime" / "coreml_reference"
SCRIPT = """
import sys
sys.modules["edgevl"] = None  # any import of it fails, wherever it is installed
import numpy as np
import some_executor as executor
program = executor.MLProgram.load(sys.argv[1])
x = np.array([-1.0, 2.0], np.float32)
print(program.predict({"x": x})["y"].tolist(), program.find_fault({"x": x}))
try:
    executor.MLProgram.load("nothing.mlpackage")
except Exception as error:
    print(type(error).__module__, type(error).__name__, error.exit_code)
try:
    executor.MLProgram.load(sys.argv[1], precision="fp64")
except Exception as error:
    print(error)
print(sorted(name for name in sys.modules if name.split(".")[0] == "edgevl" and sys.modules[name]))
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """A folder with nothing but the copy and a package."""
    home = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(FOLDER, home / "some_executor", ignore=shutil.ignore_patterns("__pycache__"))
    save_mil(
        home / "m.mlpackage", lambda mb, x: mb.relu(x=x, name="y"), {"x": np.ones(2, np.float32)}, precision="fp16"
    )
    return home


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        encoding="utf-8",
    )


def test_a_copy_of_the_folder_runs_without_edgevl(elsewhere: Path) -> None:
    answer = run(elsewhere, "-c", SCRIPT, "m.mlpackage")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == [
        "[0.0, 2.0] None",
        "some_executor.stand_in InputError 2",
        'unknown precision of the Core ML reference executor "fp64". Known: fp16, fp32, strict_fp16',
        "[]",
    ]


def test_the_copy_has_the_command_line(elsewhere: Path) -> None:
    (elsewhere / "edgevl.py").write_text("raise ImportError\n", encoding="utf-8")  # this one is found first
    answer = run(elsewhere, "-m", "some_executor", "m.mlpackage", "--samples", "1")
    (elsewhere / "edgevl.py").unlink()
    assert answer.returncode == 0 and "operators: 2 cast, 1 relu" in answer.stdout, answer.stderr
