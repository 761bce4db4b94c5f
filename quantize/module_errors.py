"""What int8 costs each module alone: its output with its weights and its inputs rounded, against the float output.

The signal-to-noise ratio of a module, in dB, is 10 log10(sum of y^2 / sum of (y - q)^2) over all numbers of all its
products: y in float; q with the same float inputs, rounded to the 8-bit grid of their ranges (as the dialect `x86`
does), and weights rounded to int8 with a scale for each output channel. 6 dB are one bit.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from edgevl.quantize.plan import ModulePlan, Range
from edgevl.quantize.quantizer import WEIGHT_AXIS, is_constant
from edgevl.quantize.spec import get_dialect
from edgevl.quantize.values import module_of, operator_name

PRODUCTS = ("conv", "linear", "matmul")
_HIGHEST = 300.0  # dB, where nothing was lost


def module_plans(
    program: GraphModule, nodes: Mapping[str, str], values: Mapping[str, Range], batches: Iterable[tuple[Tensor, ...]]
) -> dict[str, ModulePlan]:
    """The entry of each module with products, worst first.

    Args:
        program: with observers (they change nothing here) and with batch norms folded.
        nodes: value -> its node in `program`.
        values: value -> its range.
    """
    judge = _Judge(program, {node: values[name] for name, node in nodes.items()})
    with torch.no_grad():
        for batch in batches:
            judge.run(*batch)
    found = [(name, judge.plan(name)) for name in judge.signal]
    return dict(sorted(found, key=lambda pair: (pair[1].sqnr_db, pair[0])))


class _Judge(Interpreter):
    """Runs a program in float, and each product a second time with rounded operands."""

    def __init__(self, program: GraphModule, ranges: Mapping[str, Range]):
        super().__init__(program)
        self.ranges = ranges  # node -> range
        self.signal: defaultdict[str, float] = defaultdict(float)  # by module
        self.noise: defaultdict[str, float] = defaultdict(float)
        self.operators: dict[str, str] = {}
        self.weights: defaultdict[str, dict[str, int]] = defaultdict(dict)  # module -> weight -> its size
        self.inputs: defaultdict[str, dict[str, Range]] = defaultdict(dict)  # module -> node -> range

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[0]  # an observer

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if operator_name(n) in PRODUCTS:
            self._compare(n, result)
        return result

    def _compare(self, node: Node, exact: Tensor) -> None:
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        name, operator = module_of(node), operator_name(node)
        rounded = [self._rounded(name, source, value) for source, value in zip(node.args[:2], args[:2])]
        if operator in WEIGHT_AXIS and is_constant(node.args[1]):
            self.weights[name][str(node.args[1])] = args[1].numel()
            rounded[1] = round_weight(args[1], WEIGHT_AXIS[operator])
        result = self.call_function(node.target, (*rounded, *args[2:]), kwargs)  # pyright: ignore[reportArgumentType]
        self.operators[name] = operator
        self.signal[name] += float(exact.double().square().sum())
        self.noise[name] += float((exact - result).double().square().sum())

    def _rounded(self, module: str, source: Any, value: Tensor) -> Tensor:
        source = source.args[0] if source.op == "call_module" else source
        if source.name not in self.ranges:
            return value
        self.inputs[module][source.name] = found = self.ranges[source.name]
        scale, zero_point = get_dialect("x86").parameters(found)
        return torch.fake_quantize_per_tensor_affine(value, scale, zero_point, 0, 255)

    def plan(self, module: str) -> ModulePlan:
        signal, noise, inputs = self.signal[module], self.noise[module], self.inputs[module].values()
        ratio = 10 * math.log10(signal / noise) if signal and noise else _HIGHEST
        low, high = (min(r.low for r in inputs), max(r.high for r in inputs)) if inputs else (0.0, 0.0)
        return ModulePlan(
            operator=self.operators[module],
            weights=sum(self.weights[module].values()),
            input=Range(low=low, high=high),
            sqnr_db=round(ratio, 2),
        )


def round_weight(weight: Tensor, axis: int, levels: int = 127) -> Tensor:
    """Symmetric, with a scale for each slice along `axis`, back in float."""
    others = [dim for dim in range(weight.ndim) if dim != axis]
    scale = (weight.abs().amax(others, keepdim=True) / levels).clamp(min=1e-12)
    return (weight / scale).round() * scale
