"""One program for every target: a model behind an image adapter, captured by `torch.export` with static shapes.

Shapes: B batch, S image side, T text tokens, A answers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from edgevl.errors import InputError, unknown_name
from edgevl.models.adapters import FloatImage, RawPixels

if TYPE_CHECKING:
    from edgevl.models.vqa import VqaModel

ADAPTERS: dict[str, type[nn.Module]] = {"raw": RawPixels, "float": FloatImage}
INPUT_NAMES = ("image", "input_ids")
OUTPUT_NAME = "logits"


def export_program(model: "VqaModel", adapter: str = "raw", batch: int = 1) -> ExportedProgram:
    """Capture `model` as a `torch.export` program with the inputs `image` and `input_ids` and the output `logits`.

    Args:
        model: any module with `forward(image float [B, 3, S, S] in 0..255, input_ids int [B, T])` and a `config` that
            holds `image_size` (S) and `text_length` (T). It is traced in eval mode; its mode is restored afterwards.
        adapter: `"raw"` takes `image` uint8 [B, S, S, 3]; `"float"` takes `image` float32 [B, 3, S, S] in 0..255, which
            is what a Core ML image input hands over. `input_ids` is int32 [B, T] in both.
        batch: B, fixed in the program.
    Raises:
        InputError: an unknown adapter, or a batch below 1.
    """
    if adapter not in ADAPTERS:
        raise unknown_name("image adapter", adapter, ADAPTERS)
    if batch < 1:
        raise InputError(f"batch {batch} is not a positive number of samples")
    wrapped = ADAPTERS[adapter](model)
    with _evaluating(model), torch.no_grad():
        program = torch.export.export(wrapped, example_inputs(model, adapter, batch))
    return name_output(program, OUTPUT_NAME)


def example_inputs(model: "VqaModel", adapter: str = "raw", batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Return zeros of the shapes and dtypes that the adapter takes: (image, input_ids)."""
    side, length = model.config.image_size, model.config.text_length
    if adapter == "raw":
        image = torch.zeros(batch, side, side, 3, dtype=torch.uint8)
    else:
        image = torch.zeros(batch, 3, side, side)
    return image, torch.zeros(batch, length, dtype=torch.int32)


def name_output(program: ExportedProgram, name: str) -> ExportedProgram:
    """Rename the single output of `program`, in place: `torch.export` names it after its last operator."""
    outputs = [spec for spec in program.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
    if len(outputs) != 1:
        raise InputError(f"a program with one output is needed, this one has {len(outputs)}")
    old = outputs[0].arg.name  # pyright: ignore[reportAttributeAccessIssue]
    node = next(node for node in program.graph.nodes if node.name == old)
    node._rename(name)
    program.graph_signature.replace_all_uses(old, node.name)
    return program


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode for the time of an export: dropout and batch statistics must not be captured."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
