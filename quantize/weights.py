"""4-bit weights rounded for what they are multiplied with: GPTQ on the grid of int4 blocks.

Each weight is rounded in turn, and its error is made up for by those of the same output channel that are not rounded
yet, as far as the inputs seen in calibration go together (Frantar et al., "GPTQ", arXiv 2210.17323). Layer after layer,
each behind those already rounded. The rounded numbers lie on a grid that the exporter finds again, so they are plain
float weights and need no format of their own.

O output channels, K inputs of one output (channels times places of the kernel), N rows of inputs.
"""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevl.bundle.folder import sha256_file
from edgevl.contracts import Deployable, Program
from edgevl.decodings.runner import Runner
from edgevl.errors import InputError, first_line
from edgevl.models.checkpoint import read_weights
from edgevl.models.deployable import with_programs
from edgevl.opened import opened
from edgevl.plans.plan import Calibration, ModulePlan, Plan, load_plan
from edgevl.plans.weight_codes import LARGEST_KEPT, SMALLEST, block_groups, quantize
from edgevl.progress import Progress
from edgevl.quantize.calibration_audit import audit_samples
from edgevl.runtime.eager_session import BATCH, EagerSession
from edgevl.verify.measure import ask, draw, side_of

ROUNDED = "quantization.safetensors"  # beside the plan
ROWS = 1 << 17  # inputs of a batch that a layer's statistics are made of, about: of more, every n-th
_DAMPING = 0.01  # of the mean diagonal, as the paper has it
_LOW, _HIGH = -8, 7
_AGAIN = "make plan and weights again with `edgevl quantize --precision w4`"


def plan_weights(
    model: Deployable, data: str, samples: int, seed: int = 0, progress: Progress | None = None
) -> tuple[Plan, dict[str, Tensor]]:
    """Round the weights of convolutions and linear layers to 4 bits, for what `samples` samples make them multiply.

    Returns the plan and, by parameter name in the whole model, the rounded weights. What the exporter keeps in 8 bits
    (the answer head, filters with few input channels) is left out.

    Raises `InputError` for unknown data and for a calibration set that cannot be trusted.
    """
    programs, found = copy.deepcopy(tuple(model.programs(model.layouts[0]))), dict[str, Tensor]()
    sessions = {program.name: EagerSession(program) for program in programs}
    batches = dict.fromkeys(sessions, BATCH)
    specs = [program.spec for program in programs]
    answering = opened(model, Runner(specs, sessions, model.images, model.texts, batches, remember=0).holding())
    drawn = draw(data, model.task, samples, side_of(answering), seed)
    coverage = audit_samples(answering, drawn, data)
    layers = _layers(programs)
    for number, (name, (layer, scale_O)) in enumerate(layers.items()):
        _round_layer(layer, scale_O, lambda: ask(answering, drawn))
        found[f"{name}.weight"] = layer.weight.detach().clone()
        if progress:
            progress(number + 1, len(layers), f"rounding {name}")
    modules = {
        name: ModulePlan(precision="w4", scheme="int4 blocks, GPTQ", weights=layer.weight.numel())
        for name, (layer, _) in layers.items()
    }
    settings = Calibration(data=data, samples=samples, seed=seed, observer="none")
    plan = Plan(
        precision="w4",
        checkpoint_sha256=model.sha256,
        calibration=settings,
        coverage=coverage,
        values={},
        modules=modules,
    )
    return plan, found


def save_weights(weights: dict[str, Tensor], folder: Path) -> str:
    """Write the rounded weights beside a plan; returns their digest."""
    from safetensors.torch import save_file

    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / ROUNDED)
    return sha256_file(folder / ROUNDED)


def with_rounded_weights(model: Deployable, folder: Path) -> Deployable:
    """Return a model with the 4-bit weights that lie beside it in `folder`; the model itself where none do.

    Raises `InputError` if they are not those of the plan, or not of the model that is deployed today.
    """
    plan = load_plan(folder, model.sha256)
    if plan is None or plan.precision != "w4":
        return model
    path = folder / ROUNDED
    weights, digest = read_weights(path) if path.is_file() else ({}, "")
    if digest != plan.weights_sha256:
        raise InputError(f"{path} is not the file of its plan: {_AGAIN}")

    @functools.cache
    def cut(layout: str) -> tuple[Program, ...]:
        programs = copy.deepcopy(tuple(model.programs(layout)))
        strange = set(weights)
        for program in programs:
            strange -= _load(program, weights, path)
        if strange:
            raise InputError(f"{path} holds {min(strange)}, which the deployed model has not: {_AGAIN}")
        return programs

    cut(model.layouts[0])
    return with_programs(model, cut)


def _load(program: Program, weights: Mapping[str, Tensor], path: Path) -> set[str]:
    """Copy into a program those weights that are its own, and return their names."""
    known = program.module.state_dict()
    own = {name: inside for name in weights if (inside := program.inside(name)) in known}
    try:
        program.module.load_state_dict({inside: weights[name] for name, inside in own.items()}, strict=False)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit the deployed model ({first_line(error)}): {_AGAIN}") from None
    return set(own)


def _layers(programs: Sequence[Program]) -> dict[str, tuple[Any, Tensor]]:
    """Layers whose weights become int4, in the order in which they run, each with what its outputs are scaled by."""
    found: dict[str, tuple[Any, Tensor]] = {}
    for program in programs:
        total, modules = program.parameters, program.modules()
        last = [name for name, layer in modules.items() if isinstance(layer, nn.Linear)][-1:]
        for name, layer in modules.items():
            if not isinstance(layer, nn.Conv2d | nn.Linear) or layer.weight.numel() <= SMALLEST:
                continue
            head = name in last and layer.weight.numel() <= LARGEST_KEPT * total
            if not head and getattr(layer, "groups", 1) == 1 and block_groups(tuple(layer.weight.shape)):
                found.setdefault(program.whole(name), (layer, _scale_behind(modules, name)))
    return found


def _scale_behind(modules: Mapping[str, nn.Module], name: str) -> Tensor:
    """What the batch norm behind a convolution multiplies each output channel with [O]: it will be folded in."""
    layer: Any = modules[name]
    names = list(modules)
    following: Any = modules[names[names.index(name) + 1]] if names.index(name) + 1 < len(names) else None
    if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
        assert following.running_var is not None, "a trained network keeps statistics"
        return (following.weight / torch.sqrt(following.running_var + following.eps)).detach()
    return torch.ones(layer.weight.shape[0])


@torch.no_grad()
def _round_layer(layer: Any, scale_O: Tensor, run: Callable[[], object]) -> None:
    statistics = _Statistics(layer)
    handle = layer.register_forward_pre_hook(statistics)
    run()
    handle.remove()
    shape = layer.weight.shape
    folded = layer.weight * scale_O.reshape(-1, *(1 for _ in shape[1:]))
    steps = _steps(folded.numpy())
    rounded = gptq(folded.reshape(shape[0], -1), statistics.hessian, torch.from_numpy(steps).reshape(shape[0], -1))
    back = torch.where(scale_O == 0, torch.ones_like(scale_O), scale_O)
    layer.weight.copy_(rounded.reshape(shape) / back.reshape(-1, *(1 for _ in shape[1:])))


def _steps(weight: np.ndarray) -> np.ndarray:
    """The step of the grid for each weight: that of its block."""
    groups = block_groups(weight.shape)
    assert groups is not None, "a layer of `_layers`"
    _, scale = quantize(weight, groups, 4)
    for axis, (whole, count) in enumerate(zip(weight.shape, groups)):
        scale = np.repeat(scale, whole // count, axis=axis)
    return scale.astype(np.float32)


class _Statistics:
    """Sums up X^T X over the inputs of a layer, X [N, K]."""

    def __init__(self, layer: Any):
        self.layer, self.hessian = layer, torch.zeros(())

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = self._rows(inputs[0])
        rows = rows[:: max(1, len(rows) // ROWS)]
        self.hessian = self.hessian + rows.T @ rows

    def _rows(self, x: Tensor) -> Tensor:
        if isinstance(self.layer, nn.Linear):
            return x.reshape(-1, x.shape[-1])
        layer = self.layer
        patches = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        return patches.transpose(1, 2).reshape(-1, patches.shape[1])


def gptq(weight_OK: Tensor, hessian_KK: Tensor, steps_OK: Tensor) -> Tensor:
    """Round to integers of [-8, 7] times `steps_OK`, so that the sum of (W X - Q X)^2 stays small. Returns [O, K].

    Inputs with the most energy are rounded first, while there are others left to make up for them.
    """
    hessian = hessian_KK.double()
    order = hessian.diagonal().argsort(descending=True, stable=True)
    hessian = hessian[order][:, order]
    hessian += _DAMPING * hessian.diagonal().mean().clamp(min=1e-12) * torch.eye(len(hessian), dtype=hessian.dtype)
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
    weight, steps, rounded = weight_OK.double()[:, order], steps_OK.double()[:, order], torch.empty_like(weight_OK)
    for column in range(weight.shape[1]):
        step = steps[:, column]
        exact = (weight[:, column] / step).round().clamp(_LOW, _HIGH) * step
        error = (weight[:, column] - exact) / inverse[column, column]
        weight[:, column:] -= error[:, None] * inverse[column, column:]
        rounded[:, order[column]] = exact.to(rounded.dtype)
    return rounded
