"""The quantizers for torchao's PT2E: one that observes every value, one that places Q/DQ in a dialect from a plan."""

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import ObserverBase, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import (
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
)

from edgevl.errors import InputError
from edgevl.plans.picture import take_integer_pixels
from edgevl.plans.plan import Plan, Range
from edgevl.plans.spec import Dialect
from edgevl.plans.values import is_float, module_of, named_values, operator_name

ANNOTATION = "quantization_annotation"  # where torchao looks for it in the `meta` of a node
CLAMPS = {"relu", "hardtanh"}  # runtimes make these a part of the operator in front
REARRANGED = {"reshape", "view", "slice", "transpose", "permute"}  # their values are their operand's, or some of them
WEIGHT_AXIS = {"conv": 0, "linear": 0}  # operator -> axis of the output channels of its weight


class ObservingQuantizer(Quantizer):
    """Puts an observer on every float value. `names` holds, after `annotate`, the node of each value."""

    def __init__(self, observer: Callable[..., ObserverBase]):
        self.spec = QuantizationSpec(torch.uint8, observer, 0, 255, torch.per_tensor_affine)  # pyright: ignore
        self.names: dict[str, str] = {}

    def annotate(self, model: GraphModule) -> GraphModule:
        for name, node in named_values(model.graph):
            self.names[name] = node.name
            node.meta[ANNOTATION] = QuantizationAnnotation(output_qspec=self.spec, _annotated=True)
        return model

    def validate(self, model: GraphModule) -> None: ...


class DialectQuantizer(Quantizer):
    """Places Q/DQ for one target, with the ranges of a plan.

    Products read int8. The result of what a dialect requantizes is stored as int8, behind its clamp (ReLU) if it has
    one; from there int8 spreads to elementwise operators and carriers whose operands are all stored as int8.
    """

    def __init__(self, dialect: Dialect, plan: Plan):
        self.dialect, self.plan = dialect, plan
        self._names: dict[Node, str] = {}
        self._stored: dict[Node, FixedQParamsQuantizationSpec] = {}  # values that are int8
        self._open: set[Node] = set()  # results that wait for their clamp
        self._known: dict[Node, Range] = {}  # ranges that need no calibration

    def transform_for_annotation(self, model: GraphModule) -> GraphModule:
        self._known = take_integer_pixels(model)
        return model

    def annotate(self, model: GraphModule) -> GraphModule:
        self._names = {node: name for name, node in named_values(model.graph)}
        for node in model.graph.nodes:
            self._annotate(node)
        return model

    def validate(self, model: GraphModule) -> None: ...

    def _annotate(self, node: Node) -> None:
        operator, operands, dialect = operator_name(node), activations(node), self.dialect
        inside = bool(operands) and all(source in self._stored for source in operands)
        carried = inside and operator in dialect.carriers
        if self._multiplies(node, operands):
            stored = operator in dialect.requantized
        elif carried or (inside and operator in dialect.elementwise):
            stored = True
        elif operator in CLAMPS and node.args[0] in self._open:
            stored, operands = True, []
        elif dialect.skips and (skip := skip_of(node)):
            stored, operands = False, [skip]
        else:
            return
        inputs: dict[Node, Any] = {source: self._stored.get(source) or self._spec(source) for source in operands}
        if operator in WEIGHT_AXIS:
            weight: Any = node.args[1]
            inputs |= {weight: weight_spec(WEIGHT_AXIS[operator])} if is_constant(weight) else {}
        if stored and operator not in CLAMPS and is_clamped(node):
            self._open.add(node)
        elif stored:
            self._stored[node] = self._stored[operands[0]] if carried else self._spec(node)
        node.meta[ANNOTATION] = QuantizationAnnotation(inputs, self._stored.get(node), _annotated=True)

    def _multiplies(self, node: Node, operands: list[Node]) -> bool:
        """Is it a product that reads int8? What a softmax gives, many small numbers and a few near 1, stays float."""
        if operator_name(node) not in self.dialect.products or not operands or self.plan.is_float(module_of(node)):
            return False
        return all(operator_name(source) != "softmax" for source in operands)

    def _range(self, node: Node) -> Range | None:
        return self._known.get(node) or self.plan.values.get(self._names.get(node, node.name))

    def _spec(self, node: Node) -> FixedQParamsQuantizationSpec:
        while operator_name(node) in self.dialect.carriers:  # it has the scale of what it carries, in float too
            node = activations(node)[0]
        name, values = self._names.get(node, node.name), self._range(node)
        while values is None and operator_name(node) in REARRANGED:  # a plan of before it was there knows its source
            node = activations(node)[0]
            values = self._range(node)
        if values is None:
            raise InputError(f'the plan has no range for "{name}": make it again for this model with `edgevl quantize`')
        scale, zero_point = self.dialect.parameters(values)
        dtype = self.dialect.stored_as(values)
        levels = torch.iinfo(dtype)
        scheme = torch.per_tensor_symmetric if self.dialect.symmetric else torch.per_tensor_affine
        return FixedQParamsQuantizationSpec(dtype, scale, zero_point, levels.min, levels.max, scheme)


def weight_spec(axis: int) -> QuantizationSpec:
    """Symmetric int8 with a scale for each output channel: -127 to 127, as TensorRT and XNNPACK ask for."""
    return QuantizationSpec(torch.int8, PerChannelMinMaxObserver, -127, 127, torch.per_channel_symmetric, axis)


def activations(node: Node) -> list[Node]:
    """The float operands of a node that are not weights or constants, each once."""
    return [source for source in node.all_input_nodes if is_float(source) and not is_constant(source)]


def is_constant(value: Any) -> bool:
    return isinstance(value, Node) and value.op == "get_attr"


def skip_of(node: Node) -> Node | None:
    """What is added to the result of a convolution; of two results, the second. None: `node` is no such addition."""
    operands = activations(node) if operator_name(node) == "add" else []
    fused = [source for source in operands if operator_name(source) == "conv" and len(source.users) == 1]
    return next((source for source in operands if fused and source is not fused[0]), None)


def is_clamped(node: Node) -> bool:
    """Is a clamp all that reads the result?"""
    return len(node.users) == 1 and operator_name(next(iter(node.users))) in CLAMPS
