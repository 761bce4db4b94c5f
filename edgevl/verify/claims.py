"""What a precision claims of an artifact, and the sentences for a file that does not keep it. docs/audit.md explains.

Weights that no output depends on prove nothing, so they count neither for nor against a claim.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgevl.bundle.manifest import Manifest
from edgevl.bundle.specs import OutputSpec
from edgevl.formats import Contents, Operation, Weight, bits_of
from edgevl.precisions import PRECISIONS
from edgevl.targets import TARGETS

MAX_FOREIGN = 0.05  # share of the weight bytes that may have another dtype than the one claimed
MIN_QUANTIZED = 0.5  # share of the weight bytes that must be quantized in w8, w4 and w8a8
UNKNOWN = "unknown"
_QUANTIZE_OPS = {"QuantizeLinear", "QLinearConv", "QLinearMatMul", "quantize", "QUANTIZE"}
_INDICES = {"bool", "int32", "int64", "uint32"}  # TinyViT gathers its attention biases with a fourth of its bytes


def claim_problems(manifest: Manifest, contents: Mapping[str, Contents]) -> list[str]:
    """Sentences that say where the artifacts are not what the manifest claims; empty if they are."""
    problems = []
    for program in manifest.programs:
        name, found = program.artifact, contents[program.artifact]
        problems += _precision_problems(name, manifest.target, program.precision, found)
        problems += _interface_problems(name, "input", program.inputs, found.inputs)
        problems += _interface_problems(name, "output", program.outputs, found.outputs)
    return problems


def _interface_problems(artifact: str, kind: str, claimed: Sequence[OutputSpec], found: Sequence[Any]) -> list[str]:
    problems, shapes = [], dict(found)
    for spec in claimed:
        if spec.name not in shapes:
            problems.append(f"{artifact}: the {kind} {spec.name} of the manifest is not in the artifact")
        elif shapes[spec.name] != spec.shape:
            problems.append(
                f"{artifact}: the {kind} {spec.name} has shape {list(shapes[spec.name])}, "
                f"the manifest says {list(spec.shape)}"
            )
    unknown = shapes.keys() - {spec.name for spec in claimed}
    return problems + [f"{artifact}: the {kind} {name} is not in the manifest" for name in sorted(unknown)]


def _precision_problems(artifact: str, target: str, precision: str, contents: Contents) -> list[str]:
    """At most one sentence: what a file holds and what it multiplies in are two sides of the same false claim."""
    problems = _weight_problems(artifact, precision, contents)
    return (problems or _arithmetic_problems(artifact, target, precision, contents))[:1]


def _weight_problems(artifact: str, precision: str, contents: Contents) -> list[str]:
    # Shapes, indices and masks are wide integers and booleans in every precision, and no claim is about them.
    weights = [weight for weight in contents.weights if weight.used and weight.dtype not in _INDICES]
    sizes: Counter[str] = Counter()
    for weight in weights:
        sizes[weight.dtype] += weight.bytes
    total = sum(sizes.values())
    if not total:
        return [f"{artifact} holds no weights"]
    if claimed := PRECISIONS[precision].float:
        share = 1 - sizes[claimed] / total
        return [_foreign(artifact, precision, weights, share, claimed)] if share > MAX_FOREIGN else []
    problems = []
    quantized = sum(size for dtype, size in sizes.items() if _is_quantized(dtype, precision)) / total
    if quantized < MIN_QUANTIZED:
        wanted = "4 bits or fewer" if precision == "w4" else "8-bit integers"
        other = _largest(weights, lambda weight: not _is_quantized(weight.dtype, precision))
        problems.append(
            f"{artifact} claims {precision}, but only {quantized:.1%} of its weight bytes are quantized to {wanted} "
            f"({_list(sizes)}); the largest other tensor is {other.name} ({other.dtype}, {other.bytes:,} bytes)"
        )
    if precision == "w8a8" and not quantizes_activations(contents):
        problems.append(f"{artifact} claims w8a8, but no operator in it quantizes an activation")
    return problems


def quantizes_activations(contents: Contents) -> bool:
    """By an operator of its own, or because most values are 8-bit integers anyway (a LiteRT file of integers only)."""
    values = contents.activation_dtypes
    converted = {operation.dtype for operation in contents.operations if operation.type == "XNNConvert"}
    if _QUANTIZE_OPS & contents.op_types.keys() or "int8" in converted:  # XNNPACK's Convert goes both ways
        return True
    return values.get("int8", 0) + values.get("uint8", 0) > sum(values.values()) / 2


def _foreign(artifact: str, precision: str, weights: Sequence[Weight], share: float, claimed: str) -> str:
    largest, others = _largest(weights, lambda weight: weight.dtype != claimed), {w.dtype for w in weights} - {claimed}
    return (
        f"{artifact} claims {precision}, but {share:.1%} of its weight bytes are {' and '.join(sorted(others))}, "
        f"not {claimed}; the largest such tensor is {largest.name} ({largest.bytes:,} bytes)"
    )


def _largest(weights: Sequence[Weight], wanted: Callable[[Weight], bool]) -> Weight:
    return max(filter(wanted, weights), key=lambda weight: weight.bytes)


def _is_quantized(dtype: str, precision: str) -> bool:
    """w4 claims 4 bits or fewer; w8 and w8a8 claim 8-bit integers, and 4 bits would be another claim (w4)."""
    fewest, most = PRECISIONS[precision].bits or (0, 0)
    return dtype.startswith(("int", "uint")) and fewest <= bits_of(dtype) <= most


def _arithmetic_problems(artifact: str, target: str, precision: str, contents: Contents) -> list[str]:
    if precision in TARGETS[target].runtime_decides:
        if precision == "fp16" or not quantizes_activations(contents):
            return []
        return [f"{artifact} claims {precision}, integer weights alone, but it stores activations as int8 (w8a8)"]
    rule, macs = PRECISIONS[precision].arithmetic, dict(contents.macs)
    if TARGETS[target].explicit:
        hidden = [operation for operation in contents.activations if not operation.counted]
        if hidden:
            what = f"the multiply-adds of {hidden[0].type} {hidden[0].name} cannot be counted"
            return [f"{artifact} claims {precision}, but {what}: a vendor's operator, or one whose shapes are unknown"]
    else:
        macs.pop("", None)
    total = sum(macs.values())
    if not total:
        return []
    share = macs.get(rule.dtype, 0) / total
    if share < rule.least:
        worst = _busiest(contents, lambda operation: operation.compute != rule.dtype)
        says = f"only {share:.1%} of its multiply-adds are {rule.dtype} ({_shares(macs)})"
        return [f"{artifact} claims {precision}, but {says}; the largest other operator is {worst}"]
    if share > rule.most:
        worst = _busiest(contents, lambda operation: operation.compute == rule.dtype)
        says = f"{share:.1%} of its multiply-adds are {rule.dtype}, the arithmetic of w8a8"
        return [f"{artifact} claims {precision}, integer weights alone, but {says}; the largest is {worst}"]
    return []


def _busiest(contents: Contents, wanted: Callable[[Operation], bool]) -> str:
    operation = max(filter(wanted, contents.activations), key=lambda operation: operation.macs)
    what = operation.compute or "of a type that the file does not say"
    return f"{operation.type} {operation.name} ({what}, {operation.macs:,} multiply-adds)"


def _shares(macs: dict[str, int]) -> str:
    total = sum(macs.values())
    return ", ".join(f"{dtype or UNKNOWN} {count / total:.1%}" for dtype, count in macs.items())


def _list(sizes: Counter[str]) -> str:
    return ", ".join(f"{dtype} {size:,}" for dtype, size in sizes.most_common())
