"""Whole timm networks through the Core ML reference executor, against eager torch: float32 and half-precision programs.

The table of docs/coreml-reference.md is what the slow part prints:

    pytest -m slow -s tests/runtime/test_reference_backbones.py
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.utils.model import reparameterize_model
from torch._decomp import get_decompositions

from edgevl.export.to_coreml import without_aliases
from edgevl.runtime.coreml_quiet import import_coremltools, quiet_coremltools
from edgevl.runtime.coreml_reference import MLProgram


@dataclass(frozen=True)
class Network:
    """A timm network with random weights, as small as its architecture allows."""

    name: str
    side: int = 64  # of the picture, in pixels
    img_size: bool = False  # does the constructor need to know the side?
    fused: bool = False  # train-time branches folded into one convolution
    norm_bias: float | None = None  # of batch norms. Without shortcuts, random weights multiply any rounding error from
    # layer to layer (mobileone_s0: 40 dB); biases of 1 keep most relus open, and the network tame

    def __str__(self) -> str:
        return self.name + (" (reparameterized)" if self.fused else "")


QUICK = [Network("resnet10t"), Network("mobilenetv3_small_050")]
SLOW = [
    Network("resnet18"),
    Network("resnet50"),
    Network("mobilenetv3_small_100"),
    Network("mobilenetv4_conv_small"),
    Network("mobilenetv4_hybrid_medium", 128),
    Network("efficientnet_lite0"),
    Network("tf_efficientnet_lite0"),
    Network("efficientvit_b0"),
    Network("efficientvit_m0", 224),
    Network("fastvit_t8", 128),
    Network("fastvit_t8", 128, fused=True),
    Network("repvit_m0_9"),
    Network("repvit_m0_9", fused=True),
    Network("mobileone_s0", norm_bias=1.0),
    Network("mobileone_s0", fused=True, norm_bias=1.0),
    Network("convnext_atto"),
    Network("convnextv2_atto"),
    Network("vit_tiny_patch16_224", img_size=True),
    Network("deit_tiny_patch16_224", img_size=True),
    Network("deit3_small_patch16_224", img_size=True),
    Network("swin_tiny_patch4_window7_224", 224),
    Network("swinv2_cr_tiny_224", 224),
    Network("pvt_v2_b0"),
    Network("levit_128s", 224),
    Network("ghostnet_100"),
    Network("edgenext_xx_small", 128),
    Network("mobilevit_xxs", 128),
    Network("mobilevitv2_050", 128),
    Network("poolformerv2_s12"),
    Network("caformer_s18"),
    Network("regnety_002"),
    Network("xcit_nano_12_p16_224", img_size=True),
    Network("swiftformer_xs", 128),
    Network("fasternet_t0"),
    Network("inception_next_atto"),
    Network("densenet121"),
    Network("hrnet_w18_small"),
]


def seeded_model(network: Network) -> torch.nn.Module:
    """Random weights with what training would have seen to: batch statistics that fit, layer scales that are not 1e-6.

    Without the statistics the activations of mobileone_s0 grow beyond half precision; a layer scale of 1e-6 has two
    significant bits in half precision, and hides the layers behind it.
    """
    torch.manual_seed(0)
    create: Any = timm.create_model
    size = {"img_size": network.side} if network.img_size else {}
    model = create(network.name, pretrained=False, num_classes=50, **size)
    with torch.no_grad():
        for parameter in model.parameters():
            if 0 < parameter.abs().max() < 1e-3:
                parameter.uniform_(0.05, 0.2)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
                module.momentum = 1.0
                if network.norm_bias is not None:
                    module.bias.fill_(network.norm_bias)
        model.train()(torch.randn(4, 3, network.side, network.side))
    return reparameterize_model(model.eval()) if network.fused else model.eval()


def psnr(got: np.ndarray, expected: np.ndarray) -> float:
    error = np.mean((got - expected) ** 2)
    return 10 * np.log10(np.ptp(expected) ** 2 / max(error, 1e-20))


def save(program: torch.export.ExportedProgram, path: Path, precision: str) -> None:
    """coremltools 9 has no `aten.addcmul` (convnextv2's response norm), so it is taken apart first."""
    ct = import_coremltools("a test")
    with quiet_coremltools():
        ct.convert(
            without_aliases(program.run_decompositions(get_decompositions([torch.ops.aten.addcmul]))),
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=getattr(ct.precision, precision),
            skip_model_load=True,
        ).save(str(path))


@pytest.mark.parametrize("network", [*QUICK, *(pytest.param(item, marks=pytest.mark.slow) for item in SLOW)], ids=str)
def test_backbone_agrees_with_torch(network: Network, tmp_path: Path) -> None:
    model = seeded_model(network)
    x = torch.randn(1, 3, network.side, network.side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(x).numpy()
        exported = torch.export.export(model, (x,))
    found = {}
    for precision in ("FLOAT32", "FLOAT16"):
        save(exported, tmp_path / f"{precision}.mlpackage", precision)
        program = MLProgram.load(tmp_path / f"{precision}.mlpackage")
        feeds = {program.inputs[0].name: x.numpy()}
        (got,) = program.predict(feeds).values()
        found[precision] = psnr(got, expected)
        assert program.find_fault(feeds) is None
    print(f"\n| {network} ({network.side} px) | {found['FLOAT32']:.0f} | {found['FLOAT16']:.0f} |")
    assert found["FLOAT32"] > 60.0
    assert found["FLOAT16"] > 40.0
