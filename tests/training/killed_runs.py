"""Training that is killed after its first checkpoint and goes on, beside the same training left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from edgevl.training import checkpoints
from edgevl.training.recipe import parse_recipe


def rows(folder: Path, key: str) -> dict[int, float]:
    """A logged number by step."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["step"]: row[key] for row in map(json.loads, lines) if key in row}


def check_kill(stage: Any, values: dict[str, Any], folder: Path, key: str) -> None:
    """`stage` (`edgevl.training.finetune`, ...) gives the same rows of `key` and the same weights either way."""
    whole = stage.run(parse_recipe(values, "test"), out=folder / "whole")
    recipe_file = folder / "recipe.yaml"
    recipe_file.write_text(
        yaml.safe_dump(values, sort_keys=False), encoding="utf-8"
    )  # losses are summed in their order
    kill_after_a_checkpoint(stage.__name__, recipe_file, folder / "cut")
    cut_at = json.loads((checkpoints.list_checkpoints(folder / "cut")[-1] / "state.json").read_text(encoding="utf-8"))[
        "step"
    ]
    assert cut_at < values["steps"], "the run ended before the kill: make it longer"
    resumed = stage.run(parse_recipe(values, "test"), out=folder / "cut", resume=True)
    assert rows(resumed, key) == rows(whole, key)
    final = [load_file(checkpoints.list_checkpoints(run)[-1] / "model.safetensors") for run in (whole, resumed)]
    assert all(torch.equal(final[0][name], final[1][name]) for name in final[0])


def kill_after_a_checkpoint(module: str, recipe: Path, out: Path) -> None:
    code = f"import sys, {module} as stage; stage.run(sys.argv[1], out=__import__('pathlib').Path(sys.argv[2]))"
    command = [sys.executable, "-c", code, str(recipe), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not checkpoints.list_checkpoints(out):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
