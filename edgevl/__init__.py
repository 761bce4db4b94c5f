"""EdgeVL: detector-free vision-language models from raw pixels to a phone, proved on the artifact itself.

What most people need is importable from here, and loaded when it is first used: `import edgevl` itself is cheap.
"""

import os
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors: the names of `_HOMES`
    from edgevl.bench import run_bench as run_bench
    from edgevl.bench.compare import compare as compare
    from edgevl.bundle.folder import Bundle as Bundle
    from edgevl.bundle_export import export_bundle as export_bundle
    from edgevl.config import ModelConfig as ModelConfig
    from edgevl.data import open_dataset as open_dataset
    from edgevl.data.scenes import Scenes as Scenes
    from edgevl.demo import run_demo as run_demo
    from edgevl.errors import EdgeVLError as EdgeVLError
    from edgevl.errors import InputError as InputError
    from edgevl.inputs.preprocess import load_image as load_image
    from edgevl.inputs.tokenizer import Tokenizer as Tokenizer
    from edgevl.models import build_model as build_model
    from edgevl.models.checkpoint import load_model as load_model
    from edgevl.models.checkpoint import save_model as save_model
    from edgevl.predict import Answerer as Answerer
    from edgevl.predict import predict as predict
    from edgevl.quantize.model_folder import quantize_model as quantize_model
    from edgevl.report import write_report as write_report
    from edgevl.runtime.session import open_session as open_session
    from edgevl.training import distill as _distill
    from edgevl.training import finetune as _finetune
    from edgevl.training import pretrain as _pretrain
    from edgevl.verify.audit import inspect_bundle as inspect_bundle
    from edgevl.verify.run import verify_bundle as verify_bundle

    pretrain, finetune, distill = _pretrain.run, _finetune.run, _distill.run

__version__ = "0.1.0"

_HOMES = {
    "Answerer": "predict:Answerer",
    "Bundle": "bundle.folder:Bundle",
    "EdgeVLError": "errors:EdgeVLError",
    "InputError": "errors:InputError",
    "ModelConfig": "config:ModelConfig",
    "Scenes": "data.scenes:Scenes",
    "Tokenizer": "inputs.tokenizer:Tokenizer",
    "build_model": "models:build_model",
    "compare": "bench.compare:compare",
    "distill": "training.distill:run",
    "export_bundle": "bundle_export:export_bundle",
    "finetune": "training.finetune:run",
    "inspect_bundle": "verify.audit:inspect_bundle",
    "load_image": "inputs.preprocess:load_image",
    "load_model": "models.checkpoint:load_model",
    "open_dataset": "data:open_dataset",
    "open_session": "runtime.session:open_session",
    "predict": "predict",  # the module, which can be called as its function: whoever imports it puts it here anyway
    "pretrain": "training.pretrain:run",
    "quantize_model": "quantize.model_folder:quantize_model",
    "run_bench": "bench:run_bench",
    "run_demo": "demo:run_demo",
    "save_model": "models.checkpoint:save_model",
    "verify_bundle": "verify.run:verify_bundle",
    "write_report": "report:write_report",
}
__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]

# ONNX Runtime's official builds report to their maker, on Linux and macOS too (their Privacy.md). We have nothing to
# report to anyone. Only this variable, set before the first import, stops all of it.
# Children inherit it. The hub's library, which timm loads, tells about its caller unless the second is set.
os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def __getattr__(name: str) -> Any:
    """Import what is asked for. Called for what this module does not hold yet."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgevl' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value = pkgutil.resolve_name(f"edgevl.{_HOMES[name]}")
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
