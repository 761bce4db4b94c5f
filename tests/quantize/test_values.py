"""Names of values: the same from program to program, and one for each result of an operator that has several."""

from typing import Any

import torch
from torch import nn

from edgevl.plans.values import named_values


class Halves(nn.Module):
    """The two halves of a projection, multiplied: as windowed attention unbinds query, key and value."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.project(x).chunk(2, dim=-1)
        return left @ right.transpose(-1, -2)


def test_each_result_of_a_split_has_a_name() -> None:
    program: Any = torch.export.export(Halves().eval(), (torch.zeros(1, 3, 4),)).module()
    names = [name for name, _ in named_values(program.graph)]
    assert names == ["x", "project:linear", ":getitem", ":getitem#1", ":transpose", ":matmul"]
