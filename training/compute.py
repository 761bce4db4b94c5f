"""What training costs, counted and not estimated: multiply-adds of one forward pass."""

from collections.abc import Callable
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

# A backward pass computes two products for each of the forward pass: gradients of the inputs and of the weights.
TRAINING_FACTOR = 3


def forward_macs(call: Callable[[], Any]) -> int:
    """Multiply-adds of the convolutions and matrix products in one call. RoIAlign, norms and sums are not counted."""
    counter = FlopCounterMode(display=False)
    with counter:
        call()
    return counter.get_total_flops() // 2
