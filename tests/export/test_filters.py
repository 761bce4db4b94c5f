"""Filters that are standardized at every run of a backbone (NFNet, BiT) are constants of the deployed model."""

from pathlib import Path

import pytest
import torch
from timm.layers import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import nn

from edgevl.config import ModelConfig
from edgevl.export.family import write_untrained
from edgevl.models import VqaModel, build_model
from edgevl.models.checkpoint import load_model
from edgevl.models.filters import fold_standardized
from edgevl.models.kinds import deployable_of, open_deployable
from edgevl.models.merging import deployed
from edgevl.models.question_answering import export_program
from edgevl.plans.values import operator_name

CONFIG = ModelConfig(
    name="nf", backbone="test_nfnet", backbone_options={}, image_size=32, text_length=6, vocab_size=50, num_answers=10,
    width=32, depth=1, heads=2,
)  # fmt: skip
LAYERS = {
    "bit": lambda: StdConv2d(8, 12, 3, stride=2, padding=1, groups=2, bias=True),
    "bit, padded as TensorFlow does": lambda: StdConv2dSame(8, 12, 3, stride=2),
    "nfnet": lambda: ScaledStdConv2d(8, 12, 3, dilation=2, gamma=1.7, bias=False),
    "nfnet, padded as TensorFlow does": lambda: ScaledStdConv2dSame(8, 12, 5, stride=2, gamma=1.7),
}


@pytest.fixture(scope="module")
def model() -> VqaModel:
    torch.manual_seed(0)
    return build_model(CONFIG)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_same_to_the_last_bit(kind: str):
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    if hasattr(layer, "gain"):
        nn.init.normal_(layer.gain)
    inner = nn.Sequential(layer)
    folded, x = nn.Sequential(inner), torch.randn(2, 8, 11, 13)
    with torch.no_grad():
        expected = layer(x)
        fold_standardized(folded)
        assert type(inner[0]) is not type(layer), "a plain convolution"
        assert torch.equal(folded(x), expected)


def test_no_filter_is_computed_in_the_program(model: VqaModel):
    convolutions = [node for node in export_program(model).graph.nodes if operator_name(node) == "conv"]
    assert len(convolutions) > 8 and all(node.args[1].op == "placeholder" for node in convolutions)


def test_the_model_itself_stays_and_trains(model: VqaModel):
    image, ids = torch.rand(2, 3, 32, 32) * 255, torch.ones(2, 6, dtype=torch.int32)
    folded = deployed(model)
    with torch.no_grad():
        assert torch.equal(folded(image, ids), model(image, ids))
    layers = [layer for layer in model.modules() if isinstance(layer, ScaledStdConv2d)]
    assert len(layers) > 8 and not any(isinstance(layer, ScaledStdConv2d) for layer in folded.modules())
    model(image, ids).sum().backward()
    assert all(layer.weight.grad is not None and layer.gain.grad is not None for layer in layers)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_untrained(CONFIG, tmp_path_factory.mktemp("models") / "nf")


@pytest.mark.parametrize("backbone", ["test_nfnet", "mobileone_s0"])
def test_4_bit_weights_are_rounded_as_they_are_deployed(backbone: str, tmp_path: Path):
    """A filter that is standardized, or branches that are merged, after rounding would lie on no grid."""
    from edgevl.quantize.model_folder import quantize_model
    from edgevl.quantize.weights import with_rounded_weights

    source = write_untrained(CONFIG.replace(backbone=backbone, name=backbone), tmp_path / "model")
    quantized = quantize_model(source, "w4", samples=64, out=tmp_path / "w4")
    (program,) = with_rounded_weights(open_deployable(quantized.folder), quantized.folder).programs("single")
    weights = dict(deployed(program.module).named_parameters())
    exact = dict(deployed(load_model(source).model).named_parameters())
    rounded = [name for name in quantized.plan.modules if name.startswith("core.vision.backbone")]
    assert rounded
    for name in rounded:
        assert torch.equal(weights[f"{name}.weight"], program.weights()[f"{name}.weight"])
        assert not torch.equal(weights[f"{name}.weight"], exact[f"{name}.weight"])


def test_rounded_weights_of_another_shape_of_the_model_are_refused(folder: Path, tmp_path: Path):
    """Until branches were merged first, their weights were rounded: such a file would be passed over in silence."""
    from safetensors.torch import load_file

    from edgevl.errors import InputError
    from edgevl.plans.plan import load_plan, save_plan
    from edgevl.quantize.model_folder import quantize_model
    from edgevl.quantize.weights import ROUNDED, save_weights, with_rounded_weights

    quantized = quantize_model(folder, "w4", samples=64, out=tmp_path / "w4").folder
    model = open_deployable(quantized)
    plan = load_plan(quantized, model.sha256)
    assert plan is not None
    digest = save_weights(load_file(quantized / ROUNDED) | {"core.vision.branch.weight": torch.ones(2)}, quantized)
    save_plan(plan.model_copy(update={"weights_sha256": digest}), quantized)
    with pytest.raises(InputError, match=r"holds core\.vision\.branch\.weight, which the deployed model has not"):
        with_rounded_weights(model, quantized)


def test_training_with_rounding_is_refused(folder: Path):
    """What is trained there is the folded filter: put back as a weight, it would be standardized again."""
    pytest.importorskip("torchao")
    from edgevl.errors import InputError
    from edgevl.plans.spec import get_dialect
    from edgevl.quantize.calibrate import calibrate
    from edgevl.quantize.qat import RoundedModel, Scheme, programs_to_train, trainable

    loaded = load_model(folder)
    model = deployable_of(loaded)
    plan = trainable(calibrate(model, samples=256))
    with pytest.raises(InputError, match=r"cannot be trained with quantization: core\.vision\.backbone"):
        RoundedModel(loaded.model, programs_to_train(model), plan, Scheme(get_dialect("x86")), 1, 1)
