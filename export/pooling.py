"""What exporters ask about average pools: converters refuse options that change nothing."""

from typing import Any

import torch


def fills(node: torch.fx.Node) -> bool:
    """Does `avg_pool2d` with `ceil_mode` cover its input exactly, so that there is nothing to round up?"""
    if len(node.args) < 5 or not node.args[4]:
        return False
    source, *windows = node.args[:4]
    assert isinstance(source, torch.fx.Node), "the operator takes its input first"
    kernel, stride, padding = (_pair(sides) for sides in windows)
    stride = stride or kernel
    sides = source.meta["val"].shape[-2:]
    return all((side + 2 * p - k) % s == 0 for side, k, s, p in zip(sides, kernel, stride, padding))


def _pair(sides: Any) -> list[int]:
    """[height, width] of an argument that may be one number for both."""
    sides = [sides] if isinstance(sides, int) else list(sides)
    return sides * 2 if len(sides) == 1 else sides
