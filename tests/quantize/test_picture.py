"""Pixels as integers: the rewritten front of a network computes what the normalization did."""

import pytest
import torch
from torch import nn

pytest.importorskip("torchao", reason='torchao comes with pip install "edgevl[quantize]"')

from edgevl.plans.picture import take_integer_pixels


class Front(nn.Module):
    """The first convolution of a network."""

    mean: torch.Tensor
    inverse_std: torch.Tensor

    def __init__(self, mean: list[float], std: list[float], padding: int = 0, bias: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=padding, bias=bias)
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1))
        self.register_buffer("inverse_std", 1 / torch.tensor(std).reshape(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.conv((image - self.mean) * self.inverse_std)


def rewritten(front: nn.Module, image: torch.Tensor) -> tuple[torch.fx.GraphModule, dict]:
    module = torch.export.export(front.eval(), (image,)).module()
    assert isinstance(module, torch.fx.GraphModule)
    return module, take_integer_pixels(module)


IMAGE = torch.randint(0, 256, (2, 3, 9, 9), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("std", [[63.75] * 3, [50.0, 60.0, 70.0]])
def test_same_results_without_padding(std, bias):
    torch.manual_seed(0)
    front = Front([127.5] * 3, std, bias=bias)
    wanted = front(IMAGE)
    module, known = rewritten(front, IMAGE)
    torch.testing.assert_close(module(IMAGE), wanted, rtol=1e-4, atol=1e-4)
    (values,) = known.values()
    assert (values.low, values.high) == (-128, 127)
    torch.testing.assert_close(front(IMAGE), wanted, msg="the model itself is left as it was")


def test_padding_is_half_a_level_off_at_most():
    torch.manual_seed(0)
    front = Front([127.5] * 3, [63.75] * 3, padding=1)
    wanted = front(IMAGE)
    found = rewritten(front, IMAGE)[0](IMAGE)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-4)
    most = 0.5 / 63.75 * front.conv.weight.abs().sum((1, 2, 3)).max()
    assert 0 < (found - wanted).abs().max() <= most


def test_means_that_differ_are_left_alone():
    """Padding could not stand for three means at once."""
    module, known = rewritten(Front([123.7, 116.3, 103.5], [58.4, 57.1, 57.4], padding=1), IMAGE)
    assert not known and not hasattr(module, "pixel_weight")


def test_no_convolution_no_change():
    assert not rewritten(nn.Sequential(nn.Flatten(), nn.Linear(243, 2)), IMAGE)[1]
