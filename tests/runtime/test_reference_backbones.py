"""Whole networks through the Core ML reference executor, against eager torch: float32 and half-precision programs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from edgevl.export.to_coreml import without_aliases
from edgevl.runtime.coreml_quiet import import_coremltools, quiet_coremltools
from edgevl.runtime.coreml_reference import MLProgram

QUICK = ["resnet10t", "mobilenetv3_small_050"]
SLOW = [
    "resnet18",
    "mobilenetv3_small_100",
    "mobilenetv4_conv_small",
    "efficientnet_lite0",
    "tf_efficientnet_lite0",
    "vit_tiny_patch16_224",
    "repvit_m0_9",
    "convnext_atto",
    "ghostnet_100",
]


def seeded_model(name: str) -> torch.nn.Module:
    """Random weights with batch statistics that are not the trivial 0 and 1."""
    torch.manual_seed(0)
    size: Any = {"img_size": 64} if name.startswith("vit") else {}
    model = timm.create_model(name, pretrained=False, num_classes=50, **size).eval()
    for module in model.modules():
        if (
            isinstance(module, torch.nn.BatchNorm2d)
            and module.running_mean is not None
            and module.running_var is not None
        ):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def psnr(got: np.ndarray, expected: np.ndarray) -> float:
    error = np.mean((got - expected) ** 2)
    return 10 * np.log10(np.ptp(expected) ** 2 / max(error, 1e-20))


def save(program: torch.export.ExportedProgram, path: Path, precision: str) -> None:
    ct = import_coremltools("a test")
    with quiet_coremltools():
        ct.convert(
            without_aliases(program.run_decompositions({})),
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=getattr(ct.precision, precision),
            skip_model_load=True,
        ).save(str(path))


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_backbone_agrees_with_torch(name: str, tmp_path: Path) -> None:
    model = seeded_model(name)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(x).numpy()
        exported = torch.export.export(model, (x,))
    for precision, floor in (("FLOAT32", 60.0), ("FLOAT16", 40.0)):
        save(exported, tmp_path / f"{precision}.mlpackage", precision)
        program = MLProgram.load(tmp_path / f"{precision}.mlpackage")
        feeds = {program.inputs[0].name: x.numpy()}
        (got,) = program.predict(feeds).values()
        assert psnr(got, expected) > floor, precision
        assert program.overflows(feeds) == []
