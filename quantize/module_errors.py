"""What int8 costs each module alone: its output with its weights and its inputs rounded, against the float output.

The signal-to-noise ratio of a module, in dB, is 10 log10(sum of y^2 / sum of (y - q)^2) over all numbers of all its
products: y in float, and q from the same float inputs, rounded as `edgevl.plans.rounding` says. 6 dB are one bit.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from edgevl.plans.plan import INT8, ModulePlan, Range
from edgevl.plans.rounding import Rounding, channel_means, has_weight, is_product, operands_of
from edgevl.plans.values import module_name, module_of, operator_name

_HIGHEST = 300.0  # dB, where nothing was lost


def judge_modules(
    program: GraphModule,
    ranges: Mapping[str, Range],
    batches: Iterable[tuple[Tensor, ...]],
    keep: Mapping[str, str],
) -> tuple[dict[str, ModulePlan], dict[str, Tensor]]:
    """The entry of each module with products, worst first; and the mean of each channel of its float output [C].

    Args:
        program: with observers (they change nothing here) and with batch norms folded.
        ranges: node of `program` -> range of its value.
        keep: module -> the least precision of it and of what is in it; whatever is more than int8 stays in float.
    """
    judge, count = _Judge(program, ranges, keep), 0
    with torch.no_grad():
        for batch in batches:
            judge.run(*batch)
            count += 1
    found = [(name, judge.plan(name)) for name in judge.signal]
    means = {name: total / count for name, total in judge.means.items()}
    return dict(sorted(found, key=lambda pair: (pair[1].sqnr_db, pair[0]))), means


class _Judge(Rounding):
    """Goes on with the float results."""

    def __init__(self, program: GraphModule, ranges: Mapping[str, Range], keep: Mapping[str, str]):
        super().__init__(program, ranges)
        self.kept = tuple(f"{module_name(name)}." for name, least in keep.items() if least in ("fp16", "fp32"))
        self.signal: defaultdict[str, float] = defaultdict(float)  # by module
        self.noise: defaultdict[str, float] = defaultdict(float)
        self.weights: dict[str, tuple[Node, int]] = {}  # module -> its first product with a weight, numbers in that
        self.means: dict[str, Tensor] = {}  # of the results of that product
        self.nodes: defaultdict[str, set[Node]] = defaultdict(set)

    def run_node(self, n: Node) -> Any:
        exact = super().run_node(n)
        if is_product(n):
            name = module_of(n)
            self.signal[name] += float(exact.double().square().sum())
            self.noise[name] += float((exact - self.rounded_product(n)).double().square().sum())
            self.nodes[name].add(n)
            if has_weight(n) and self._is_first(name, n):
                self.means[name] = self.means.get(name, 0) + channel_means(n, exact)
        return exact

    def _is_first(self, module: str, node: Node) -> bool:
        """Has this call of the module no other in front of it?"""
        if module not in self.weights:
            self.weights[module] = node, self.fetch_args_kwargs_from_env(node)[0][1].numel()
        return self.weights[module][0] is node

    def plan(self, module: str) -> ModulePlan:
        signal, noise, nodes = self.signal[module], self.noise[module], self.nodes[module]
        ratio = 10 * math.log10(signal / noise) if signal and noise else _HIGHEST
        factors = {factor for node in nodes for factor in operands_of(node)}
        inputs = [self.ranges[factor.name] for factor in factors if factor.name in self.ranges]
        kept = f"{module}.".startswith(self.kept)
        return ModulePlan(
            precision="fp32" if kept else "w8a8",
            scheme="float: its errors would go into the answers as they are" if kept else INT8,
            operator=" and ".join(sorted({operator_name(node) for node in nodes})),
            weights=self.weights[module][1] if module in self.weights else 0,
            input=Range(low=min(r.low for r in inputs), high=max(r.high for r in inputs)) if inputs else None,
            sqnr_db=round(ratio, 2),
        )
