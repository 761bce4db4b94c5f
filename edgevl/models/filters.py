"""Filters that a backbone computes from its weights at every run, and that no deployed model needs to."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import Tensor, nn

_STANDARDIZED = (StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)


def fold_standardized(model: nn.Module) -> None:
    """Replace convolutions that standardize their filter (NFNet, BiT) by plain ones with that filter, in place.

    Each output channel's filter has mean 0 and variance 1, times a gain where there is one (Qiao et al., "Weight
    Standardization", arXiv 1903.10520; Brock et al., arXiv 2101.08692). What is computed stays the same to the last
    bit. Left in the graph, no quantizer would find a weight there.
    """
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, _STANDARDIZED):
                setattr(parent, name, _plain(layer))


def _plain(layer: Any) -> nn.Conv2d:
    kind: Any = Conv2dSame if getattr(layer, "same_pad", False) else nn.Conv2d
    shape = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    plain = kind(*shape, groups=layer.groups, bias=layer.bias is not None)
    plain.weight, plain.bias = nn.Parameter(standardized(layer)), layer.bias
    return plain.train(layer.training)


@torch.no_grad()
def standardized(layer: Any) -> Tensor:
    """The filter that `layer` convolves with, [O, I / groups, h, w]: by the operator that timm's layers call."""
    gain = getattr(layer, "gain", None)
    factor = None if gain is None else (gain * layer.scale).view(-1)
    rows = layer.weight.reshape(1, layer.out_channels, -1)
    return F.batch_norm(rows, None, None, factor, training=True, momentum=0.0, eps=layer.eps).reshape_as(layer.weight)
