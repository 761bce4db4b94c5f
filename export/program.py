"""One program for every target: a model, or one of its halves, behind an image adapter, captured by `torch.export`.

Shapes are static: B batch, S image side, T text tokens, V visual tokens, D width, A answers.
"""

import copy
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from edgevl.errors import InputError, unknown_name
from edgevl.models.adapters import Adapter, FusionHead, Vision, Whole, float_image, raw_pixels
from edgevl.runtime.session import TensorSpec

if TYPE_CHECKING:
    from edgevl.models.vqa import VqaModel

ADAPTERS: dict[str, Adapter] = {"raw": raw_pixels, "float": float_image}
# part of a model -> the module, the names of its inputs, the name of its output
PARTS: dict[str, tuple[type[nn.Module], tuple[str, ...], str]] = {
    "model": (Whole, ("image", "input_ids"), "logits"),
    "vision": (Vision, ("image",), "visual"),
    "fusion": (FusionHead, ("visual", "input_ids"), "logits"),
}
LAYOUTS = {"single": ("model",), "split": ("vision", "fusion")}


def export_program(model: "VqaModel", adapter: str = "raw", batch: int = 1, part: str = "model") -> ExportedProgram:
    """Capture `model`, or one half of it, as a `torch.export` program.

    `model` takes (`image`, `input_ids`) to `logits`, `vision` takes `image` to `visual`, and `fusion` takes (`visual`,
    `input_ids`) to `logits`.

    Args:
        model: captured in eval mode, in a copy: it is left as it was.
        adapter: `"raw"` takes `image` uint8 [B, S, S, 3]; `"float"` takes `image` float32 [B, 3, S, S] in 0..255, which
            is what a Core ML image input hands over. `input_ids` is int32 [B, T] in both.
        batch: B, fixed in the program.
        part: `"model"`, `"vision"` or `"fusion"`.
    Raises:
        InputError: an unknown adapter or part, or a batch below 1.
    """
    if adapter not in ADAPTERS:
        raise unknown_name("image adapter", adapter, ADAPTERS)
    if part not in PARTS:
        raise unknown_name("part of a model", part, PARTS)
    if batch < 1:
        raise InputError(f"batch {batch} is not a positive number of samples")
    build, _, output = PARTS[part]
    wrapped = build(deployable(model), ADAPTERS[adapter]).eval()
    with torch.no_grad(), warnings.catch_warnings():
        # timm's EfficientViT and TinyViT cache a bias while they are traced; in a copy nobody sees it.
        warnings.filterwarnings("ignore", "The tensor attribute .* was assigned during export")
        program = torch.export.export(wrapped, example_inputs(model, adapter, batch, part))
    return name_output(without_unused_weights(program), output)


def example_inputs(
    model: "VqaModel", adapter: str = "raw", batch: int = 1, part: str = "model"
) -> tuple[torch.Tensor, ...]:
    """Return zeros of the shapes and dtypes that a part of the model takes, in order."""
    config = model.config
    side = config.image_size
    raw = adapter == "raw"
    zeros = {
        "image": torch.zeros(batch, side, side, 3, dtype=torch.uint8) if raw else torch.zeros(batch, 3, side, side),
        "visual": torch.zeros(batch, config.grid**2, config.width),
        "input_ids": torch.zeros(batch, config.text_length, dtype=torch.int32),
    }
    return tuple(zeros[name] for name in PARTS[part][1])


def deployable(model: "VqaModel") -> "VqaModel":
    """A copy to capture: branches of re-parameterizable blocks (RepViT, MobileOne) merged, filters standardized."""
    from timm.utils.model import reparameterize_model

    from edgevl.export.filters import fold_standardized

    copied = copy.deepcopy(model).eval()
    backbone = copied.core.vision.backbone
    names = ("fuse", "reparameterize", "switch_to_deploy")
    if any(hasattr(module, name) for module in backbone.modules() for name in names):
        copied.core.vision.backbone = reparameterize_model(backbone, inplace=True)
    fold_standardized(copied.core.vision)
    return copied


def program_inputs(program: ExportedProgram) -> tuple[TensorSpec, ...]:
    """Name, dtype and shape of what a program takes (not of its weights), in order."""
    names = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]  # pyright: ignore[reportAttributeAccessIssue]
    return _specs(program, names)


def program_outputs(program: ExportedProgram) -> tuple[TensorSpec, ...]:
    """Name, dtype and shape of what a program returns, in order."""
    return _specs(program, [spec.arg.name for spec in _output_specs(program)])


def _specs(program: ExportedProgram, names: Sequence[str]) -> tuple[TensorSpec, ...]:
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.name in names}
    return tuple(
        TensorSpec(name, str(values[name].dtype).removeprefix("torch."), tuple(values[name].shape)) for name in names
    )


def _output_specs(program: ExportedProgram) -> list[Any]:
    return [spec for spec in program.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]


def name_output(program: ExportedProgram, name: str) -> ExportedProgram:
    """Rename the single output of `program`, in place: `torch.export` names it after its last operator."""
    outputs = _output_specs(program)
    if len(outputs) != 1:
        raise InputError(f"a program with one output is needed, this one has {len(outputs)}")
    old = outputs[0].arg.name
    node = next(node for node in program.graph.nodes if node.name == old)
    node._rename(name)
    program.graph_signature.replace_all_uses(old, node.name)
    return program


def without_unused_weights(program: ExportedProgram) -> ExportedProgram:
    """Remove weights that nothing reads, in place: `torch.export` keeps every parameter of the module, used or not.

    One half of a model would otherwise carry the other half with it.
    """
    signature, placeholders = program.graph_signature, {node.name: node for node in program.graph.nodes}
    unused = [
        spec
        for spec in signature.input_specs
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
        and not placeholders[spec.arg.name].users  # pyright: ignore[reportAttributeAccessIssue]
    ]
    for spec in unused:
        program.graph.erase_node(placeholders[spec.arg.name])  # pyright: ignore[reportAttributeAccessIssue]
        signature.input_specs.remove(spec)
        kept = {other.target for other in signature.input_specs}
        if spec.target not in kept:  # tied weights share one entry
            program.state_dict.pop(str(spec.target), None)
            program.constants.pop(str(spec.target), None)
    program.graph_module.recompile()
    return program
