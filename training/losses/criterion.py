"""Weights the named losses and refuses what is not finite."""

from collections.abc import Mapping

import torch
from torch import Tensor

from edgevl.errors import EdgeVLError
from edgevl.models.checkpoint import DIVERGED


class Criterion:
    """`criterion(losses) -> (total, log)`. `log` holds each loss unscaled, and scaled under `NAME_scaled`.

    Args:
        weights: loss name -> weight. A name `object.box` falls back to the weight of `object`, then to 1.
    Raises:
        EdgeVLError: when the total is not finite; the message holds every value.
    """

    def __init__(self, weights: Mapping[str, float] | None = None):
        self.weights = dict(weights or {})

    def weight(self, name: str) -> float:
        return self.weights.get(name, self.weights.get(name.split(".")[0], 1.0))

    def __call__(self, losses: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        scaled = {name: value * self.weight(name) for name, value in losses.items()}
        total = torch.stack([value.float() for value in scaled.values()]).sum()
        log = {"loss": total.detach(), **{name: value.detach() for name, value in losses.items()}}
        log |= {f"{name}_scaled": value.detach() for name, value in scaled.items()}
        if not torch.isfinite(total):
            values = ", ".join(f"{name} {value.item():.4g}" for name, value in losses.items())
            raise EdgeVLError(f"the loss is not finite: {values}. {DIVERGED}")
        return total, log
