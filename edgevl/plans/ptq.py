"""From a float program and a plan to a program with Q/DQ in the dialect of a target."""

import torch
from torch.export import ExportedProgram
from torch.fx.traceback import preserve_node_meta
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from edgevl.models.capture import name_outputs, program_outputs
from edgevl.plans.bias import correct_biases
from edgevl.plans.plan import Plan
from edgevl.plans.quantizer import DialectQuantizer
from edgevl.plans.spec import Dialect


def quantize_program(program: ExportedProgram, plan: Plan, dialect: Dialect) -> ExportedProgram:
    """Return `program` with `quantize` and `dequantize` operators where the dialect wants them, weights in int8."""
    example = program.example_inputs[0]  # pyright: ignore[reportOptionalSubscript]
    prepared = prepare_pt2e(program.module(), DialectQuantizer(dialect, plan))
    with torch.no_grad():
        correct_biases(prepared, plan)
        prepared(*example)  # shows the weights to their observers
        converted = convert_pt2e(prepared, fold_quantize=dialect.folded)
        with preserve_node_meta():  # or nobody knows which module an operator belongs to
            quantized = torch.export.export(converted, example)
    return name_outputs(quantized, [spec.name for spec in program_outputs(program)])
