"""Write a program for Core AI: an `.aimodel` asset, for iOS and macOS 27. Experimental: its packages are betas.

A program may take uint8, so a picture goes in as raw pixels. coreai-torch 0.4.3 converts on Linux and macOS.
"""

import contextlib
import copy
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from edgevl.errors import EdgeVLError, first_line, unknown_name
from edgevl.export.registry import Unconvertible, register_exporter
from edgevl.models.capture import program_inputs, program_outputs
from edgevl.runtime.coreai_asset import METADATA, import_coreai, quiet_coreai
from edgevl.runtime.session import TensorSpec

PRECISIONS = ("fp32", "fp16")


@register_exporter(
    "coreai",
    artifact="model.aimodel",
    adapter="raw",
    precisions=PRECISIONS,
    aliases=("aimodel", "core-ai"),
)
def write_coreai(program: ExportedProgram, path: Path, precision: str = "fp32") -> None:
    """Write `program`, whose `image` is uint8 [B, S, S, 3], as a Core AI asset, a folder.

    Inputs and outputs keep their names; outputs are float32 in both precisions. The same weights give the same bytes in
    one process; another process gives other names to the constants (`resource_` and a hash that differs from process to
    process) and changes nothing else.

    Args:
        path: ends in `.aimodel`: Core AI demands it.
        precision: `fp32` or `fp16` (weights and arithmetic in half precision). Core AI 1.0.0b3 on the CPU is
            slow and coarse in half precision: of the embedded model 65 dB and 98.7 % of the same answers, where torch
            has 77 dB and 99.8 % for the same program. `verify` on Linux refuses that; Apple's hardware was not tried.
    Raises:
        InputError: an unknown precision.
        MissingDependency: coreai-torch is not installed.
        Unconvertible: Core AI cannot convert the program.
        EdgeVLError: the folder cannot be written.
    """
    if precision not in PRECISIONS:
        raise unknown_name("Core AI precision", precision, PRECISIONS)
    inputs, outputs = program_inputs(program), program_outputs(program)
    asset = _converted(to_half(program) if precision == "fp16" else program, inputs, outputs)
    try:
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / "model.aimodel"
            with quiet_coreai():
                asset.save_asset(saved)
            _make_reproducible(saved / METADATA)
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(saved, path)
    except (OSError, shutil.Error) as error:
        raise EdgeVLError(f"cannot write {path}: {error}") from error


def _converted(program: ExportedProgram, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Any:
    """The program as a `coreai.authoring.AIProgram`."""
    coreai_torch = import_coreai("coreai_torch", "export to Core AI")
    converter = coreai_torch.TorchConverter
    try:
        with quiet_coreai(), _numbered_graphs():
            decomposed = program.run_decompositions(coreai_torch.get_decomp_table())
            return (
                converter(mode=converter.Mode.RELEASE)  # DEBUG writes stack traces with paths of this machine
                .add_exported_program(
                    decomposed,
                    input_names=[spec.name for spec in inputs],
                    output_names=[spec.name for spec in outputs],
                )
                .to_coreai()
            )
    except Exception as error:  # the converter raises ValueError, RuntimeError, KeyError, NotImplementedError
        raise Unconvertible(f"Core AI cannot convert it ({first_line(error)})") from error


@contextlib.contextmanager
def _numbered_graphs() -> Iterator[None]:
    """Number the graphs of composite operators: coreai-core ends their names in eight letters of `secrets`."""
    builder: Any = import_coreai("coreai.authoring.graph_builder", "export to Core AI")
    original, numbers = builder._randomize_fn_name, itertools.count()
    builder._randomize_fn_name = lambda name: f"{name}_{next(numbers)}"
    try:
        yield
    finally:
        builder._randomize_fn_name = original


def to_half(program: ExportedProgram) -> ExportedProgram:
    """A copy of `program` with weights and arithmetic in float16. Inputs keep their dtypes, the output is float32."""
    module: Any = copy.deepcopy(program.module())  # .half() would change the tensors that the program shares with it
    for node in module.graph.nodes:
        node.args = tuple(_halved(value) for value in node.args)
        node.kwargs = {key: _halved(value) for key, value in node.kwargs.items()}
    module.recompile()
    zeros = [torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in program_inputs(program)]
    with torch.no_grad():
        return torch.export.export(_FloatOutput(module.half()), tuple(zeros))


def _halved(value: Any) -> Any:
    return torch.float16 if value is torch.float32 else value


class _FloatOutput(nn.Module):
    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        halves = [value.half() if value.dtype == torch.float32 else value for value in inputs]
        return self.module(*halves).float()


def _make_reproducible(metadata: Path) -> None:
    """Take the date out of the metadata, and put the rest in order."""
    values = json.loads(metadata.read_text(encoding="utf-8"))
    values.pop("creationDate", None)
    metadata.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8", newline="\n")
