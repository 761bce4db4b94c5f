"""Operators that an accelerator is likely to refuse, and what a file carries without need. Warnings, never failures.

An operator that its accelerator refuses is not wrong: it runs on the processor, and the values travel there and back.
"""

import dataclasses
from collections.abc import Iterator

from edgevl.formats import Contents, Operation
from edgevl.targets import TARGETS

# The order in which they are shown.
KINDS = ("dynamic", "rank", "int64", "uint64", "float64", "float32", "unsupported", "fallback", "dead")
MAX_RANK = 5  # Core ML's tensors end there (coremltools refuses more), as do most delegates


@dataclasses.dataclass(frozen=True)
class Found:
    """One operator, or one input, and why it is a risk. `kind` groups them."""

    kind: str
    op: str
    name: str
    why: str


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What ONNX Runtime 1.32 lists for its mobile providers: onnxruntime/tools/mobile_helpers/*_supported_*.md of the wheel.
_COREML_PROVIDER = _names(
    "Add And ArgMax AveragePool Cast Clip Concat Conv ConvTranspose Cos DepthToSpace Ceil Div Elu Erf Exp "
    "GatherND Gemm Gelu GlobalAveragePool GlobalMaxPool GridSample GroupNormalization HardSigmoid Identity "
    "InstanceNormalization LayerNormalization LeakyRelu MatMul MaxPool Max Mul Pow PRelu Reciprocal ReduceSum "
    "ReduceMean ReduceMax Relu Reshape Resize Round Shape Sin Slice Softplus Split Sub Sigmoid Softmax Sqrt "
    "Squeeze Tanh Tile Transpose Unsqueeze Where"
)
_NNAPI_PROVIDER = _names(
    "Abs Add AveragePool BatchNormalization Cast Clip Concat Conv DepthToSpace DequantizeLinear Div Elu Exp "
    "Flatten Floor Gather Gemm GlobalAveragePool GlobalMaxPool Identity LeakyRelu Log LRN MatMul MaxPool Max "
    "Min Mul Neg Pad Pow PRelu QLinearConv QLinearMatMul QuantizeLinear ReduceMean Relu Reshape Resize Sigmoid "
    "Sin Slice Softmax Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze"
)
# `OnnxParser.supports_operator` of tensorrt-rtx 1.7.1 said no to these of all operators of onnx 1.23.
_TENSORRT_REFUSES = _names(
    "AffineGrid Bernoulli BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im "
    "Compress ConcatFromSequence ConvInteger CumProd DFT DeformConv Det DynamicQuantizeLinear ImageDecoder "
    "MatMulInteger MaxRoiPool MaxUnpool MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional "
    "OptionalGetElement OptionalHasElement QLinearConv QLinearMatMul RegexFullMatch SequenceAt "
    "SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap "
    "SoftmaxCrossEntropyLoss SplitToSequence StringConcat StringNormalizer StringSplit SwiGLU TfIdfVectorizer "
    "Unique"
)
# Seen to leave the Neural Engine (github.com/hollance/neural-engine, docs/unsupported-layers.md: recurrent layers,
# gather, custom layers); control flow and results of a size that depends on the data leave it by nature.
_LEAVES_NEURAL_ENGINE = _names(
    "gather gather_along_axis gather_nd lstm gru rnn custom_layer cond while_loop non_zero "
    "non_maximum_suppression list_gather list_read list_scatter list_write make_list random_bernoulli "
    "random_categorical random_normal random_uniform"
)


def find_hazards(target: str, contents: Contents) -> Iterator[Found]:
    """Every hazard of one artifact, in the order of the file."""
    of_target = TARGETS[target].load("hazards") or (lambda operation: ())
    for name, shape in contents.inputs:
        if any(side < 1 for side in shape):
            yield Found(
                "dynamic", "input", name, "a side of this input is not fixed: most delegates compile fixed shapes"
            )
    for operation in contents.operations:
        if not operation.used:
            yield Found("dead", operation.type, operation.name, "no output depends on it")
        elif not operation.constant:
            yield from _of_values(operation)
            yield from of_target(operation)


def _of_values(operation: Operation) -> Iterator[Found]:
    kind, name = operation.type, operation.name
    if len(operation.shape) > MAX_RANK:
        yield Found(
            "rank", kind, name, f"its result has {len(operation.shape)} dimensions, accelerators take {MAX_RANK}"
        )
    if any(side < 0 for side in operation.shape):
        yield Found("dynamic", kind, name, "a side of its result is not fixed: most delegates compile fixed shapes")
    if operation.dtype in ("int64", "uint64", "float64"):
        yield Found(operation.dtype, kind, name, f"its result is {operation.dtype}: accelerators take 32 bits or fewer")


def of_onnx(operation: Operation) -> Iterator[Found]:
    kind, name = operation.type, operation.name
    if operation.domain:
        why = f"an operator of {operation.domain}, which only a runtime of that vendor has"
        yield Found("unsupported", kind, name, why)
        return
    missing = [
        provider for provider, known in (("Core ML", _COREML_PROVIDER), ("NNAPI", _NNAPI_PROVIDER)) if kind not in known
    ]
    if missing:
        why = f"ONNX Runtime's {' and '.join(missing)} provider{'s do' if len(missing) > 1 else ' does'} not list it"
        yield Found("unsupported", kind, name, why)


def of_tensorrt(operation: Operation) -> Iterator[Found]:
    if operation.type in _TENSORRT_REFUSES or operation.domain:
        yield Found("unsupported", operation.type, operation.name, "TensorRT's parser does not support it")


def of_coreml(operation: Operation) -> Iterator[Found]:
    kind, name = operation.type, operation.name
    if kind in _LEAVES_NEURAL_ENGINE:
        yield Found("unsupported", kind, name, "seen to run outside the Neural Engine")
    if operation.macs and operation.compute == "float32":
        yield Found("float32", kind, name, "the Neural Engine computes in float16: float32 runs on the GPU or the CPU")


def of_executorch(operation: Operation) -> Iterator[Found]:
    if "::" in operation.type:
        yield Found(
            "fallback", operation.type, operation.name, "not in a delegate: a portable kernel runs it on the CPU"
        )


def of_litert(operation: Operation) -> Iterator[Found]:
    kind = operation.type
    if kind.upper().startswith(("CUSTOM", "FLEX")) or operation.domain:
        yield Found(
            "unsupported", kind, operation.name, "a custom operator: the app must link its kernel, delegates refuse it"
        )
    if kind in ("IF", "WHILE"):
        yield Found("unsupported", kind, operation.name, "control flow stays outside delegates")
