"""The one program that every exporter starts from."""

import pytest
import torch

from edgevl.config import ModelConfig
from edgevl.errors import InputError
from edgevl.models import VqaModel, build_model
from edgevl.models.capture import example_inputs
from edgevl.models.question_answering import answering_program, export_program

CONFIG = ModelConfig(
    name="toy", image_size=32, text_length=6, vocab_size=50, num_answers=10, width=32, depth=1, heads=2, dropout=0.5
)


@pytest.fixture(scope="module")
def model() -> VqaModel:
    torch.manual_seed(0)
    return build_model(CONFIG)


@pytest.mark.parametrize(("adapter", "batch"), [("raw", 1), ("float", 1), ("raw", 3)])
def test_names_shapes_and_values(model: VqaModel, adapter: str, batch: int) -> None:
    program = export_program(model, adapter, batch)
    assert program.graph_signature.user_inputs == ("image", "input_ids")
    assert program.graph_signature.user_outputs == ("logits",)
    image, ids = example_inputs(answering_program(model), adapter, batch)
    assert image.dtype == (torch.uint8 if adapter == "raw" else torch.float32)
    image = torch.randint(0, 256, image.shape, dtype=torch.uint8).to(image.dtype)
    ids[:, :3] = torch.tensor([2, 7, 9])
    pixels = image.float().permute(0, 3, 1, 2) if adapter == "raw" else image
    with torch.no_grad():
        torch.testing.assert_close(program.module()(image, ids), model(pixels, ids), rtol=1e-5, atol=1e-5)


def test_a_model_in_training_is_exported_in_eval_mode_and_stays_in_training(model: VqaModel) -> None:
    model.train()
    try:
        program = export_program(model)
        assert all(module.training for module in model.modules())
        dropouts = program.graph.find_nodes(op="call_function", target=torch.ops.aten.dropout.default)
        assert all(node.args[2] is False for node in dropouts)
        inputs = example_inputs(answering_program(model))
        torch.testing.assert_close(program.module()(*inputs), program.module()(*inputs))
    finally:
        model.eval()


def test_the_program_survives_saving(model: VqaModel, tmp_path) -> None:
    torch.export.save(export_program(model), tmp_path / "program.pt2")
    loaded = torch.export.load(tmp_path / "program.pt2")
    assert loaded.graph_signature.user_inputs == ("image", "input_ids")
    assert loaded.graph_signature.user_outputs == ("logits",)


def test_bad_arguments_are_refused(model: VqaModel) -> None:
    with pytest.raises(InputError, match="Known: float, raw"):
        export_program(model, "uint8")
    with pytest.raises(InputError, match="batch 0"):
        export_program(model, batch=0)
