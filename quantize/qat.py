"""Quantization-aware training: the graph that a dialect deploys, with rounding that lets gradients through.

The program is captured, batch norms are folded and Q/DQ placed as for deployment (`DialectQuantizer`, the ranges of the
plan), but every Q/DQ is a fake quantization: values are rounded and stay float, and the gradient passes as if they were
not (straight through; zero where a value is clipped). What training moves are the folded weights. They go back into the
model at the end, in front of its batch norms: the result is an ordinary model with an ordinary plan.

Shapes: B pictures, K texts of each, S image side, T text tokens.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import FakeQuantizeBase, allow_exported_model_train_eval
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
from torchao.quantization.pt2e.quantizer import (
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
)

from edgevl.bundle.specs import ProgramSpec
from edgevl.contracts import Deployable, Program, Sample
from edgevl.decodings.runner import Runner
from edgevl.errors import InputError
from edgevl.models.capture import capture
from edgevl.models.pulling import Pulling
from edgevl.opened import opened
from edgevl.plans.bias import correct_biases
from edgevl.plans.plan import Plan
from edgevl.plans.quantizer import ANNOTATION, DialectQuantizer
from edgevl.plans.spec import Dialect
from edgevl.plans.values import operator_name
from edgevl.runtime.eager_session import as_taken, as_tensor
from edgevl.verify.measure import Measured, measure

# The normalized picture. Deployed, pixels are integers that int8 holds exactly (`edgevl.plans.picture`).
_PIXELS = "vision:mul"
_SMALL = 1e-3  # factor of a batch norm that no weight is divided by


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How weights are rounded: `weight_bits` with one scale for each output channel, or one for the whole tensor."""

    dialect: Dialect  # how values are rounded, and where
    weight_bits: int = 8
    per_channel: bool = True


class ValueRounding(FakeQuantizeBase):
    """Rounds a value with the scale and the zero point of the plan."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, scale: float, zero_point: int, quant_min: int, quant_max: int, dtype: torch.dtype, **_: Any):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("zero_point", torch.tensor(zero_point, dtype=torch.int32))
        self.quant_min, self.quant_max, self.dtype = quant_min, quant_max, dtype

    def forward(self, x: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(
            x.float(), self.scale, self.zero_point, self.quant_min, self.quant_max
        )

    def calculate_qparams(self, **_: Any) -> tuple[Tensor, Tensor]:
        return self.scale, self.zero_point


class WeightRounding(FakeQuantizeBase):
    """Rounds a weight symmetrically; the scale follows its largest value at every step."""

    def __init__(self, quant_max: int, dtype: torch.dtype, per_channel: bool, **_: Any):
        super().__init__()
        self.quant_max, self.dtype, self.per_channel = quant_max, dtype, per_channel

    def scales(self, weight: Tensor) -> Tensor:
        largest = weight.detach().abs().flatten(1).amax(1)
        largest = largest if self.per_channel else largest.max().expand_as(largest)
        return (largest / self.quant_max).clamp(min=1e-8)

    def forward(self, weight: Tensor) -> Tensor:
        scales = self.scales(weight)
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -self.quant_max, self.quant_max)

    def calculate_qparams(self, **_: Any) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("a trained model is quantized anew from its plan")


class TrainingQuantizer(DialectQuantizer):
    """Places what `DialectQuantizer` places, as fake quantization."""

    def __init__(self, plan: Plan, scheme: Scheme):
        super().__init__(scheme.dialect, plan)
        self.scheme = scheme
        self._soft: dict[FixedQParamsQuantizationSpec, QuantizationSpec] = {}

    def transform_for_annotation(self, model: GraphModule) -> GraphModule:
        return model  # pixels stay as they are: see `_PIXELS`

    def annotate(self, model: GraphModule) -> GraphModule:
        super().annotate(model)
        for node in model.graph.nodes:
            if found := node.meta.get(ANNOTATION):
                inputs: dict[Node, Any] = {
                    source: self._trainable(spec)
                    for source, spec in found.input_qspec_map.items()
                    if self._names.get(source) != _PIXELS
                }
                output = found.output_qspec and self._trainable(found.output_qspec)
                node.meta[ANNOTATION] = QuantizationAnnotation(inputs, output, _annotated=True)
        return model

    def _trainable(self, spec: Any) -> QuantizationSpec:
        """One object for equal specs: torchao lets neighbors with the same one share it."""
        if isinstance(spec, FixedQParamsQuantizationSpec):
            if spec not in self._soft:
                values = {"scale": spec.scale, "zero_point": spec.zero_point}
                maker: Any = ValueRounding.with_args(**values)
                self._soft[spec] = QuantizationSpec(spec.dtype, maker, spec.quant_min, spec.quant_max, spec.qscheme)
            return self._soft[spec]
        largest = 2 ** (self.scheme.weight_bits - 1) - 1
        maker = WeightRounding.with_args(per_channel=self.scheme.per_channel)
        return dataclasses.replace(spec, observer_or_fake_quant_ctr=maker, quant_min=-largest, quant_max=largest)


class RoundedModel(nn.Module):
    """A model as it answers when it is quantized, and that can be trained.

    Args:
        model: its weights are copied; `write_back` returns them.
        programs: of the model, of one layout; see `programs_to_train`.
        plan: the ranges, and the modules that stay float. Biases that it shifts are no longer trained: see `trainable`.
        pictures, texts: B and K, fixed in the programs.

    Raises `InputError` for a parameter that is made for deployment: what is trained would have no place.
    """

    def __init__(
        self, model: nn.Module, programs: Sequence[Program], plan: Plan, scheme: Scheme, pictures: int, texts: int = 1
    ):
        super().__init__()
        self.programs = programs
        self.pulling = Pulling([program.spec for program in programs], texts)
        self.batches = {program.name: self.pulling.rows(program.spec, pictures) for program in programs}
        self._folded: list[tuple[str, str]] = []  # paths of convolutions and of the batch norms behind them
        self.graphs = nn.ModuleDict({each.name: self._prepared(model, each, plan, scheme) for each in programs})

    def _prepared(self, model: nn.Module, program: Program, plan: Plan, scheme: Scheme) -> GraphModule:
        graph: Any = capture(program, "float", self.batches[program.name]).module()
        check_parameters(graph, model, program)
        self._folded += [(_path(conv, program), _path(norm, program)) for conv, norm in folded_pairs(graph)]
        quantizer = TrainingQuantizer(plan.of(program.name), scheme)
        prepared = prepare_pt2e(graph, quantizer)
        prepared.requires_grad_()  # torchao freezes the bias that a batch norm leaves behind
        correct_biases(prepared, quantizer.plan)
        return allow_exported_model_train_eval(prepared)

    def forward(self, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every value of float pictures [B, 3, S, S] in 0..255 and int texts [B * K, T], by input."""
        return self.pulling.values(dict(self.graphs.items()), leaves)

    def write_back(self, model: nn.Module) -> None:
        """Copy the trained weights into `model`, which must be the one that this was made of, unchanged since.

        They are written rounded: what they were before rounding is good for nothing else (without it, a model trained
        with 4-bit weights was 3 points worse). Rounding them again gives the same.
        """
        trained, state = self._trained(), model.state_dict()
        for conv, norm in self._folded:
            trained |= _unfolded(trained, model, conv, norm)
        model.load_state_dict(state | {name: value for name, value in trained.items() if name in state})

    def _trained(self) -> dict[str, Tensor]:
        """Parameters by their names in the whole model; of a convolution that had no bias, `weight_bias`."""
        return {
            _path(name, program): value.detach()
            for program, graph in zip(self.programs, self.graphs.values())
            for name, value in (dict(graph.named_parameters()) | rounded_weights(graph)).items()
        }


def programs_to_train(model: Deployable) -> Sequence[Program]:
    """Return the layout of most programs: a picture with several texts is then encoded once."""
    return max((model.programs(layout) for layout in model.layouts), key=len)


def check_parameters(graph: GraphModule, model: nn.Module, program: Program) -> None:
    """Raises `InputError` for a parameter that is made for deployment: what is trained would have no place."""
    state = model.state_dict()
    for name, value in graph.named_parameters():
        path = _path(name, program)
        if path not in state or not torch.equal(value, state[path]):
            raise InputError(
                f"this model cannot be trained with quantization: {path} is made for deployment, of merged branches or "
                "by standardizing a filter. Train it without, then quantize"
            )


def rounded_weights(program: nn.Module) -> dict[str, Tensor]:
    """The weights of a prepared program that it rounds, rounded, by their paths."""
    graph: Any = program.graph
    calls = [node for node in graph.nodes if node.op == "call_module"]
    roundings = [(node.args[0].target, program.get_submodule(str(node.target))) for node in calls if node.args]
    return {
        str(path): rounding(program.get_parameter(str(path)))
        for path, rounding in roundings
        if isinstance(rounding, WeightRounding)
    }


def trainable(plan: Plan) -> Plan:
    """The plan without what holds for untrained weights only: what rounding costs, and biases that make up for it."""
    modules = {name: found.model_copy(update={"sqnr_db": None}) for name, found in plan.modules.items()}
    return plan.model_copy(update={"bias_shifts": {}, "modules": modules})


def folded_pairs(graph: GraphModule) -> list[tuple[str, str]]:
    """The parameters' paths of each convolution that a batch norm follows, and of that norm."""
    pairs = []
    for norm in graph.graph.nodes:
        if operator_name(norm) == "batch_norm" and operator_name(norm.args[0]) == "conv":
            conv, scale = norm.args[0].args[1], norm.args[1]
            pairs.append((str(conv.target).rpartition(".")[0], str(scale.target).rpartition(".")[0]))
    return pairs


def _path(name: str, program: Program) -> str:
    """The name of a graph's parameter in the whole model."""
    return program.whole(name.removeprefix("model."))


def _unfolded(trained: dict[str, Tensor], model: nn.Module, conv: str, norm: str) -> dict[str, Tensor]:
    """Parameters of a convolution and its batch norm that fold into the trained weight and bias again.

    The statistics of the norm stay, so that the model can be trained further. Its factors stay too, but for those near
    zero, which become 1: a weight would have to be divided by them.
    """
    norms: Any = model.get_submodule(norm)
    own_bias: Any = model.get_submodule(conv).bias
    deviation = (norms.running_var + norms.eps).sqrt()
    factor = norms.weight.detach() / deviation
    factor = torch.where(factor.abs() < _SMALL, torch.ones_like(factor), factor)
    weight = trained[f"{conv}.weight"]
    bias = trained[f"{conv}.weight_bias" if own_bias is None else f"{conv}.bias"]
    found = {
        f"{conv}.weight": weight / factor.reshape(-1, *[1] * (weight.ndim - 1)),
        f"{norm}.weight": factor * deviation,
        f"{norm}.bias": bias + (norms.running_mean - (0 if own_bias is None else own_bias.detach())) * factor,
    }
    return found if own_bias is None else found | {f"{conv}.bias": own_bias.detach()}


class _RoundedSession:
    """Runs a program that rounds as a session of a `Runner`."""

    def __init__(self, program: ProgramSpec, graph: nn.Module):
        self.program, self.graph = program, graph

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        inputs = [as_taken(spec, as_tensor(feeds[spec.name])) for spec in self.program.inputs]
        with torch.no_grad():
            found = self.graph(*inputs)
        outputs = found if isinstance(found, tuple | list) else (found,)
        return {spec.name: value.float().numpy() for spec, value in zip(self.program.outputs, outputs)}


def rounded_runner(model: Deployable, rounded: RoundedModel) -> Runner:
    """Return a runner over the programs of `rounded`, which was made of `model`: queries go through its processings."""
    specs = [program.spec for program in rounded.programs]
    sessions = {spec.name: _RoundedSession(spec, rounded.graphs[spec.name]) for spec in specs}
    return Runner(specs, sessions, model.images, model.texts, rounded.batches)


def measure_rounded(
    model: Deployable, module: nn.Module, plan: Plan, scheme: Scheme, samples: Sequence[Sample], batch: int = 40
) -> Measured:
    """Answer samples with weights and values rounded, and score the answers. `module` is what `model` was made of."""
    rounded = RoundedModel(module, programs_to_train(model), plan, scheme, batch).eval()
    return measure(opened(model, rounded_runner(model, rounded)), samples)
