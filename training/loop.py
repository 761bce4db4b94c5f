"""The training loop. It knows no loss and no data set by name: an objective turns a batch into named losses.

Everything that varies is a function of (seed, step): the samples, the masks and the learning rate. So the state of a
run is the weights, the optimizer's moments and one number, and a killed run goes on as if nothing had happened.
"""

import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import Dataset

from edgevl.errors import EdgeVLError
from edgevl.models.checkpoint import DIVERGED
from edgevl.progress import Progress
from edgevl.training import checkpoints
from edgevl.training.data import Positions, Sample, batches, errors_in_one_line
from edgevl.training.losses.criterion import Criterion
from edgevl.training.metric_log import MetricLog
from edgevl.training.muon import Muon, muon_groups
from edgevl.training.recipe import OptimizerSection, Recipe

Note = checkpoints.Note


class Objective(Protocol):
    """A module: `objective(batch) -> {name: loss}`; `evaluate()` -> numbers to log, called in eval mode.

    Its `step` is the number of the update that a batch is for, from 0 on.
    """

    step: int

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]: ...
    def evaluate(self) -> dict[str, float]: ...


@dataclasses.dataclass
class Run:
    """The parts of one training run. `fit` assembles the rest from the recipe."""

    recipe: Recipe
    objective: nn.Module  # fulfills Objective
    samples: Dataset[Sample]
    criterion: Criterion
    folder: Path
    progress: Progress | None = None
    note: Note = lambda text: None


def fit(run: Run, resume: bool = False) -> list[dict[str, float]]:
    """Train to the recipe's last step, writing metrics and checkpoints into `run.folder`. Returns the logged rows.

    Raises `EdgeVLError` when a loss, a gradient or a weight is not finite; the last checkpoint stays usable.
    """
    recipe = run.recipe
    AcceleratorState._reset_state()  # it keeps the precision of an earlier run of this process
    accelerator = Accelerator(mixed_precision=recipe.precision, cpu=not torch.cuda.is_available())
    if accelerator.device.type == "cpu":
        run.objective.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = make_optimizer(run.objective, recipe.optimizer)
    first = checkpoints.restore(run.folder, run.objective, optimizer, run.note) if resume else 0
    logger = MetricLog(run.folder, first)
    cools_from, last = cooling(recipe, logger.rows), end_of(recipe, logger.rows)
    positions = Positions(recipe.batch_size, first, last)
    loader = batches(run.samples, positions, recipe.data.workers)
    objective, optimizer, loader = accelerator.prepare(run.objective, optimizer, loader)
    started = time.perf_counter()
    for step, batch in enumerate(errors_in_one_line(loader), start=first):
        rate = learning_rate(step, recipe, cools_from)
        values = train_step(accelerator, objective, optimizer, run.criterion, batch, recipe, step, rate)
        done = step + 1
        if done % recipe.log_every == 0 or done == last:
            speed = (done - first) * recipe.batch_size / (time.perf_counter() - started)
            logger.write(done, {name: value.item() for name, value in values.items()} | {"samples_per_second": speed})
        if done % recipe.eval_every == 0 or done == last:
            logger.write(done, evaluate(accelerator, objective))
            cools_from, last = cooling(recipe, logger.rows), end_of(recipe, logger.rows)
        if done % recipe.checkpoint_every == 0 or done == last:
            checkpoints.save(run.folder, done, accelerator.unwrap_model(objective), optimizer)
        if run.progress:
            run.progress(done, last, f"loss {values['loss'].item():.3f}")
        if done == last:
            break
    accelerator.end_training()
    logger.close()
    return logger.rows


def end_of(recipe: Recipe, rows: list[dict[str, float]]) -> int:
    """Return the step at which a run ends, as its rows say: at its goal, after its plateau, or with its recipe."""
    if recipe.stop_at is not None:
        for step, accuracy in accuracies(rows):
            if accuracy >= recipe.stop_at:
                return step
    start = cooling(recipe, rows)
    if recipe.plateau is None or start is None:
        return recipe.last_step
    return min(start + recipe.plateau.cooldown, recipe.last_step)


def cooling(recipe: Recipe, rows: list[dict[str, float]]) -> int | None:
    """Return the step at which the rate begins to fall; None where the recipe knows no plateau.

    That is the first look at which the best accuracy is no more than `gain` above the best until `window` steps before,
    and early enough that the run has time for its cooldown.
    """
    plateau = recipe.plateau
    if plateau is None:
        return None
    latest = recipe.steps - plateau.cooldown
    looks = accuracies(rows)
    for step, _ in looks:
        before = [accuracy for at, accuracy in looks if at <= step - plateau.window]
        until = [accuracy for at, accuracy in looks if at <= step]
        if before and max(until) <= max(before) + plateau.gain:
            return min(step, latest)
    return latest


def accuracies(rows: list[dict[str, float]]) -> list[tuple[int, float]]:
    """Return the steps at which a run was judged, with what was found."""
    return [(int(row["step"]), row["val_accuracy"]) for row in rows if "val_accuracy" in row]


def train_step(
    accelerator: Accelerator,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    criterion: Criterion,
    batch: Mapping[str, Tensor],
    recipe: Recipe,
    step: int,
    rate: float,
) -> dict[str, Tensor]:
    """One update. Seeds torch with (seed, step) first, so that masks and dropout do not depend on history."""
    torch.manual_seed(recipe.seed * 1_000_003 + step)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
    accelerator.unwrap_model(objective).step = step
    total, values = criterion(objective(batch))
    accelerator.backward(total)
    norm: Any = accelerator.clip_grad_norm_(objective.parameters(), recipe.optimizer.clip_norm)
    if not torch.isfinite(norm):  # the step would make every weight nan
        raise EdgeVLError(f"the gradient of step {step + 1} is not finite, its loss is {total.item():.4g}. {DIVERGED}")
    values["grad_norm"] = norm
    optimizer.step()
    optimizer.zero_grad()
    return values | {"lr": torch.tensor(rate)}


def evaluate(accelerator: Accelerator, objective: nn.Module) -> dict[str, float]:
    objective.eval()
    with torch.no_grad(), accelerator.autocast():
        values = accelerator.unwrap_model(objective).evaluate()
    objective.train()
    return values


def learning_rate(step: int, recipe: Recipe, cools_from: int | None = None) -> float:
    """Linear warm-up, then a cosine from `lr` down to `lr * final_lr` at the last step.

    With a plateau, `lr` until the step `cools_from`, then a line down to `lr * final_lr`.
    """
    optimizer = recipe.optimizer
    if step < optimizer.warmup:
        return optimizer.lr * (step + 1) / optimizer.warmup
    if recipe.plateau and cools_from is not None:
        fallen = min(1.0, max(0.0, (step + 1 - cools_from) / recipe.plateau.cooldown))
        return optimizer.lr * (1 - (1 - optimizer.final_lr) * fallen)
    done = (step - optimizer.warmup) / max(1, recipe.steps - optimizer.warmup)
    return optimizer.lr * (optimizer.final_lr + (1 - optimizer.final_lr) * (1 + math.cos(math.pi * done)) / 2)


def make_optimizer(module: nn.Module, section: OptimizerSection) -> torch.optim.Optimizer:
    """Return the optimizer that a recipe names, over the parameters of `module` that are trained."""
    betas = (0.9, section.beta2)
    if section.name == "muon":
        groups = muon_groups(module, section.weight_decay, section.matrix_lr / section.lr)
        return Muon(groups, section.lr, section.momentum, betas)
    return torch.optim.AdamW(parameter_groups(module, section.weight_decay), lr=section.lr, betas=betas)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices and filters; leave norms, biases, scales and positions alone."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    decayed = [p for name, p in named if p.ndim >= 2 and "position" not in name]
    kept = [p for name, p in named if p.ndim < 2 or "position" in name]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
