"""Export the embedded model to every target, precision and layout, and compare the artifacts with recorded digests.

python tools/nano_artifacts.py [NAME ...]           # compare; exit code 4 for a file that differs
python tools/nano_artifacts.py --write [NAME ...]   # record anew, for a change that is meant to change files

w8a8 reads the plan in `tests/golden/nano`, so that no calibration of another processor comes in; `--write` calibrates
anew where that plan is of other weights. Digests are of one version of each converter: what was recorded with others is
not compared. Core AI's files differ from run to run.
"""

import argparse
import importlib.metadata
import json
import shutil
import sys
import tempfile
from pathlib import Path

from edgevl.apps.jetson.bundle_files import sha256_file
from edgevl.bundle.folder import Bundle
from edgevl.bundle_export import export_bundle
from edgevl.embedded import EMBEDDED
from edgevl.quantize.model_folder import quantize_model

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "nano"
RECORD = GOLDEN / "artifacts.json"
# name -> target, precision, layout, options. Each precision of each target, each option, each target's split layout.
CASES: dict[str, tuple[str, str, str, dict[str, str | None]]] = {
    f"{target}-{precision}": (target, precision, "single", {})
    for target, precisions in {
        "onnx": ("fp32", "fp16", "w8", "w8a8"),
        "coreml": ("fp32", "fp16", "w8", "w4", "w8a8"),
        "tensorrt": ("fp32", "fp16", "w8a8"),
        "executorch": ("fp32", "w8a8"),
        "litert": ("fp32", "fp16", "w8", "w8a8"),
    }.items()
    for precision in precisions
}
CASES |= {
    f"{target}-{precision}-split": (target, precision, "split", {})
    for target, precision in (
        ("onnx", "fp32"), ("onnx", "w8a8"), ("coreml", "fp16"), ("tensorrt", "fp16"), ("executorch", "fp32"),
        ("litert", "fp32"),
    )
}  # fmt: skip
CASES["coreml-w4-palette"] = ("coreml", "w4", "single", {"scheme": "palette"})
CASES["onnx-w8a8-arm"] = ("onnx", "w8a8", "single", {"dialect": "arm"})
CASES["executorch-fp32-coreml"] = ("executorch", "fp32", "single", {"delegate": "coreml"})


def digests(name: str, folder: Path) -> dict[str, str]:
    """Export one case into `folder` and return path -> sha256 of its artifact's files."""
    target, precision, layout, options = CASES[name]
    model = planned_model(folder) if precision == "w8a8" else None
    bundle = export_bundle(model, target, precision, folder / f"{name}.edgevl", layout=layout, options=options)
    files = Bundle.open(bundle).manifest.artifact_files()
    return {path: entry.sha256 for path, entry in sorted(files.items())}


def planned_model(folder: Path) -> Path:
    """Return a copy of the embedded model with the recorded plan."""
    model = folder / "nano"
    if not model.exists():
        shutil.copytree(EMBEDDED, model)
        shutil.copy(GOLDEN / "quantization.json", model)
    return model


def renew_plan() -> None:
    """Calibrate the embedded model anew if the recorded plan is of other weights."""
    plan = GOLDEN / "quantization.json"
    if json.loads(plan.read_text("utf-8"))["checkpoint_sha256"] != sha256_file(EMBEDDED / "model.safetensors"):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(quantize_model(out=Path(folder) / "nano").folder / plan.name, plan)


def installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def converters(name: str) -> dict[str, str]:
    """Return the packages that shape the artifact of a case, with their versions."""
    packages = {
        "onnx": ("onnx", "onnxscript"), "tensorrt": ("onnx", "onnxscript"), "coreml": ("coremltools",),
        "executorch": ("executorch",), "litert": ("litert-torch", "ai-edge-quantizer"),
    }  # fmt: skip
    target, precision, _, options = CASES[name]
    extra = ("torchao",) if precision == "w8a8" else ()
    extra += ("scikit-learn",) if options.get("scheme") == "palette" else ()
    return {package: installed(package) for package in ("torch", "timm", *packages[target], *extra)}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="cases; default: all")
    parser.add_argument("--write", action="store_true", help="record instead of comparing")
    arguments = parser.parse_args(argv)
    record = json.loads(RECORD.read_text("utf-8")) if RECORD.is_file() else {}
    different = 0
    if arguments.write:
        renew_plan()
    for name in arguments.names or CASES:
        with tempfile.TemporaryDirectory() as folder:
            found = {"versions": converters(name), "files": digests(name, Path(folder))}
        known = record.get(name, {})
        same, comparable = found["files"] == known.get("files"), found["versions"] == known.get("versions")
        different += comparable and not same
        print(f"{name}: {'the same' if same else 'different' if comparable else 'recorded with other versions'}")
        record[name] = found if arguments.write else known
    if arguments.write:
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 4 if different and not arguments.write else 0


if __name__ == "__main__":
    sys.exit(main())
