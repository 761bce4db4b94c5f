"""Bias correction: rounding moves the mean of a product's output, and its bias can move it back.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv 1906.04721), with means
that are measured on calibration data. One module after the other, each behind those already rounded and corrected.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from edgevl.plans.plan import Plan, Range
from edgevl.plans.quantizer import is_constant
from edgevl.plans.rounding import Rounding, behind_observer, channel_means, has_weight, is_product
from edgevl.plans.values import module_of, operator_name

_DIGITS = 6  # of a shift, behind the point


def bias_shifts(
    program: GraphModule,
    ranges: Mapping[str, Range],
    means: Mapping[str, Tensor],
    batches: Iterable[tuple[Tensor, ...]],
) -> dict[str, tuple[float, ...]]:
    """What to add to the bias of each module that has one, by module [C].

    Args:
        program, ranges, means: see `edgevl.quantize.module_errors.judge_modules`.
        batches: all are held at once: every value is computed for all of them before the next one.
    """
    runs = [_Run(program, ranges, batch) for batch in batches]
    shifts: dict[str, tuple[float, ...]] = {}
    with torch.no_grad():
        for node in program.graph.nodes:
            values = [run.compute(node) for run in runs]
            name = module_of(node)
            if is_product(node) and has_weight(node) and bias_of(node) is not None:
                if name not in shifts:
                    found = torch.stack([channel_means(node, value) for value in values]).mean(0)
                    shifts[name] = tuple(round(shift, _DIGITS) for shift in (means[name] - found).tolist())
                values = [_shifted(node, value, shifts[name]) for value in values]
            for run, value in zip(runs, values):
                run.keep(node, value)
    return shifts


class _Run(Rounding):
    """Goes on with what it is told to keep."""

    def __init__(self, program: GraphModule, ranges: Mapping[str, Range], batch: tuple[Tensor, ...]):
        super().__init__(program, ranges)
        self.args_iter = iter(batch)

    def compute(self, node: Node) -> Any:
        return self.rounded_product(node) if is_product(node) else self.run_node(node)

    def keep(self, node: Node, value: Any) -> None:
        self.env[node] = value
        for read in self.user_to_last_uses.get(node, []):
            del self.env[read]


def bias_of(node: Node) -> Node | None:
    """The constant that a convolution or a linear layer adds to its channels."""
    source = behind_observer((*node.args, None, None)[2])
    return source if is_constant(source) else None


def _shifted(node: Node, value: Tensor, shift: tuple[float, ...]) -> Tensor:
    added = torch.tensor(shift, dtype=value.dtype)
    return value + (added.reshape(1, -1, *[1] * (value.ndim - 2)) if operator_name(node) == "conv" else added)


def correct_biases(model: GraphModule, plan: Plan) -> None:
    """Add the shifts of a plan to the biases of a prepared model, in place; its weights are not those of the program.

    Modules that the plan keeps in float stay as they are.
    """
    done: set[str] = set()
    for node in model.graph.nodes:
        name, bias = module_of(node), bias_of(node) if is_product(node) else None
        if bias is None or name not in plan.bias_shifts or plan.is_float(name) or str(bias.target) in done:
            continue
        done.add(str(bias.target))
        path, _, attribute = str(bias.target).rpartition(".")
        owner = model.get_submodule(path)
        value = getattr(owner, attribute).detach()
        delattr(owner, attribute)
        owner.register_buffer(attribute, value + torch.tensor(plan.bias_shifts[name], dtype=value.dtype))
