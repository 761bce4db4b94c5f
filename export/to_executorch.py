"""Write a program for ExecuTorch: a `.pte` file, run by XNNPACK on the CPU or by Core ML on Apple's devices."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from edgevl.errors import EdgeVLError, InputError, first_line, unknown_name
from edgevl.export.executorch_tables import quantize_tables
from edgevl.export.padding import pad_by_slices
from edgevl.export.passes import graph_pass
from edgevl.export.pooling import fills
from edgevl.export.registry import Option, Unconvertible, register_exporter
from edgevl.formats.executorch_program import INPUT_NAMES, OUTPUT_NAMES
from edgevl.models.capture import program_inputs, program_outputs
from edgevl.runtime.executorch_quiet import import_executorch, quiet_executorch

DELEGATES = ("xnnpack", "coreml")
PRECISIONS = ("fp32", "w8a8")
_PURPOSE = "export to ExecuTorch"
_QUANTIZE, _DEQUANTIZE = (f"quantized_decomposed.{way}_per_tensor" for way in ("quantize", "dequantize"))


def check_delegate(precision: str, delegate: str) -> None:
    """Raises `InputError` for an unknown precision or delegate, and for `w8a8` with another delegate than `xnnpack`."""
    if precision not in PRECISIONS:
        raise unknown_name("ExecuTorch precision", precision, PRECISIONS)
    if delegate not in DELEGATES:
        raise unknown_name("delegate", delegate, DELEGATES)
    if precision == "w8a8" and delegate != "xnnpack":
        raise InputError(
            f'the delegate "{delegate}" takes fp32; w8a8 is for xnnpack, or for the target {delegate} itself'
        )


@register_exporter(
    "executorch",
    artifact="model.pte",
    adapter="raw",
    precisions=PRECISIONS,
    aliases=("pte", "et"),
    options={"delegate": Option(DELEGATES, "xnnpack")},
    check=check_delegate,
    dialect="xnnpack",
)
def write_executorch(program: ExportedProgram, path: Path, precision: str = "fp32", delegate: str = "xnnpack") -> None:
    """Write `program` to `path`, weights inside. The same weights give the same bytes; `program` is not changed.

    Beside `forward`, the file has two methods that return a constant text: `input_names` ("image,input_ids") and
    `output_names` ("logits"). A `.pte` has no other names for them.

    Args:
        precision: `fp32`; or `w8a8` (static int8, tables too), for a program with Q/DQ in the dialect `xnnpack`.
        delegate: `xnnpack` (any CPU), or `coreml` (Apple's devices; the file cannot be run elsewhere).
    Raises:
        InputError: an unknown precision or delegate, or `w8a8` for another delegate than `xnnpack`.
        MissingDependency: executorch, or for the delegate `coreml` coremltools, is not installed.
        Unconvertible: ExecuTorch or the delegate cannot take the program.
        EdgeVLError: the file cannot be written.
    """
    check_delegate(precision, delegate)
    content = to_pte(quantize_tables(program) if precision == "w8a8" else program, delegate)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise EdgeVLError(f"cannot write {path}: {error.strerror}") from error


def to_pte(program: ExportedProgram, delegate: str = "xnnpack") -> bytes:
    """Lower to the bytes of a `.pte`. Raises as `write_executorch` does."""
    exir = import_executorch("executorch.exir", _PURPOSE)
    names = {
        INPUT_NAMES: ",".join(spec.name for spec in program_inputs(program)),
        OUTPUT_NAMES: ",".join(spec.name for spec in program_outputs(program)),
    }
    lower = _lower_coreml if delegate == "coreml" else _lower_xnnpack
    try:
        with quiet_executorch():
            return bytes(lower(exir, program, names).to_executorch().buffer)
    except EdgeVLError:
        raise
    except Exception as error:  # exir, torch and the delegates each raise types of their own
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise Unconvertible(f"ExecuTorch cannot lower it to {delegate} ({reason})") from error


def _lower_xnnpack(exir: Any, program: ExportedProgram, names: dict[str, str]) -> Any:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    return exir.to_edge_transform_and_lower(
        pad_by_slices(program),
        transform_passes=[_edge_pass(without_identities), _edge_pass(unshare_dequantizers)],
        partitioner=[XnnpackPartitioner()],
        constant_methods=names,
    )


def _lower_coreml(exir: Any, program: ExportedProgram, names: dict[str, str]) -> Any:
    from edgevl.export.executorch_coreml import coreml_partitioner, reproducible_coreml

    with reproducible_coreml():
        return exir.to_edge_transform_and_lower(
            program,
            transform_passes=[_edge_pass(without_identities)],
            partitioner=[coreml_partitioner()],
            constant_methods=names,
        )


def _edge_pass(change: Callable[[torch.fx.GraphModule], torch.fx.GraphModule]) -> Any:
    """A pass as ExecuTorch takes it, of a function that changes a graph of edge operators."""
    from torch.fx.passes.infra.pass_base import PassResult

    return lambda module: PassResult(change(module), True)


@graph_pass("no-identities", "executorch", "fast", "removes operators that return their argument")
def without_identities(module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Remove edge operators that return their argument, in place, and ceilings that have nothing to round up.

    `matmul` decomposes to `expand` and `bmm` whether or not anything expands, and XNNPACK takes no `expand`: each would
    be a copy and a border between two delegates. Nor does it take `avg_pool2d` with `ceil_mode`, which changes nothing
    where the windows fill the picture exactly.
    """
    for node in list(module.graph.nodes):
        name = _name(node)
        if name in ("aten.expand_copy.default", "aten.alias_copy.default") and _is_identity(node):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
        elif name == "aten.avg_pool2d.default" and fills(node):
            node.args = (*node.args[:4], False, *node.args[5:])
    module.recompile()
    return module


@graph_pass("own-dequantizers", "executorch", "runs", "gives who may become an int8 kernel a dequantize of its own")
def unshare_dequantizers(module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Give the edge operators that may become an int8 kernel a `dequantize` of their own, in place.

    ExecuTorch 1.5 drops the one in front of an int8 kernel, and a float operator that shares it (a squeeze-and-excite
    gate beside its mean) then reads int8: "Failed to create XNNMultiply" when the file is loaded.
    """
    for node in list(module.graph.nodes):
        if not _name(node).startswith(_DEQUANTIZE):
            continue
        for reader in [reader for reader in node.users if len(node.users) > 1 and _may_be_int8(reader)]:
            with module.graph.inserting_before(reader):
                reader.replace_input_with(node, module.graph.node_copy(node))
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _may_be_int8(node: torch.fx.Node) -> bool:
    """Is its result, behind a clamp or not, quantized and nothing else?"""
    if len(node.users) != 1:
        return False
    (follower,) = node.users
    return any(_name(user).startswith(_QUANTIZE) for user in (follower, *follower.users))


def _name(node: torch.fx.Node) -> str:
    return getattr(node.target, "__name__", "")


def _is_identity(node: torch.fx.Node) -> bool:
    source = node.args[0]
    if not isinstance(source, torch.fx.Node) or (source.op == "placeholder" and _is_output(node)):
        return False
    before, after = source.meta["val"], node.meta["val"]
    return before.shape == after.shape and before.dtype == after.dtype


def _is_output(node: torch.fx.Node) -> bool:
    return any(user.op == "output" for user in node.users)
