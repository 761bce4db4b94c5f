"""Where onnxruntime spends a query: its own profile, operator by operator, after its fusions."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgevl.bench.pipelines import Arrays
from edgevl.bench.sessions import open_onnx
from edgevl.formats.graph import convolution_macs, product_macs
from edgevl.guard import Call

WARM_UP, QUERIES = 5, 30
_END = "_kernel_time"
_INTEGERS = ("int8", "uint8")
_PRODUCTS = ("MatMul", "Gemm")  # fused and quantized forms keep these words in their names


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One operator of the graph as it runs."""

    kind: str  # "3x3 Conv", "depthwise 3x3 Conv", "Softmax"
    seconds: float  # of one query, the mean
    macs: int | None  # None: the profile leaves out the shape of a weight that was packed when the file was loaded
    peak: str  # the peak that it could reach: "fp32" or "int8"


@dataclasses.dataclass(frozen=True)
class Profile:
    kernels: list[Kernel]
    seconds: float  # of one query in the runtime, what lies between the operators too


def profile_onnx(
    files: Sequence[tuple[Path, Mapping[str, str]]], feeds: Arrays, threads: int, scratch: Path
) -> Profile:
    """Run files one after another, each on what those before it gave, with the profiler on.

    The profiler itself takes time, so its seconds are good for shares only.

    Args:
        files: each with the name of the value that an input reads, where that is another program's.
        feeds: by the names of the other inputs.
    """
    arrays, profiles = dict(feeds), list[Profile]()
    for index, (path, values) in enumerate(files):
        session = open_onnx(path, threads, scratch / f"profile-{index}")
        taken = {value.name: arrays[values.get(value.name, value.name)] for value in session.get_inputs()}
        names = [value.name for value in session.get_outputs()]
        for _ in range(WARM_UP + QUERIES):
            with Call.on("profiling", path):
                given = session.run(names, taken)
        arrays |= dict(zip(names, given, strict=True))
        profiles.append(parse_profile(json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")), QUERIES))
    kernels = [kernel for profile in profiles for kernel in profile.kernels]
    return Profile(kernels, sum(profile.seconds for profile in profiles))


def parse_profile(events: Sequence[Mapping[str, Any]], queries: int) -> Profile:
    """The last `queries` runs of onnxruntime's trace events (times in microseconds)."""
    runs = sorted((event for event in events if event["name"] == "model_run"), key=lambda event: event["ts"])[-queries:]
    began = runs[0]["ts"]
    seen: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_END) and event["ts"] >= began:
            seen.setdefault(event["name"], []).append(event)
    kernels = [_kernel(same, len(runs)) for same in seen.values()]
    return Profile(kernels, sum(run["dur"] for run in runs) / len(runs) / 1e6)


def _kernel(events: Sequence[Mapping[str, Any]], queries: int) -> Kernel:
    args = events[0]["args"]
    name, inputs = args["op_name"], args.get("input_type_shape", [])
    output = _shape(args["output_type_shape"][0]) if args.get("output_type_shape") else ()
    seconds = sum(event["dur"] for event in events) / queries / 1e6
    weight = _shape(inputs[1]) if len(inputs) > 1 else ()
    integer = bool(inputs) and next(iter(inputs[0])) in _INTEGERS
    kind: str = name
    macs: int | None = 0
    if "Conv" in name:
        known = len(weight) > 2
        kind, macs = (f"{_window(weight)} {name}", convolution_macs(output, weight)) if known else (name, None)
    elif any(word in name for word in _PRODUCTS) and inputs and output:
        macs = product_macs(output, (_shape(inputs[0]) or (1,))[-1])
    return Kernel(kind, seconds, macs, "int8" if integer else "fp32")


def _shape(typed: Mapping[str, list[int]]) -> tuple[int, ...]:
    """{"float": [1, 2]} is (1, 2)."""
    return tuple(next(iter(typed.values()), []))


def _window(weight: tuple[int, ...]) -> str:
    """Of a convolution's weight [out channels, in channels / groups, kernel...]."""
    sides = "x".join(map(str, weight[2:]))
    return f"depthwise {sides}" if weight[1] == 1 and weight[0] > 1 else sides
