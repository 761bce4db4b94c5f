"""The targets: one record for each, with everything that depends on it. Those of other packages come by entry points.

Names of functions and modules are texts, "module:function": what they need is imported when they are used. How a
program is written as an artifact is the record's `exporter`, a module of `edgevl.export` or of the other package.
"""

import pkgutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgevl.registry import Registry

GROUP = "edgevl.targets"  # of entry points: name -> a `Target`


@dataclass(frozen=True)
class Package:
    """A package that a target needs."""

    name: str  # pip's
    module: str
    extra: str = ""  # of EdgeVL that brings it; "": of another package
    base: bool = False  # the base installation has it


@dataclass(frozen=True)
class Target:
    """Everything that depends on a target, but how its artifacts are written: that is an `edgevl.export` Exporter."""

    name: str
    exporter: str  # module that registers its Exporter when it is imported
    session: str | Callable[..., Any]  # (path, threads) -> `edgevl.runtime.Session`
    reader: str | Callable[..., Any]  # path -> `edgevl.formats.Contents`
    runs: str  # what runs an artifact here, in words
    exports_with: tuple[Package, ...] = ()  # beside torch
    runs_with: tuple[Package, ...] = ()  # the first is the runtime, whose version reports name
    hazards: str | Callable[..., Any] = ""  # operation -> hazards; "": only those of every target
    explicit: bool = False  # does a file state the type of every value? Then a product whose type it hides is no proof.
    # Precision -> why its arithmetic is the runtime's choice: the claim is about the weights only.
    runtime_decides: Mapping[str, str] = field(default_factory=dict)
    not_timed: str = ""  # why times that are measured here would mean nothing; "": they do
    native: str = ""  # the `sys.platform` where its own runtime is, and times mean something
    natively: str = ""  # what runs an artifact there, in words
    built: str | Callable[..., Any] = ""  # bundle -> (section, problems, notes): what its builder says of the files
    patience: int = 1  # how many times longer loading may take, where that is to build

    def load(self, part: str) -> Any:
        """Return the function that a field names, or None for an empty one."""
        value = getattr(self, part)
        return pkgutil.resolve_name(value) if isinstance(value, str) and value else value or None

    @property
    def packages(self) -> tuple[Package, ...]:
        """Return what it needs in all, each once."""
        return tuple(dict.fromkeys((*self.exports_with, *self.runs_with)))

    @property
    def is_native(self) -> bool:
        return sys.platform == self.native


TARGETS: Registry[Target] = Registry("target", GROUP)
_ONNX = (Package("onnx", "onnx", "onnx", base=True), Package("onnxscript", "onnxscript", "onnx", base=True))
_ONNX_RUNTIME = Package("onnxruntime", "onnxruntime", "onnx", base=True)
_COREMLTOOLS = Package("coremltools", "coremltools", "coreml", base=True)
_EXECUTORCH = Package("executorch", "executorch", "executorch")
_COREAI = "coreai"
OURS = (
    Target(
        "onnx",
        exporter="edgevl.export.to_onnx",
        session="edgevl.runtime.onnx_session:open_onnx",
        reader="edgevl.formats.onnx_contents:read_onnx",
        runs="onnxruntime on the CPU",
        exports_with=_ONNX,
        runs_with=(_ONNX_RUNTIME,),
        hazards="edgevl.verify.hazards:of_onnx",
        explicit=True,
    ),
    Target(
        "coreml",
        exporter="edgevl.export.to_coreml",
        session="edgevl.runtime.coreml_session:open_coreml",
        reader="edgevl.formats.coreml_contents:read_coreml",
        runs="reference executor (Core ML itself needs macOS)",
        exports_with=(_COREMLTOOLS,),
        runs_with=(_COREMLTOOLS,),
        hazards="edgevl.verify.hazards:of_coreml",
        explicit=True,
        not_timed="Core ML runs on a Mac; here only the reference executor runs it",
        native="darwin",
        natively="Core ML itself",
    ),
    Target(
        "tensorrt",
        exporter="edgevl.export.to_tensorrt",
        session="edgevl.runtime.tensorrt_session:open_tensorrt",
        reader="edgevl.formats.onnx_contents:read_onnx",
        runs="TensorRT-RTX parses and builds; running needs a GPU",
        exports_with=_ONNX,
        runs_with=(_ONNX_RUNTIME, Package("tensorrt-rtx-cu13", "tensorrt_rtx", "tensorrt")),
        hazards="edgevl.verify.hazards:of_tensorrt",
        explicit=True,
        not_timed="TensorRT runs on its GPU; here a stand-in runs its file",
        built="edgevl.runtime.tensorrt_build:build_section",
        patience=10,
    ),
    Target(
        "executorch",
        exporter="edgevl.export.to_executorch",
        session="edgevl.runtime.executorch_session:open_executorch",
        reader="edgevl.formats.executorch_contents:read_executorch",
        runs="XNNPACK on the CPU",
        exports_with=(_EXECUTORCH,),
        runs_with=(_EXECUTORCH,),
        hazards="edgevl.verify.hazards:of_executorch",
    ),
    Target(
        "litert",
        exporter="edgevl.export.to_litert",
        session="edgevl.runtime.litert_session:open_litert",
        reader="edgevl.formats.litert_contents:read_litert",
        runs="XNNPACK on the CPU",
        exports_with=(
            Package("litert-torch", "litert_torch", "litert"),
            Package("ai-edge-quantizer", "ai_edge_quantizer", "litert"),
        ),
        runs_with=(Package("ai-edge-litert", "ai_edge_litert", "litert"),),
        hazards="edgevl.verify.hazards:of_litert",
        runtime_decides={
            "fp16": "XNNPACK and the GPU delegate unpack fp16 weights and compute in what the device does best",
            "w8": "the kernels quantize float values to int8 as they run (dynamic range)",
            "w4": "as w8",
        },
    ),
    Target(
        "coreai",
        exporter="edgevl.export.to_coreai",
        session="edgevl.runtime.coreai_session:open_coreai",
        reader="edgevl.formats.coreai_contents:read_coreai",
        runs="experimental; coreai-core on the CPU",
        exports_with=(Package("coreai-torch", "coreai_torch", _COREAI),),
        runs_with=(Package("coreai-core", "coreai", _COREAI),),
        not_timed="Core AI is for Apple's hardware; here its runtime uses the CPU",
        native="darwin",
        natively="experimental; Core AI itself",
    ),
)
for _record in OURS:
    TARGETS.register(_record.name)(_record)
