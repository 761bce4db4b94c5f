"""Training checkpoints: safetensors, atomically replaced, never pickled."""

import json
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from edgevl.errors import InputError

KEPT = 2  # newest checkpoints that stay on disk


def save(folder: Path, step: int, module: nn.Module, optimizer: torch.optim.Optimizer) -> Path:
    """Write `checkpoint-STEP/` (weights, moments, step) under a temporary name, then rename it; older ones are removed.

    Raises `InputError` when the disk is full or read-only; the previous checkpoint is untouched.
    """
    target, temporary = folder / f"checkpoint-{step:08d}", folder / f".checkpoint-{step:08d}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(
            {name: value.contiguous() for name, value in module.state_dict().items()}, temporary / "model.safetensors"
        )
        save_file(_optimizer_tensors(optimizer), temporary / "optimizer.safetensors")
        (temporary / "state.json").write_text(json.dumps({"step": step}))
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise InputError(
            f"cannot write the checkpoint {target}: {error}. Free some space, then go on with --resume"
        ) from None
    for old in list_checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*") if (path / "state.json").is_file())


def restore(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the newest checkpoint of a run and return its step; 0 when there is none yet.

    Raises `InputError` when it does not fit the model (another recipe).
    """
    found = list_checkpoints(folder)
    if not found:
        return 0
    try:
        module.load_state_dict(load_file(found[-1] / "model.safetensors"))
        _load_optimizer(optimizer, load_file(found[-1] / "optimizer.safetensors"))
    except (SafetensorError, RuntimeError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{found[-1]} does not fit this recipe: {reason}. Choose another --out or drop --resume"
        ) from None
    return int(json.loads((found[-1] / "state.json").read_text())["step"])


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    states = optimizer.state_dict()["state"]
    return {f"{i}.{key}": value.contiguous() for i, state in states.items() for key, value in state.items()}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    whole = optimizer.state_dict()
    states: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        states.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": states, "param_groups": whole["param_groups"]})
