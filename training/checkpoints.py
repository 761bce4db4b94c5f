"""Training checkpoints: safetensors, atomically replaced, never pickled.

`checkpoint-` and eight digits are ours: other folders beside them are neither counted nor read nor removed.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgevl.atomic import Kind, atomic_folder
from edgevl.errors import EdgeVLError, InputError, first_line
from edgevl.models.checkpoint import DIVERGED, not_finite
from edgevl.reading import read_json

KEPT = 2  # newest checkpoints that stay on disk
CHECKPOINT = Kind("checkpoint", "state.json", "FOLDER")
_NAME = re.compile(r"checkpoint-\d{8}")
Note = Callable[[str], None]


class Damaged(Exception):
    """A checkpoint cannot be read, or does not fit the model; the message says why."""


def save(folder: Path, step: int, module: nn.Module, optimizer: torch.optim.Optimizer) -> Path:
    """Write `checkpoint-STEP/` (weights, moments, step) beside the others, atomically; older ones are removed.

    Raises `EdgeVLError` for weights that are not finite: the checkpoints of before are what to go on from. Raises
    `InputError` when the disk is full or read-only; the previous checkpoint is untouched.
    """
    weights = {name: value.contiguous() for name, value in module.state_dict().items()}
    moments = _optimizer_tensors(optimizer)
    if wrong := not_finite(weights) or not_finite(moments):
        raise EdgeVLError(f"training diverged: after step {step}, {wrong} is not finite. {DIVERGED}")
    target = folder / f"checkpoint-{step:08d}"
    with atomic_folder(target, force=True, kind=CHECKPOINT) as temporary:
        save_file(weights, temporary / "model.safetensors")
        save_file(moments, temporary / "optimizer.safetensors")
        (temporary / CHECKPOINT.marker).write_text(json.dumps({"step": step}), encoding="utf-8")
    for old in list_checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints of ours, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted(path for path in found if (path / CHECKPOINT.marker).is_file() and not path.is_symlink())


def restore(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, note: Note = lambda text: None) -> int:
    """Load the newest checkpoint of a run that is whole and return its step; 0 when there is none at all.

    A damaged one is stepped over: `note` says so, and it is renamed, so that nothing of it is lost or taken for whole.
    Raises `InputError` when there are checkpoints and none can be used.
    """
    found, damaged = list_checkpoints(folder), dict[Path, str]()
    for path in reversed(found):
        try:
            state = _read(path, module, optimizer)
        except Damaged as error:
            damaged[path] = str(error)
            continue
        module.load_state_dict(state.weights)
        _load_optimizer(optimizer, state.moments)
        for wrong, reason in damaged.items():
            aside = _put_aside(wrong)
            note(f"{wrong} is damaged ({reason}): renamed to {aside.name}; the run goes on from step {state.step}")
        return state.step
    if damaged:
        path, reason = next(iter(damaged.items()))
        raise InputError(
            f"no checkpoint in {folder} can be used: {path.name} is damaged or of another model ({reason}). Choose "
            f"another --out, or remove {path.name} to begin again"
        )
    return 0


class _State(NamedTuple):
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]  # by "PARAMETER.NAME"
    step: int


def _read(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> _State:
    """Everything of a checkpoint, compared with what it is for before anything is changed. Raises `Damaged`."""
    try:
        step = read_json(path / CHECKPOINT.marker).get("step")
        weights, moments = (load_file(path / f"{name}.safetensors") for name in ("model", "optimizer"))
    except (SafetensorError, OSError, InputError) as error:
        raise Damaged(first_line(error, 200)) from None
    if type(step) is not int or f"{CHECKPOINT.name}-{step:08d}" != path.name:
        raise Damaged(f"{CHECKPOINT.marker} has another step than the folder's name")
    _compare(weights, module.state_dict(), "model.safetensors")
    _compare(moments, _expected_moments(optimizer, moments), "optimizer.safetensors")
    if wrong := not_finite(weights) or not_finite(moments):
        raise Damaged(f"{wrong} is not finite")
    return _State(weights, moments, step)


def _compare(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], name: str) -> None:
    """Raises `Damaged` unless the tensors have the same names and shapes."""
    if other := sorted(found.keys() ^ wanted.keys()):
        raise Damaged(f"{name} {'lacks' if other[0] in wanted else 'has no place for'} {other[0][:100]}")
    for key, value in wanted.items():
        if found[key].shape != value.shape:
            raise Damaged(f"{name}: {key} has the shape {list(found[key].shape)}, not {list(value.shape)}")


def _put_aside(path: Path) -> Path:
    """Rename a damaged checkpoint to a name that is not ours."""
    aside, number = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    return path.rename(aside)


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    states = optimizer.state_dict()["state"]
    return {f"{i}.{key}": value.contiguous() for i, state in states.items() for key, value in state.items()}


def _expected_moments(optimizer: torch.optim.Optimizer, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is kept of each parameter, of those that `found` has: one that no loss reaches has no moments."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    own, expected = {name.split(".")[0] for name in found}, getattr(optimizer, "expected_state", _adam_state)
    return {
        f"{i}.{key}": value
        for i, parameter in enumerate(parameters)
        if str(i) in own
        for key, value in expected(parameter).items()
    }


def _adam_state(parameter: nn.Parameter) -> dict[str, Tensor]:
    return {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    whole = optimizer.state_dict()
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        states.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": states, "param_groups": whole["param_groups"]})
