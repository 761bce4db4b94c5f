"""Capture a program of a Deployable by `torch.export`, behind the image adapter that a target chooses.

Shapes are static: B batch, S image side.
"""

import copy
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from edgevl.bundle.specs import InputSpec, PictureSource
from edgevl.contracts import Program
from edgevl.errors import InputError, unknown_name
from edgevl.runtime.session import TensorSpec

Adapter = Callable[[Tensor], Tensor]


def raw_pixels(image_BSS3: Tensor) -> Tensor:
    """uint8 [B, S, S, 3] to float [B, 3, S, S]. Cast first: TensorRT's parser refuses a Transpose on UInt8."""
    return image_BSS3.float().permute(0, 3, 1, 2)


def float_image(image_B3SS: Tensor) -> Tensor:
    """Float [B, 3, S, S] in 0..255 as it is: what a Core ML image input hands to the program."""
    return image_B3SS


ADAPTERS: dict[str, Adapter] = {"raw": raw_pixels, "float": float_image}


class Adapted(nn.Module):
    """A method of a module with an image adapter in front of every picture, and the inputs' declared names."""

    def __init__(self, program: Program, adapter: Adapter):
        super().__init__()
        self.model = copy.deepcopy(program.module).eval()
        pictures = [isinstance(spec.source, PictureSource) for spec in program.inputs]
        # The module itself where the method is `forward`: behind the bound method LiteRT names things otherwise.
        call = self.model if program.method == "forward" else getattr(self.model, program.method)

        def forward(*inputs: Tensor) -> Any:
            return call(*(adapter(value) if shown else value for value, shown in zip(inputs, pictures)))

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        named = [inspect.Parameter(spec.name, kind) for spec in program.inputs]
        forward.__signature__ = inspect.Signature(named)  # pyright: ignore[reportFunctionMemberAccess]
        self.forward = forward


def capture(program: Program, adapter: str = "raw", batch: int = 1) -> ExportedProgram:
    """Capture `program` in a copy: its module is left as it was.

    Args:
        adapter: `"raw"` takes a picture as uint8 [B, S, S, 3]; `"float"` as float32 [B, 3, S, S] in 0..255, which is
            what a Core ML image input hands over.
        batch: B, fixed in the program.
    Raises:
        InputError: an unknown adapter, a batch below 1, or other outputs than the program declares.
    """
    if adapter not in ADAPTERS:
        raise unknown_name("image adapter", adapter, ADAPTERS)
    if batch < 1:
        raise InputError(f"batch {batch} is not a positive number of samples")
    wrapped = Adapted(program, ADAPTERS[adapter]).eval()
    with torch.no_grad(), warnings.catch_warnings():
        # timm's EfficientViT and TinyViT cache a bias while they are traced; in a copy nobody sees it.
        warnings.filterwarnings("ignore", "The tensor attribute .* was assigned during export")
        exported = torch.export.export(wrapped, example_inputs(program, adapter, batch))
    return name_outputs(without_unused_weights(exported), [spec.name for spec in program.outputs])


def example_inputs(program: Program, adapter: str = "raw", batch: int = 1) -> tuple[Tensor, ...]:
    """Return zeros of the shapes and dtypes that a program takes behind an adapter, in order."""
    return tuple(_zeros(spec, adapter, batch) for spec in program.inputs)


def _zeros(spec: InputSpec, adapter: str, batch: int) -> Tensor:
    if isinstance(spec.source, PictureSource) and adapter == "raw":
        _, channels, height, width = spec.shape
        return torch.zeros(batch, height, width, channels, dtype=torch.uint8)
    return torch.zeros(batch, *spec.shape[1:], dtype=getattr(torch, spec.dtype))


def picture_names(program: Program) -> tuple[str, ...]:
    """Return the names of the inputs that are pictures."""
    return tuple(spec.name for spec in program.inputs if isinstance(spec.source, PictureSource))


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


def name_outputs(program: ExportedProgram, names: Sequence[str]) -> ExportedProgram:
    """Rename the outputs of `program`, in place: `torch.export` names each after the operator that makes it."""
    outputs, nodes = _output_specs(program), {node.name: node for node in program.graph.nodes}
    if len(outputs) != len(names):
        raise InputError(f"the program has {len(outputs)} outputs, {len(names)} are declared: {', '.join(names)}")
    for spec, name in zip(outputs, names):
        old = spec.arg.name
        other = nodes.get(name)
        if other is not None and other is not nodes[old]:
            _rename(program, other, f"{name}_inside")
        _rename(program, nodes[old], name)
        nodes = {node.name: node for node in program.graph.nodes}
    return program


def _rename(program: ExportedProgram, node: torch.fx.Node, name: str) -> None:
    """By hand: the graph's own way gives no name a second time, even one that has been given up."""
    old, node.name = node.name, name
    program.graph_signature.replace_all_uses(old, name)


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
