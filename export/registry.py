"""The exporters by target name. A new target is one file `to_<target>.py` and one line in `_MODULES`."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from torch.export import ExportedProgram

from edgevl.errors import EdgeVLError, InputError, unknown_name
from edgevl.export.program import export_program
from edgevl.registry import Registry

if TYPE_CHECKING:
    from edgevl.models.vqa import VqaModel

Write = Callable[[ExportedProgram, Path, str], None]  # (program, path of the artifact, precision)
W = TypeVar("W", bound=Write)

_MODULES = ("to_onnx", "to_coreml")  # imported on first use; none of them imports its backend before it writes
_PLANNED = ("tensorrt", "executorch", "litert")  # named in the design, no exporter yet


@dataclass(frozen=True)
class Exporter:
    """How a program becomes the artifact of one target."""

    name: str
    artifact: str  # file or folder name inside a bundle
    adapter: str  # image adapter in front of the core: see `edgevl.export.program.ADAPTERS`
    precisions: tuple[str, ...]  # supported precisions; the first is the default
    write: Write
    aliases: tuple[str, ...] = ()  # what else people call it

    @property
    def default_precision(self) -> str:
        return self.precisions[0]

    def check_precision(self, precision: str | None) -> str:
        """Return the precision to use; `None` means the default. Raises `InputError` for one it cannot write."""
        if precision is None:
            return self.default_precision
        if precision not in self.precisions:
            raise unknown_name(f"precision for target {self.name}", precision, self.precisions)
        return precision

    def export(self, model: "VqaModel", folder: Path, precision: str | None = None) -> Path:
        """Write the artifact of `model` into `folder` (created if needed) and return its path.

        Raises:
            InputError: a precision that this target does not support.
            MissingDependency: the target's package is not installed.
            EdgeVLError: the folder cannot be written.
        """
        precision = self.check_precision(precision)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EdgeVLError(f"cannot write {folder}: {error.strerror}") from error
        program = export_program(model, self.adapter)
        self.write(program, folder / self.artifact, precision)
        return folder / self.artifact


exporters: Registry[Exporter] = Registry("export target")


def register_exporter(
    name: str, *, artifact: str, adapter: str, precisions: tuple[str, ...], aliases: tuple[str, ...] = ()
) -> Callable[[W], W]:
    """Decorate a function `(program, path, precision)` that writes an artifact."""

    def add(write: W) -> W:
        exporters.register(name)(Exporter(name, artifact, adapter, precisions, write, aliases))
        return write

    return add


def get_exporter(target: str) -> Exporter:
    """Return the exporter of a target name or alias.

    Raises:
        InputError: an unknown target (with the nearest known name), or one that is planned but not written yet.
    """
    known = _all_exporters()
    for exporter in known.values():
        if target.lower() in (exporter.name, *exporter.aliases):
            return exporter
    if target.lower() in _PLANNED:
        raise InputError(
            f'target "{target}" is planned but cannot be exported yet. Available now: {", ".join(sorted(known))}'
        )
    raise unknown_name(exporters.kind, target, known)


def target_names() -> list[str]:
    """Return the names of the targets that can be exported, sorted."""
    return sorted(_all_exporters())


def _all_exporters() -> Registry[Exporter]:
    for module in _MODULES:
        importlib.import_module(f"edgevl.export.{module}")
    return exporters
