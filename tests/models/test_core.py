"""The detector-free model: shapes, padding, readout, and that it learns to look."""

import pytest
import torch

from edgevl.config import CONFIGS, ModelConfig, named_config
from edgevl.errors import InputError
from edgevl.models import build_model
from edgevl.models.capture import ADAPTERS, Adapted
from edgevl.models.fusion import Fusion
from edgevl.models.question_answering import answering_program

TINY = CONFIGS["nano"].replace(image_size=64, width=32, depth=2, heads=2, num_answers=7, vocab_size=40)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model(TINY)


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    return torch.rand(2, 3, 64, 64) * 255, torch.tensor([[2, 9, 8, 3] + [0] * 20, [2, 9, 3, 0] + [0] * 20])


def test_logits_and_tokens_have_the_documented_shapes(model, inputs):
    image, ids = inputs
    assert model(image, ids).shape == (2, 7)
    visual = model.core.encode_image(image)
    assert visual.shape == (2, 16, 32)
    assert model.core.fuse(ids, visual).shape == (2, 24, 32)
    assert model.core.encode_text(ids).shape == (2, 24, 32)


@pytest.mark.parametrize(
    ("backbone", "out_index", "message"),
    [
        (
            "dla46_c",
            3,
            r"dla46_c and pictures of 64 pixels \(stride 16, out_index 3\): the backbone makes 8 x 8 cells, not 4",
        ),
        ("test_resnet", 2, r"makes 8 x 8 cells, not 4 x 4: set out_index or stride"),
        ("vit_tiny_patch16_224", 0, r"does not take them \(Input height \(64\) doesn't match model \(224\)"),
        ("efficientformerv2_s0", 2, r"does not take them \(shape .*\); some want img_size in backbone_options"),
    ],
)
def test_a_backbone_that_does_not_fit_the_config(backbone: str, out_index: int, message: str, inputs):
    """It ended in torch's words about two shapes."""
    model = build_model(TINY.replace(backbone=backbone, backbone_options={}, out_index=out_index))
    with pytest.raises(InputError, match=message):
        model(*inputs)


def test_padding_changes_nothing(model, inputs):
    image, ids = inputs
    torch.testing.assert_close(model(image, ids[:, :6]), model(image, ids), atol=1e-5, rtol=1e-4)


def test_words_and_pixels_change_the_answer(model, inputs):
    image, ids = inputs
    other_words = ids.clone()
    other_words[:, 1] = 11
    assert not torch.allclose(model(image, ids), model(image, other_words), atol=1e-4)
    assert not torch.allclose(model(image, ids), model(255 - image, ids), atol=1e-4)


def test_readout_gives_the_same_states_as_the_whole_sequence():
    torch.manual_seed(0)
    fusion = Fusion(width=16, depth=3, heads=2).eval()
    tokens, keep = torch.randn(2, 9, 16), torch.ones(2, 9)
    torch.testing.assert_close(fusion(tokens, keep, readout=2), fusion(tokens, keep)[:, :2])


def test_adapters_agree(model, inputs):
    image, ids = inputs
    pixels = image.to(torch.uint8)
    raw, whole = (Adapted(answering_program(model), ADAPTERS[name]) for name in ("raw", "float"))
    found = raw(pixels.permute(0, 2, 3, 1), ids.int())
    torch.testing.assert_close(found, whole(pixels.float(), ids.int()))


def test_the_halves_make_the_whole(model, inputs):
    image, ids = inputs
    vision, fusion = (Adapted(answering_program(model, name), ADAPTERS["float"]) for name in ("vision", "fusion"))
    torch.testing.assert_close(fusion(vision(image), ids), model(image, ids))


def test_the_first_attention_matches_tokens_that_look_alike(model):
    attention = model.core.fusion.blocks[0].attention
    assert torch.equal(attention.query.weight, attention.key.weight)


@pytest.mark.parametrize(
    ("name", "millions"), [("nano", (2, 3)), ("tiny", (6, 10)), ("small", (18, 30)), ("base", (75, 100))]
)
def test_named_sizes(name, millions):
    count = sum(p.numel() for p in build_model(CONFIGS[name]).parameters()) / 1e6
    assert millions[0] <= count <= millions[1]


def test_config_mistakes():
    with pytest.raises(InputError, match='did you mean "nano"'):
        named_config("nanno")
    with pytest.raises(InputError, match='did you mean "width"'):
        ModelConfig.from_dict({"widht": 3})
    with pytest.raises(InputError, match="multiple of the stride"):
        TINY.replace(image_size=100)
    assert ModelConfig.from_dict(TINY.to_dict()) == TINY
