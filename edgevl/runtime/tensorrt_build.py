"""Is an ONNX file what TensorRT accepts? Its own parser and builder answer, without a GPU.

TensorRT for RTX shares both with TensorRT and builds engines ahead of time for GPUs that are not there. It runs in a
process of its own, by the same `build_engine.py` that a bundle carries (`tensorrt_network` adds what is multiplied in
what): its C++ prints to standard output, and a damaged file can crash it (seen with 1.7.1: a segmentation fault for one
of 300 mutated files).
"""

import importlib.util
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from edgevl.apps.jetson import build_engine
from edgevl.bundle.fields import Count, Name, Part, Real, Text
from edgevl.bundle.folder import Bundle
from edgevl.errors import EdgeVLError, InputError, MissingDependency, VerificationFailed
from edgevl.precisions import MIN_FLOAT_MACS, PRECISIONS
from edgevl.runtime import tensorrt_network
from edgevl.runtime.tensorrt_network import PRODUCTS

PACKAGE = "tensorrt_rtx"
CAPABILITIES = ("8.6", "12.0")  # Ampere and Blackwell; it has no 8.7 (Jetson Orin)
MAX_SECONDS = 900
MIN_INT8_MACS = (
    0.95  # share of the multiply-adds of w8a8 that read int8 on both sides; `claims` asks 80 % of any target
)


class BuiltEngine(Part):
    """An engine that was built ahead of time and thrown away: what it holds can only be read on its GPU."""

    capability: Name
    bytes: Count
    seconds: Real


class BuildReport(Part):
    """What TensorRT's parser and builder say of one ONNX file."""

    artifact: Text
    package: Name
    version: Name
    layers: Count  # of the parsed network, before anything is fused
    types: dict[Name, dict[Name, Count]]  # type of layer -> dtype of what it gives -> how many
    weight_bytes: dict[Name, Count]  # by dtype
    macs: dict[Name, Count] = {}  # multiply-adds by the dtype of both operands, as stored; int8 through a Dequantize
    engines: Annotated[tuple[BuiltEngine, ...], Field(max_length=16)]
    messages: Annotated[tuple[Text, ...], Field(max_length=50)] = ()  # warnings of the parser and the builder

    @property
    def layer_types(self) -> dict[str, int]:
        """Number of layers' outputs of each type, the most frequent first."""
        return dict(Counter({kind: sum(dtypes.values()) for kind, dtypes in self.types.items()}).most_common())

    @property
    def output_dtypes(self) -> dict[str, int]:
        """Number of layers' outputs of each dtype, the most frequent first."""
        return self._dtypes(self.types)

    @property
    def product_dtypes(self) -> dict[str, int]:
        """What convolutions and matrix products compute in: a strongly typed layer computes in what it gives."""
        return self._dtypes(PRODUCTS)

    @property
    def int8_share(self) -> float:
        """Of the multiply-adds: those whose operands both come from int8."""
        return self.macs.get("int8", 0) / max(1, sum(self.macs.values()))

    def _dtypes(self, kinds: Any) -> dict[str, int]:
        total: Counter[str] = Counter()
        for kind in kinds:
            total.update(self.types.get(kind, {}))
        return dict(total.most_common())


class TensorRTBuild(Part):
    """What TensorRT says of the ONNX files of a bundle: one, or two with the layout `split`. No engine was run."""

    programs: Annotated[tuple[BuildReport, ...], Field(min_length=1, max_length=2)]


def check_build(path: str | Path, capabilities: Sequence[str] = CAPABILITIES) -> BuildReport:
    """Parse an ONNX file with TensorRT's parser and build an engine for each compute capability, ahead of time.

    Args:
        path: the ONNX file, strongly typed.
        capabilities: of the GPUs to build for, such as "8.6"; at least one.
    Raises:
        MissingDependency: tensorrt_rtx is not installed.
        InputError: there is no such file, or a capability that TensorRT for RTX does not know.
        VerificationFailed: the parser (the message names the node) or the builder refuses the file, or crashes over it.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise MissingDependency(PACKAGE, "tensorrt", "building with TensorRT's parser")
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not an ONNX file: export one with edgevl export --target tensorrt")
    records = _run_script(path, capabilities)
    first = records[0]
    return BuildReport(
        artifact=path.name,
        package=first["tensorrt"]["package"],
        version=first["tensorrt"]["version"],
        **first["network"],
        engines=tuple(_engine(record) for record in records),
        messages=tuple(sorted({message for record in records for message in record["messages"]}))[:50],
    )


def _engine(record: dict[str, Any]) -> BuiltEngine:
    engine = record["engine"]
    return BuiltEngine(capability=record["compute_capability"], bytes=engine["bytes"], seconds=engine["seconds"])


def _run_script(path: Path, capabilities: Sequence[str]) -> list[dict[str, Any]]:
    """The records of `build_engine.py --check`. -P: the current folder is no place to import from."""
    options = [str(path.resolve()), "--check", "--capability", *capabilities]
    command = [sys.executable, "-P", "-m", tensorrt_network.__name__, *options]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=MAX_SECONDS)
    except subprocess.TimeoutExpired:
        raise VerificationFailed(f"TensorRT did not finish building {path.name} in {MAX_SECONDS} s") from None
    if answer.returncode == 0:
        return json.loads(answer.stdout)
    raise _failure(path.name, answer.returncode, answer.stderr.decode("utf-8", errors="replace"))


def _failure(name: str, code: int, said: str) -> EdgeVLError:
    """The error to raise for an exit code of the script and what it said."""
    if code < 0:
        return VerificationFailed(f"TensorRT crashed over {name} ({signal.Signals(-code).name})")
    lines = said.splitlines()
    reason = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "no reason")
    reason = reason.removeprefix("error: ")[:2000]
    if code == build_engine.MISSING:
        return MissingDependency(PACKAGE, "tensorrt", f"building with TensorRT's parser ({reason})")
    kind = {build_engine.BAD_INPUT: InputError, build_engine.REFUSED: VerificationFailed}.get(code, EdgeVLError)
    return kind(reason)


def build_section(
    bundle: Bundle, capabilities: Sequence[str] = CAPABILITIES
) -> tuple[TensorRTBuild | None, list[str], list[str]]:
    """What `edgevl verify` records of a bundle for TensorRT: (section, problems, notes). Never raises for the bundle.

    The section is None if TensorRT refuses a file (a problem says why), if tensorrt_rtx is not installed (a note says
    how), and for another target.
    """
    if bundle.manifest.target != "tensorrt":
        return None, [], []
    reports, problems = [], []
    for artifact in (program.artifact for program in bundle.manifest.programs):
        try:
            report = check_build(bundle.file(artifact), capabilities)
        except MissingDependency as error:
            return None, [], [f"parity.tensorrt: null, because {error}"]
        except EdgeVLError as error:
            problems.append(str(error))
            continue
        reports.append(report.model_copy(update={"artifact": artifact}))
        problems += precision_problems(reports[-1], bundle.manifest.precision)
    built = TensorRTBuild(programs=tuple(reports)) if len(reports) == len(bundle.manifest.programs) else None
    return built, problems, []


def precision_problems(report: BuildReport, precision: str) -> list[str]:
    """A sentence if the network, as TensorRT parsed it, does not multiply in what `precision` claims."""
    if precision == "w8a8":
        return _int8_problems(report)
    dtypes, claimed = report.product_dtypes, PRECISIONS[precision].float
    total = sum(dtypes.values())
    if not claimed or not total or dtypes.get(claimed, 0) / total >= MIN_FLOAT_MACS:
        return []
    found = ", ".join(f"{count} in {dtype}" for dtype, count in dtypes.items())
    return [
        f"{report.artifact} claims {precision}, but of its {total} convolutions and matrix products, "
        f"as TensorRT parses them, {found}"
    ]


def _int8_problems(report: BuildReport) -> list[str]:
    if report.int8_share >= MIN_INT8_MACS:
        return []
    found = ", ".join(f"{dtype} {count:,}" for dtype, count in report.macs.items()) or "none"
    return [
        f"{report.artifact} claims w8a8, but as TensorRT parses it, only {report.int8_share:.1%} of its multiply-adds "
        f"take data and weights from int8 ({found}), {MIN_INT8_MACS:.0%} are needed"
    ]
