"""How close our ONNX file comes to what the machine can do, and where the rest of the time goes.

The limit of a query is the larger of two times: its multiply-adds at the peak of the dtype that they are done in, and
its bytes at the speed at which a buffer of as many bytes is read again and again (from a cache where it fits in one,
as a model does that is asked again and again). Both only count what cannot be avoided, so a share of 1 is out of reach.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgevl.bench.ort_profile import Kernel, Profile, profile_onnx
from edgevl.bench.peaks import read_bandwidth
from edgevl.bench.pipelines import Arrays
from edgevl.bench.schema import Peak, Roofline
from edgevl.bundle.folder import Bundle
from edgevl.bundle.specs import InputSpec, ValueSource
from edgevl.formats import Contents, Operation, Weight, bits_of, read_artifact
from edgevl.formats.graph import size

PEAKS = {"float32": "fp32", "float16": "fp32", "int8": "int8"}  # onnxruntime computes float16 in fp32 on a CPU
NAMED_SHARE = 0.03  # of the time: lesser kinds of operators are summed


@dataclasses.dataclass(frozen=True)
class Counts:
    """What one query costs at least."""

    macs: Mapping[str, int]  # by the dtype that they are done in
    bytes: int  # weights once (of a table the rows that are looked up), inputs and outputs once


def count_artifact(bundle: Bundle) -> Counts | None:
    """Count in the file itself. None for a target whose files do not tell which tables are looked up: all but ONNX."""
    if bundle.manifest.target != "onnx":
        return None
    macs: dict[str, int] = {}
    total = 0
    for program in bundle.manifest.programs:
        path = bundle.file(program.artifact)
        contents = read_artifact(path, "onnx")
        for dtype, count in contents.macs.items():
            macs[dtype] = macs.get(dtype, 0) + count
        total += weight_bytes(path, contents)
        total += sum(size(spec.shape) * bits_of(spec.dtype) // 8 for spec in (*program.inputs, *program.outputs))
    return Counts(macs, total)


def weight_bytes(path: Path, contents: Contents) -> int:
    """Bytes of the weights that a query reads: all that are used, but of a table only the rows looked up."""
    weights = {weight.name: weight for weight in contents.weights if weight.used}
    operations = {operation.name: operation for operation in contents.operations}
    total = sum(weight.bytes for weight in weights.values())
    for name, lookup in _lookups(path):
        if name in weights and lookup in operations:
            total -= _rows_left(weights[name], operations[lookup])
    return total


def _lookups(path: Path) -> list[tuple[str, str]]:
    """(table, result) of every Gather whose table nothing else reads, through a DequantizeLinear or without one."""
    import onnx

    nodes = onnx.load(str(path), load_external_data=False).graph.node
    readers: dict[str, list] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    source = {node.output[0]: node.input[0] for node in nodes if node.op_type == "DequantizeLinear"}
    found = [(node.input[0], node.output[0]) for node in nodes if node.op_type == "Gather"]
    alone = [(name, result) for name, result in found if len(readers[name]) == 1]
    return [(source.get(name, name), result) for name, result in alone if len(readers[source.get(name, name)]) == 1]


def _rows_left(table: Weight, lookup: Operation) -> int:
    """Bytes of a table's rows that a lookup along its first side cannot touch."""
    row = size(table.shape[1:])
    rows = size(lookup.shape) // max(1, row)
    return max(0, table.bytes - table.bytes * rows // max(1, table.shape[0]))


def bundle_roofline(
    bundle: Bundle, peak: Peak, feeds: Arrays, threads: int, p50_ms: float, scratch: Path
) -> Roofline | None:
    """Count, measure and profile our model. None where it cannot be counted, or its dtypes have no peak here."""
    counts = count_artifact(bundle)
    if counts is None or not counts.macs or not counts.macs.keys() <= PEAKS.keys():
        return None
    bandwidth = max(peak.bandwidth_gbs, read_bandwidth(counts.bytes))
    found = roofline(counts, peak, bandwidth, p50_ms)
    files = [(bundle.file(program.artifact), _names_of_values(program.inputs)) for program in bundle.manifest.programs]
    profile = profile_onnx(files, feeds, threads, scratch)
    return found.model_copy(update={"rest": where_time_goes(profile, peak)})


def _names_of_values(inputs: Sequence[InputSpec]) -> dict[str, str]:
    """Input -> the value of another program that it reads, which may have another name."""
    return {spec.name: spec.source.name for spec in inputs if isinstance(spec.source, ValueSource)}


def roofline(counts: Counts, peak: Peak, bandwidth_gbs: float, p50_ms: float) -> Roofline:
    """bandwidth_gbs: at which as many bytes as these are read."""
    compute = sum(count / peak.gmacs[PEAKS[dtype]] / 1e6 for dtype, count in counts.macs.items())
    memory = counts.bytes / bandwidth_gbs / 1e6
    return Roofline(
        macs=sum(counts.macs.values()),
        bytes=counts.bytes,
        compute_ms=round(compute, 4),
        memory_ms=round(memory, 4),
        limit="compute" if compute >= memory else "memory",
        share=round(max(compute, memory) / p50_ms, 4),
        bandwidth_gbs=round(bandwidth_gbs, 1),
    )


def where_time_goes(profile: Profile, peak: Peak) -> list[str]:
    """A line for each kind of operator that takes over 3 % of the time, the most time first; then the rest."""
    kinds = sorted(_by_kind(profile.kernels).items(), key=lambda item: -_seconds(item[1]))
    large = [(kind, kernels) for kind, kernels in kinds if _seconds(kernels) >= NAMED_SHARE * profile.seconds]
    small = [kernel for kind, kernels in kinds if (kind, kernels) not in large for kernel in kernels]
    lines = [_line(kind, kernels, profile, peak) for kind, kernels in large]
    lines.append(f"other operators ({len(small)}): {_seconds(small) / profile.seconds:.0%} of the time")
    outside = max(0.0, 1 - _seconds(profile.kernels) / profile.seconds)
    return [*lines, f"between operators: {outside:.0%} of the time"]


def _line(kind: str, kernels: Sequence[Kernel], profile: Profile, peak: Peak) -> str:
    share = _seconds(kernels) / profile.seconds
    text = f"{kind} ({len(kernels)}): {share:.0%} of the time"
    if any(kernel.macs is None for kernel in kernels):
        return text
    needed = sum((kernel.macs or 0) / peak.gmacs[kernel.peak] / 1e9 for kernel in kernels)
    return f"{text}, at {needed / _seconds(kernels):.0%} of the peak" if needed else text


def _by_kind(kernels: Sequence[Kernel]) -> dict[str, list[Kernel]]:
    kinds: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        kinds.setdefault(kernel.kind, []).append(kernel)
    return kinds


def _seconds(kernels: Sequence[Kernel]) -> float:
    return sum(kernel.seconds for kernel in kernels)
