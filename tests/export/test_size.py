"""More weights than one file can hold are refused by the numbers alone, before a conversion takes minutes and fails."""

import pytest
import torch

from edgevl.config import ModelConfig
from edgevl.errors import EdgeVLError, InputError
from edgevl.export.registry import get_exporter
from edgevl.models import VqaModel, build_model
from edgevl.models.question_answering import answering_programs

CONFIG = ModelConfig(
    name="big", backbone="test_resnet", image_size=32, text_length=6, vocab_size=2**22, num_answers=10, width=128,
    depth=1, heads=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def big() -> VqaModel:
    """2 GiB of words in fp32, without the memory."""
    with torch.device("meta"):
        return build_model(CONFIG)


@pytest.mark.parametrize(
    ("target", "precision"),
    [("onnx", "fp32"), ("onnx", "fp16"), ("tensorrt", "fp32"), ("tensorrt", "fp16")]
    + [("litert", precision) for precision in ("fp32", "fp16", "w8", "w8a8")],
)
def test_what_has_no_room_names_what_has(target: str, precision: str, big: VqaModel):
    with pytest.raises(InputError) as caught:
        get_exporter(target).check_size(answering_programs(big), precision)
    said = str(caught.value)
    assert said.startswith(
        f"{target} {precision} holds its weights in one file of at most 2 GiB, and those of this model"
    )
    assert "onnx w8, " in said and "coreml fp16" in said and "executorch fp32" in said and "2.00 GiB" in said
    assert "onnx fp32" not in said.split("What has room")[1] and "litert" not in said.split("What has room")[1]


def test_what_has_room(big: VqaModel):
    for target, precision in (("onnx", "w8"), ("coreml", "fp32"), ("coreml", "w4"), ("executorch", "fp32")):
        get_exporter(target).check_size(answering_programs(big), precision)


def test_the_halves_of_a_split_model_are_files_of_their_own():
    """One and a half GiB of words beside one of pixels: too much for one file, and none of two is too large."""
    with torch.device("meta"):
        model = build_model(CONFIG.replace(vocab_size=3 * 2**20))
        model.core.vision.project = torch.nn.Conv2d(2**14, 2**14, 1)
    with pytest.raises(InputError, match=r"2\.5. GiB there"):
        get_exporter("onnx").check_size(answering_programs(model), "fp32")
    get_exporter("onnx").check_size(answering_programs(model, "split"), "fp32")


def test_it_is_the_first_thing_that_export_says(tmp_path, monkeypatch):
    """The limit is made small here, so that no machine needs 2 GiB for it."""
    pytest.importorskip("litert_torch")  # a missing package is named before that
    from edgevl.bundle_export import export_bundle
    from edgevl.export import registry

    monkeypatch.setattr(registry, "ONE_FILE", 2**20)
    monkeypatch.setattr("edgevl.export.registry.capture", lambda *_: pytest.fail("it was captured"))
    with pytest.raises(InputError, match=r"litert fp16 holds its weights in one file .* 0\.01 GiB there") as caught:
        export_bundle(None, "litert", "fp16", tmp_path / "x.edgevl")
    assert caught.value.exit_code == 2 and not list(tmp_path.iterdir())


def test_protobuf_that_cannot_serialize_is_said_in_words():
    """What no count foresees, such as a precision that left more in float than it was thought to."""
    from google.protobuf.message import EncodeError

    from edgevl.export.to_onnx import one_protobuf

    with pytest.raises(EdgeVLError, match="larger than 2 GiB, which is protobuf's limit"), one_protobuf():
        raise EncodeError("Failed to serialize proto")
