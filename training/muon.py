"""Muon: momentum whose every matrix is made orthogonal before it is applied; AdamW for whatever is no matrix.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon. Here because torch's takes 2-D parameters only and timm's
keeps a bool in its state, which a checkpoint of tensors cannot hold.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic iteration, chosen for slope at zero
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Groups with `matrices: True` go by Muon, the others by AdamW. Filters [O, I, h, w] count as [O, I * h * w]."""

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
    ):
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": 0.0, "matrices": False}
        super().__init__(list(groups), defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = self._orthogonal if group["matrices"] else self._adam
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update(self.state[parameter], parameter.grad, group), alpha=-group["lr"])

    def _orthogonal(self, state: dict[str, Tensor], gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """Nesterov momentum, made orthogonal. Tall matrices move by more, so that outputs change alike in any shape."""
        momentum = group["momentum"]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - momentum)
        rows = torch.lerp(gradient, state["momentum"], momentum).reshape(len(gradient), -1)
        return (orthogonal(rows) * max(1, rows.shape[0] / rows.shape[1]) ** 0.5).reshape_as(gradient)

    def _adam(self, state: dict[str, Tensor], gradient: Tensor, group: dict[str, Any]) -> Tensor:
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        state["step"] += 1
        first, second = group["betas"]
        state["exp_avg"].lerp_(gradient, 1 - first)
        state["exp_avg_sq"].lerp_(gradient.square(), 1 - second)
        mean = state["exp_avg"] / (1 - first ** state["step"].item())
        spread = (state["exp_avg_sq"] / (1 - second ** state["step"].item())).sqrt()
        return mean / (spread + group["eps"])

    def expected_state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Return tensors with the names and shapes of what is kept for a parameter: see `checkpoints.restore`."""
        if any(parameter is each for group in self.param_groups if group["matrices"] for each in group["params"]):
            return {"momentum": parameter}
        return {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}


def orthogonal(matrix: Tensor) -> Tensor:
    """Return about U @ V^T of the singular value decomposition of [M, N]: its values come to lie in 0.7 to 1.2."""
    a, b, c = NEWTON_SCHULZ
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide.float() / (wide.norm() + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x if wide is matrix else x.T).to(matrix.dtype)


def muon_groups(module: nn.Module, weight_decay: float, matrix_factor: float) -> list[dict[str, Any]]:
    """Return matrices and filters for Muon at `matrix_factor` times the rate, then what is decayed, then the rest.

    Word embeddings are no matrices in this sense: a step reads few of their rows.
    """
    tables = {id(each.weight) for each in module.modules() if isinstance(each, nn.Embedding)}
    kept: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and id(parameter) not in tables:
            (kept if parameter.ndim < 2 or "position" in name else matrices).append(parameter)
    decayed = [each for each in module.parameters() if id(each) in tables and each.requires_grad]
    return [
        {"params": matrices, "weight_decay": weight_decay, "matrices": True, "factor": matrix_factor},
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
