"""Paddings of a picture's own rows: taken apart for ExecuTorch, which converts them and then cannot run them."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BlurPool2d
from torch import nn

from edgevl.export.padding import _padded, pad_by_slices
from edgevl.models.capture import name_outputs


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "constant"])
@pytest.mark.parametrize("padding", [[1, 1, 1, 1], [2, 0, 1, 3], [0, 3], [1, 2]])
def test_the_same_rows(mode: str, padding: list[int]):
    x = torch.randn(2, 3, 7, 9) if len(padding) == 4 or mode == "constant" else torch.randn(2, 7, 9)
    assert torch.equal(_padded(x, padding, mode), F.pad(x, padding, mode))


class Blurred(nn.Module):
    """Two blur pools behind convolutions: of one alone, ExecuTorch 1.5 makes a program that runs."""

    def __init__(self) -> None:
        super().__init__()
        first, second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3, padding=1)
        self.layers = nn.Sequential(first, nn.ReLU(), BlurPool2d(8), second, nn.ReLU(), BlurPool2d(4))

    def forward(self, image: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        return self.layers(image.float().permute(0, 3, 1, 2)).mean((2, 3)) + input_ids[:, :4]


def captured(module: nn.Module) -> torch.export.ExportedProgram:
    inputs = (torch.zeros(1, 16, 16, 3, dtype=torch.uint8), torch.ones(1, 4, dtype=torch.int32))
    return name_outputs(torch.export.export(module, inputs), ["logits"])


def test_a_program_without_them_is_left_alone():
    module = Blurred()
    module.layers[2] = module.layers[5] = nn.ZeroPad2d(1)
    program = captured(module)
    assert pad_by_slices(program) is program


def test_a_blur_pool_runs_in_executorch(tmp_path: Path):
    """The file was written and loaded, and its kernel failed: "2 input tensors have different dim orders"."""
    pytest.importorskip("executorch")
    from edgevl.export.to_executorch import write_executorch
    from edgevl.runtime import open_session

    torch.manual_seed(0)
    module = Blurred()
    write_executorch(captured(module), tmp_path / "model.pte")
    pixels, ids = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8), torch.ones(1, 4, dtype=torch.int32)
    feeds = {"image": pixels.numpy(), "input_ids": ids.numpy()}
    logits = torch.from_numpy(open_session(tmp_path / "model.pte", "executorch").run(feeds)["logits"])
    with torch.no_grad():
        torch.testing.assert_close(logits, module(pixels, ids), rtol=1e-4, atol=1e-3)
