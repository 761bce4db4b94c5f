"""Quantization-aware training: the graph that a dialect deploys, with rounding that lets gradients through.

The program is captured, batch norms are folded and Q/DQ placed as for deployment (`DialectQuantizer`, the ranges of the
plan), but every Q/DQ is a fake quantization: values are rounded and stay float, and the gradient passes as if they were
not (straight through; zero where a value is clipped). What training moves are the folded weights. They go back into the
model at the end, in front of its batch norms: the result is an ordinary model with an ordinary plan.

Shapes: B pictures, K questions a picture, S image side, T text tokens, A answers.
"""

import dataclasses
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

from edgevl.checkpoint import LoadedModel
from edgevl.errors import InputError
from edgevl.evaluate import Evaluation, Samples, judge
from edgevl.models import VqaModel
from edgevl.models.question_answering import export_program
from edgevl.plans.bias import correct_biases
from edgevl.plans.plan import Plan
from edgevl.plans.quantizer import ANNOTATION, DialectQuantizer
from edgevl.plans.spec import Dialect
from edgevl.plans.values import operator_name

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
        plan: the ranges, and the modules that stay float. Biases that it shifts are no longer trained: see `trainable`.
        pictures, questions: B and K, fixed in the two programs (pictures to tokens; tokens and words to logits).
    """

    def __init__(self, model: VqaModel, plan: Plan, scheme: Scheme, pictures: int, questions: int):
        super().__init__()
        self.questions = questions
        self._folded: list[tuple[str, str]] = []  # paths of convolutions and of the batch norms behind them
        self.vision = self._prepared(model, "vision", pictures, TrainingQuantizer(plan, scheme))
        self.fusion = self._prepared(model, "fusion", pictures * questions, TrainingQuantizer(plan, scheme))

    def _prepared(self, model: VqaModel, part: str, batch: int, quantizer: TrainingQuantizer) -> GraphModule:
        graph: Any = export_program(model, "float", batch, part).module()
        check_parameters(graph, model, part)
        self._folded += [(_path(conv, part), _path(norm, part)) for conv, norm in folded_pairs(graph)]
        prepared = prepare_pt2e(graph, quantizer)
        prepared.requires_grad_()  # torchao freezes the bias that a batch norm leaves behind
        correct_biases(prepared, quantizer.plan)
        return allow_exported_model_train_eval(prepared)

    def forward(self, image_B3SS: Tensor, input_ids_NT: Tensor) -> Tensor:
        """Logits [B * K, A] of float pictures in 0..255 and int questions [B * K, T]."""
        visual_BVD = self.vision(image_B3SS)
        return self.fusion(visual_BVD.repeat_interleave(self.questions, 0), input_ids_NT.int())

    def write_back(self, model: VqaModel) -> None:
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
            _path(name, part): value.detach()
            for part, program in (("vision", self.vision), ("fusion", self.fusion))
            for name, value in (dict(program.named_parameters()) | rounded_weights(program)).items()
        }


def check_parameters(graph: GraphModule, model: VqaModel, part: str) -> None:
    """Raises `InputError` for a parameter that is made for deployment: what is trained would have no place."""
    state = model.state_dict()
    for name, value in graph.named_parameters():
        path = _path(name, part)
        if path not in state or not torch.equal(value, state[path]):
            raise InputError(
                f"{model.config.backbone} cannot be trained with quantization: {path} is made for deployment, of "
                "merged branches or by standardizing a filter. Train it without, then quantize"
            )


def rounded_weights(program: GraphModule) -> dict[str, Tensor]:
    """The weights of a prepared program that it rounds, rounded, by their paths."""
    calls = [node for node in program.graph.nodes if node.op == "call_module"]
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


def _path(name: str, part: str) -> str:
    """The name of a part's parameter in the whole model: the wrapper of `vision` holds the core alone."""
    name = name.removeprefix("model.")
    return f"core.{name}" if part == "vision" else name


def _unfolded(trained: dict[str, Tensor], model: VqaModel, conv: str, norm: str) -> dict[str, Tensor]:
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


def evaluate_rounded(loaded: LoadedModel, plan: Plan, scheme: Scheme, samples: Samples, batch: int = 40) -> Evaluation:
    """As `edgevl.evaluate.evaluate_model`, with weights and values rounded.

    A last batch that is not full is filled up with its last sample.
    """
    ids_NT = loaded.tokenizer.encode_batch(list(samples.questions), loaded.config.text_length)
    rounded = RoundedModel(loaded.model, plan, scheme, batch, 1).eval()
    rows, count = [], len(samples)
    with torch.no_grad():
        for start in range(0, count, batch):
            chosen = np.arange(start, start + batch).clip(max=count - 1)
            image = torch.from_numpy(np.ascontiguousarray(samples.pixels_NSS3[chosen].transpose(0, 3, 1, 2))).float()
            rows.append(rounded(image, torch.from_numpy(ids_NT[chosen])).float().numpy()[: count - start])
    return judge(np.concatenate(rows), samples, loaded.labels)
