"""Write a program for LiteRT: a `.tflite` file, whose inputs and outputs have names in its signature."""

import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx.traceback import preserve_node_meta

from edgevl.errors import EdgeVLError, MissingDependency, unknown_name
from edgevl.export.litert_model import (
    LAYER,
    dequantize_outputs,
    halve_weights,
    quantize_tables,
    quantize_weights,
    rename_tensors,
    to_bytes,
)
from edgevl.export.passes import graph_pass
from edgevl.export.pooling import fills
from edgevl.export.registry import register_exporter
from edgevl.models.capture import program_inputs, program_outputs
from edgevl.plans.values import operator_name
from edgevl.quiet import quiet_python, without_bars, without_native_stderr
from edgevl.runtime.litert_file import LiteModel, import_schema, parse_model

_CONVERT = {
    "fp32": lambda model: model,
    "fp16": halve_weights,
    "w8": quantize_weights,
    "w8a8": lambda model: quantize_tables(dequantize_outputs(model)),  # its products are int8 kernels already
}
PRECISIONS = tuple(_CONVERT)


@register_exporter(
    "litert",
    artifact="model.tflite",
    adapter="raw",
    precisions=PRECISIONS,
    aliases=("tflite", "lite-rt"),
    dialect="litert",
    one_file=dict.fromkeys(PRECISIONS, 4),  # every precision is made of the converted file, which is in fp32
)
def write_litert(program: ExportedProgram, path: Path, precision: str = "fp32") -> None:
    """Write `program` to `path`. The same weights give the same bytes; `program` stays as it is.

    Args:
        precision: `fp32`; `fp16` (weights in float16, arithmetic as the runtime does it: float32 on a CPU); `w8` (int8
            weights with a scale for each output channel; values between operators stay float32, and a kernel that can
            multiply in int8 quantizes its input as it comes); or `w8a8` (static int8), for a program with Q/DQ in the
            dialect `litert`.
    Raises:
        InputError: an unknown precision, or a weight that float16 cannot hold.
        MissingDependency: litert-torch is not installed.
        EdgeVLError: the file cannot be written.
    """
    if precision not in PRECISIONS:
        raise unknown_name("LiteRT precision", precision, PRECISIONS)
    content = serialize(to_litert(program), precision)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise EdgeVLError(f"cannot write {path}: {error.strerror}") from error


def to_litert(program: ExportedProgram) -> LiteModel:
    """Convert to a LiteRT model, in memory, with readable names: float32, and int8 where the program has Q/DQ.

    The converter itself turns Q/DQ into int8 kernels, with the scales of the program. (ai-edge-quantizer, as for `w8`,
    would want the ranges of a plan under the names of the converted file.)
    """
    schema = import_schema("export to LiteRT")
    with quiet_converter():
        try:
            import litert_torch
        except ImportError as error:
            raise MissingDependency("litert-torch", "litert", "export to LiteRT") from error
        with preserve_node_meta(), without_native_stderr():  # its C++ warns, and counts multiply-adds
            converted = litert_torch.convert(
                Named(program), sample_kwargs=_zeros(program), quant_config=_static_quantization()
            )
            content = converted.model_content()
    return rename_tensors(parse_model(content, "the converted model", schema))


def serialize(model: LiteModel, precision: str) -> bytes:
    """The file of a converted model in one of `PRECISIONS`. It may change `model`."""
    with quiet_converter():
        return to_bytes(_CONVERT[precision](model))


class Named(nn.Module):
    """A program whose inputs are keywords and whose output is a dict: litert-torch takes its names from these.

    It is interpreted operator by operator, so that torch.export, which litert-torch calls, hears which layer each
    belongs to. It shares the weights of the program.
    """

    def __init__(self, program: ExportedProgram):
        super().__init__()
        module = guard_float_weights(floor_pools(broadcast_implicitly(share_heads_explicitly(program.module()))))
        self.program: Any = name_layers(module)
        self._inputs = [spec.name for spec in program_inputs(program)]
        self._outputs = [spec.name for spec in program_outputs(program)]
        self.training = False  # not `eval()`, which a captured program refuses

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        results = torch.fx.Interpreter(self.program).run(*(inputs[name] for name in self._inputs))
        return dict(zip(self._outputs, results if isinstance(results, tuple) else (results,), strict=True))


def name_layers(module: Any) -> Any:
    """Write the whole path of its layer on every operator of a captured program, in place, as `layer_of` reads it.

    litert-torch would write the class and the last part of the path of each layer that is called on the way.
    """
    for node in module.graph.nodes:
        *_, (path, _) = [("", ""), *node.meta.get("nn_module_stack", {}).values()]
        node.meta["nn_module_stack"] = {str(depth): (part, LAYER) for depth, part in enumerate(["", *path.split(".")])}
    return module


@graph_pass("guard-float", "litert", "runs", "keeps the weights that a plan leaves in float from being rounded")
def guard_float_weights(module: Any) -> Any:
    """In a program with Q/DQ, put a barrier behind the weights that it leaves in float, in place.

    Without it the converter rounds the weights of whatever stands between Q and DQ, and a plan that keeps a module in
    float would be overruled.
    """
    if not any(operator_name(node).startswith("quantize_per") for node in module.graph.nodes):
        return module
    from litert_torch.backend.optimization_barrier import optimization_barrier_op

    for node in module.graph.nodes:
        if operator_name(node) in ("conv", "linear") and node.args[1].op == "get_attr":
            with module.graph.inserting_before(node):
                pair = ([node.args[1]] * 2,)  # the barrier of one value would not give a list
                guarded = module.graph.call_function(optimization_barrier_op, pair)
                node.update_arg(1, module.graph.call_function(operator.getitem, (guarded, 0)))
    return module


@graph_pass("floor-pools", "litert", "runs", "takes a ceil_mode that changes nothing from average pools")
def floor_pools(module: Any) -> Any:
    """Take `ceil_mode` from average pools where it changes nothing, in place.

    In front of a Q the converter otherwise leaves a pool as windowed sums in graphs of their own, which no kernel runs.
    """
    for node in module.graph.find_nodes(op="call_function", target=torch.ops.aten.avg_pool2d.default):
        if fills(node) and not any(node.args[3]):
            node.args = (*node.args[:4], False, True)
    return module


_ELEMENTWISE = {"add", "sub", "mul", "div"}


@graph_pass("implicit-broadcasts", "litert", "runs", "takes away expands in front of elementwise operators")
def broadcast_implicitly(module: Any) -> Any:
    """Let elementwise operators broadcast what an `expand` widened for them, in the graph of `module`, in place.

    litert-torch 0.10 loses the expand of [B, C, P, 1] to [B, C, P, N] where it changes the layout around it, and then
    refuses the operands ("'tfl.mul' op operands don't have broadcast-compatible shapes"): MobileViT v2's attention.
    """
    for node in [node for node in module.graph.nodes if operator_name(node) in ("expand", "expand_as")]:
        for reader in [reader for reader in node.users if _broadcasts(reader, node)]:
            reader.replace_input_with(node, node.args[0])
        if not node.users:
            module.graph.erase_node(node)
    module.recompile()
    return module


def _broadcasts(reader: Any, wide: Any) -> bool:
    """Is it an elementwise operator whose result has the same shape without the expand `wide`?"""
    if operator_name(reader) not in _ELEMENTWISE:
        return False
    operands = [wide.args[0] if operand is wide else operand for operand in reader.all_input_nodes]
    shapes = [operand.meta["val"].shape for operand in operands]
    return torch.broadcast_shapes(*shapes) == reader.meta["val"].shape


@graph_pass("explicit-heads", "litert", "runs", "repeats keys and values that several query heads share")
def share_heads_explicitly(module: Any) -> Any:
    """Repeat keys and values that several query heads share before attention, in the graph of `module`, in place.

    litert-torch 0.10 converts `scaled_dot_product_attention` with fewer key heads than query heads into a program that
    gives other numbers, and says nothing: 13 dB for 4 query heads over 1. MobileNetV4's hybrids attend like that.
    """
    attention = torch.ops.aten.scaled_dot_product_attention.default
    for node in module.graph.find_nodes(op="call_function", target=attention):
        _repeat_heads(module.graph, node)
    return module


def _repeat_heads(graph: Any, node: Any) -> None:
    """Give key and value of `node`, [..., 1, L, E], the heads of the query, [..., H, R, E]: a CONCATENATION.

    An expand would do, but litert-torch 0.10 makes a BROADCAST_TO of it that LiteRT refuses.
    """
    heads = node.args[0].meta["val"].shape[-3]
    for place in (1, 2):
        source = node.args[place]
        if source.meta["val"].shape[-3] == 1 < heads:
            with graph.inserting_before(node):
                wide = graph.call_function(torch.ops.aten.cat.default, ([source] * heads, -3))
            node.update_arg(place, wide)


def _static_quantization() -> Any:
    """The configuration that makes the converter fuse Q/DQ and operators; its quantizer itself is not asked for."""
    from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
    from litert_torch.quantize.quant_config import QuantConfig

    return QuantConfig(pt2e_quantizer=PT2EQuantizer().set_global(get_symmetric_quantization_config()))


def _zeros(program: ExportedProgram) -> dict[str, Tensor]:
    return {spec.name: torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in program_inputs(program)}


_QUIET = {
    "TF_ENABLE_ONEDNN_OPTS": "0",  # or its C++ half logs that oneDNN is on, which plays no part in a conversion
    "LITERT_TORCH_SHOW_PROGRESS": "n",  # or a line for each of its steps
    "LITERT_TORCH_SILENCE_TORCH_LOGS": "n",  # or it changes torch's loggers for good
}


@contextmanager
def quiet_converter() -> Iterator[None]:
    """Silence litert-torch and what it brings for a block: none of it concerns the person who exports.

    - Its own switches are environment variables, read when it is imported or when it runs; they are put back.
    - torchao, at import, makes torch log that it registers an enumeration in a deprecated way.
    - jax warns through Python about a CPU without a plugin, torch about its own deprecated functions.
    - ai-edge-quantizer draws a tqdm bar whatever `enable_progress_bar` says (0.10: `quantize` does not pass it on).
    """
    before = dict(os.environ)
    os.environ.update(_QUIET)
    try:
        with quiet_python(), without_bars():
            yield
    finally:
        for name in _QUIET:
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]
