"""Embedding tables of an ExecuTorch program in int8, with a scale for each row."""

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.traceback import preserve_node_meta

from edgevl.export.passes import graph_pass
from edgevl.models.capture import name_outputs, program_outputs, without_unused_weights
from edgevl.plans.weight_codes import quantize_channels

_EMBEDDING = torch.ops.aten.embedding.default


@graph_pass("executorch-int8-tables", "executorch", "small", "stores embedding tables in int8, a scale for each row")
def quantize_tables(program: ExportedProgram) -> ExportedProgram:
    """Return `program` with int8 tables: rows and their scales are looked up and multiplied. `program` stays as it is.

    ExecuTorch has operators for quantized tables (`quantized_decomposed::embedding_byte`), but they are in a library
    of kernels that its Python runtime, among others, does not bring; these need none of it.
    """
    module: Any = program.module()
    for node in module.graph.find_nodes(op="call_function", target=_EMBEDDING):
        _look_up_int8(module, node)
    module.graph.eliminate_dead_code()
    module.recompile()
    with torch.no_grad(), preserve_node_meta():
        exported = torch.export.export(module, program.example_inputs[0])  # pyright: ignore[reportOptionalSubscript]
    return without_unused_weights(name_outputs(exported, [spec.name for spec in program_outputs(program)]))


def _look_up_int8(module: Any, node: Node) -> None:
    table: Any = node.args[0]
    weight: Tensor = attrgetter(table.target)(module).detach()  # [rows, width]
    rows, scales = quantize_channels(weight.numpy(), 0)
    constants = {f"{node.name}_rows": rows, f"{node.name}_scales": scales.reshape(-1, 1)}
    graph = module.graph
    with graph.inserting_before(node):
        found = []
        for name, value in constants.items():
            module.register_buffer(name, torch.from_numpy(value))
            found.append(graph.call_function(_EMBEDDING, (graph.get_attr(name), node.args[1])))
        steps = graph.call_function(torch.ops.aten.to.dtype, (found[0], torch.float32))
        node.replace_all_uses_with(graph.call_function(torch.ops.aten.mul.Tensor, (steps, found[1])))
    graph.erase_node(node)
