"""The training loop. It knows no loss and no data set by name: a task turns a batch into named losses.

Everything that varies is a function of (seed, step): the samples, the masks and the learning rate. So the state of a
run is the weights, the optimizer's moments and one number, and a killed run goes on as if nothing had happened.
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import Dataset

from edgevl.training import checkpoints
from edgevl.training.data import Positions, Sample, batches, errors_in_one_line
from edgevl.training.losses.criterion import Criterion
from edgevl.training.recipe import OptimizerSection, Recipe

Progress = Callable[[int, int, str], None]


class Task(Protocol):
    """A module: `task(batch) -> {name: loss}`; `evaluate()` -> numbers to log, called in eval mode."""

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]: ...
    def evaluate(self) -> dict[str, float]: ...


@dataclasses.dataclass
class Run:
    """The parts of one training run. `fit` assembles the rest from the recipe."""

    recipe: Recipe
    task: nn.Module  # fulfills Task
    samples: Dataset[Sample]
    criterion: Criterion
    folder: Path
    progress: Progress | None = None


def fit(run: Run, resume: bool = False) -> list[dict[str, float]]:
    """Train to the recipe's last step, writing metrics and checkpoints into `run.folder`. Returns the logged rows.

    Raises `EdgeVLError` when a loss is not finite; the last checkpoint stays usable.
    """
    recipe = run.recipe
    AcceleratorState._reset_state()  # it keeps the precision of an earlier run of this process
    accelerator = Accelerator(mixed_precision=recipe.precision, cpu=not torch.cuda.is_available())
    if accelerator.device.type == "cpu":
        run.task.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(
        parameter_groups(run.task, recipe.optimizer.weight_decay),
        lr=recipe.optimizer.lr,
        betas=(0.9, recipe.optimizer.beta2),
    )
    first = checkpoints.restore(run.folder, run.task, optimizer) if resume else 0
    last = recipe.last_step
    loader = batches(run.samples, Positions(recipe.batch_size, first, last), recipe.data.workers)
    task, optimizer, loader = accelerator.prepare(run.task, optimizer, loader)
    logger = MetricLog(run.folder, first, accelerator.is_main_process)
    started = time.perf_counter()
    for step, batch in enumerate(errors_in_one_line(loader), start=first):
        values = train_step(accelerator, task, optimizer, run.criterion, batch, recipe, step)
        done = step + 1
        if done % recipe.log_every == 0 or done == last:
            rate = (done - first) * recipe.batch_size / (time.perf_counter() - started)
            logger.write(done, {name: value.item() for name, value in values.items()} | {"samples_per_second": rate})
        if accelerator.is_main_process and (done % recipe.eval_every == 0 or done == last):
            logger.write(done, evaluate(accelerator, task))
        if accelerator.is_main_process and (done % recipe.checkpoint_every == 0 or done == last):
            checkpoints.save(run.folder, done, accelerator.unwrap_model(task), optimizer)
        if run.progress:
            run.progress(done, last, f"loss {values['loss'].item():.3f}")
    accelerator.end_training()
    logger.close()
    return logger.rows


def train_step(
    accelerator: Accelerator,
    task: nn.Module,
    optimizer: torch.optim.Optimizer,
    criterion: Criterion,
    batch: Mapping[str, Tensor],
    recipe: Recipe,
    step: int,
) -> dict[str, Tensor]:
    """One update. Seeds torch with (seed, step) first, so that masks and dropout do not depend on history."""
    torch.manual_seed(recipe.seed * 1_000_003 + step)
    rate = learning_rate(step, recipe.steps, recipe.optimizer)
    for group in optimizer.param_groups:
        group["lr"] = rate
    total, values = criterion(task(batch))
    accelerator.backward(total)
    values["grad_norm"] = accelerator.clip_grad_norm_(task.parameters(), recipe.optimizer.clip_norm)  # pyright: ignore
    optimizer.step()
    optimizer.zero_grad()
    return values | {"lr": torch.tensor(rate)}


def evaluate(accelerator: Accelerator, task: nn.Module) -> dict[str, float]:
    task.eval()
    with torch.no_grad(), accelerator.autocast():
        values = accelerator.unwrap_model(task).evaluate()
    task.train()
    return values


def learning_rate(step: int, steps: int, optimizer: OptimizerSection) -> float:
    """Linear warm-up, then a cosine from `lr` down to `lr * final_lr` at the last step."""
    if step < optimizer.warmup:
        return optimizer.lr * (step + 1) / optimizer.warmup
    done = (step - optimizer.warmup) / max(1, steps - optimizer.warmup)
    return optimizer.lr * (optimizer.final_lr + (1 - optimizer.final_lr) * (1 + math.cos(math.pi * done)) / 2)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices and filters; leave norms, biases, scales and positions alone."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    decayed = [p for name, p in named if p.ndim >= 2 and "position" not in name]
    kept = [p for name, p in named if p.ndim < 2 or "position" in name]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


class MetricLog:
    """Rows to metrics.jsonl and TensorBoard. On resume, rows after the checkpoint go: they are trained again."""

    def __init__(self, folder: Path, first_step: int, enabled: bool = True):
        self.enabled = enabled
        self.rows: list[dict[str, float]] = []
        if not enabled:
            return
        self.path = folder / "metrics.jsonl"
        if first_step and self.path.is_file():
            rows = [json.loads(line) for line in self.path.read_text().splitlines() if line.endswith("}")]
            self.rows = [row for row in rows if row["step"] <= first_step]
        self.path.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        from torch.utils.tensorboard import SummaryWriter

        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)

    def write(self, step: int, values: dict[str, float]) -> None:
        if not self.enabled or not values:
            return
        row = {"step": step, **values}
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        if self.enabled:
            self.board.close()
