"""The exporters by target name. A new target is one file `to_<target>.py` and one line in `_MODULES`."""

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from torch.export import ExportedProgram

from edgevl.errors import EdgeVLError, InputError, MissingDependency, first_line, unknown_name, unknown_precision
from edgevl.export.program import LAYOUTS, export_program
from edgevl.registry import Registry

if TYPE_CHECKING:
    from edgevl.models.vqa import VqaModel
    from edgevl.quantize.plan import Plan

ONE_FILE = 2**31  # bytes: protobuf and FlatBuffers count them in 31 bits
# Imported on first use; none of them imports its backend before it writes.
_MODULES = ("to_onnx", "to_coreml", "to_tensorrt", "to_executorch", "to_litert", "to_coreai")


class Unconvertible(EdgeVLError):
    """A target cannot take a model; the message says why. `Exporter.export` adds what to do instead."""


class Write(Protocol):
    """Writes a program as an artifact at `path`. `options` holds a value for each option of the exporter."""

    def __call__(self, program: ExportedProgram, path: Path, precision: str, **options: str) -> None: ...


W = TypeVar("W", bound=Callable[..., None])


@dataclass(frozen=True)
class Option:
    """A choice that only this target has, such as the oldest system that must run the file."""

    choices: tuple[str, ...]
    default: str  # `for_precision` may say otherwise
    for_precision: Mapping[str, str] = field(default_factory=dict)  # precision -> another default


@dataclass(frozen=True)
class Exporter:
    """How a program becomes the artifact of one target."""

    name: str
    artifact: str  # file or folder name inside a bundle
    adapter: str  # image adapter in front of the core: see `edgevl.export.program.ADAPTERS`
    precisions: tuple[str, ...]  # supported precisions; the first is the default
    write: Write
    aliases: tuple[str, ...] = ()  # what else people call it
    options: Mapping[str, Option] = field(default_factory=dict)
    max_batch: int | None = None  # None: any
    batch_advice: str = ""  # what to do instead of a larger batch
    finish: Callable[[Path], None] | None = None  # adds further files to the folder of the artifacts
    check: Callable[..., object] | None = None  # check(precision, **options): `InputError` if they do not go together
    packages: Mapping[str, str] = field(default_factory=dict)  # what it imports, by pip's name -> the extra with it
    dialect: str = ""  # of `w8a8`: a name of `edgevl.quantize.spec.DIALECTS`; an option of this name may say otherwise
    # Precision -> bytes that each parameter takes in the one file, of `ONE_FILE` bytes at most, or on the way to it.
    one_file: Mapping[str, int] = field(default_factory=dict)

    @property
    def default_precision(self) -> str:
        return self.precisions[0]

    @property
    def advice(self) -> str:
        """What to do about a model that this target does not take."""
        others = [name for name in target_names() if name != self.name]
        return f"Try another target ({_list(others)}) or another backbone: docs/targets.md has what goes together"

    def check_size(self, model: "VqaModel", precision: str, layout: str = "single") -> None:
        """Raises `InputError` for a model with more weights than a file of this target can hold, before any work."""
        size = self._largest(model, precision, layout)
        if size < ONE_FILE:
            return
        roomy = [(each, each._roomy(model, layout)) for each in _all_exporters().values()]
        named = [f"{each.name} {precisions[0]}" for each, precisions in roomy if precisions]
        raise InputError(
            f"{self.name} {precision} holds its weights in one file of at most 2 GiB, and those of this model take "
            f"{size / 2**30:.2f} GiB there. What has room: {_list(named)}"
        )

    def _roomy(self, model: "VqaModel", layout: str) -> list[str]:
        return [each for each in self.precisions if self._largest(model, each, layout) < ONE_FILE]

    def _largest(self, model: "VqaModel", precision: str, layout: str) -> int:
        """Bytes that count in the largest file of a model; 0 where there is no limit."""
        vision = sum(parameter.numel() for parameter in model.core.vision.parameters())
        rest = sum(parameter.numel() for parameter in model.parameters()) - vision
        parameters = vision + rest if layout == "single" else max(vision, rest)
        return self.one_file.get(precision, 0) * parameters

    def check_packages(self) -> None:
        """Raises `MissingDependency` for a package that is not there, at once: nothing is imported."""
        for package, extra in self.packages.items():
            if importlib.util.find_spec(package.replace("-", "_")) is None:
                raise MissingDependency(package, extra, f"export to {self.name}")

    def check_precision(self, precision: str | None) -> str:
        """Return the precision to use; `None` means the default. Raises `InputError` for one it cannot write."""
        if precision is None:
            return self.default_precision
        if precision not in self.precisions:
            raise unknown_precision(f"precision for target {self.name}", precision, self.precisions)
        return precision

    def check_batch(self, batch: int) -> int:
        """Raises `InputError` for a batch that is not positive or that the target cannot take."""
        if batch < 1:
            raise InputError(f"batch {batch} is not a positive number of samples")
        if self.max_batch and batch > self.max_batch:
            raise InputError(f"target {self.name} takes a batch of at most {self.max_batch}: {self.batch_advice}")
        return batch

    def check_options(self, options: Mapping[str, str | None] | None, precision: str) -> dict[str, str]:
        """Return a value for every option of this target; `None` means the default.

        Raises `InputError` for an option of another target, a value that is not among the choices, or one that does not
        go with the precision or with another option.
        """
        given = {name: value for name, value in (options or {}).items() if value is not None}
        for name in given.keys() - self.options.keys():
            owners = [exporter.name for exporter in _all_exporters().values() if name in exporter.options]
            raise InputError(f"target {self.name} has no option {name.replace('_', '-')}; it is for {_list(owners)}")
        resolved = {}
        for name, option in self.options.items():
            value = given.get(name, option.for_precision.get(precision, option.default))
            if value not in option.choices:
                raise unknown_name(name.replace("_", " "), value, option.choices)
            resolved[name] = value
        if self.check:
            self.check(precision, **resolved)
        return resolved

    def files(self, layout: str) -> dict[str, str]:
        """Part of the model -> path of its artifact in the folder. Raises `InputError` for an unknown layout."""
        if layout not in LAYOUTS:
            raise unknown_name("layout", layout, LAYOUTS)
        if layout == "single":
            return {"model": self.artifact}
        suffix = Path(self.artifact).suffix
        return {part: f"model/{part}{suffix}" for part in LAYOUTS[layout]}

    def export(
        self,
        model: "VqaModel",
        folder: Path,
        precision: str | None = None,
        layout: str = "single",
        batch: int = 1,
        options: Mapping[str, str | None] | None = None,
        plan: "Plan | None" = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> Path:
        """Write the artifact of `model` into `folder` (created if needed) and return its path.

        With the layout `split` that is the folder `model`, which holds a `vision` and a `fusion` artifact. `plan` is
        for the precision `w8a8`: the ranges of activations. `tell` hears of two steps for each part as they begin.

        Raises:
            InputError: a precision, layout, batch or option that this target does not support; `w8a8` without a plan; a
                model that the target's converter cannot express.
            MissingDependency: the target's package is not installed.
            EdgeVLError: the folder cannot be written.
        """
        precision, files = self.check_precision(precision), self.files(layout)
        batch, chosen = self.check_batch(batch), self.check_options(options, precision)
        for part, name in files.items():
            path = folder / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise EdgeVLError(f"cannot write {path.parent}: {error.strerror}") from error
            tell(f"capturing the {part} program" if layout == "split" else "capturing the program")
            program = export_program(model, self.adapter, batch, part)
            tell(f"converting to {self.name} {precision}")
            self._convert(program, path, precision, chosen, plan)
        if self.finish:
            self.finish(folder)
        return folder / (self.artifact if layout == "single" else "model")

    def _quantized(self, program: ExportedProgram, plan: "Plan | None", options: dict[str, str]) -> ExportedProgram:
        from edgevl.quantize import require_torchao
        from edgevl.quantize.spec import get_dialect

        if plan is None:
            raise InputError("the precision w8a8 needs a plan: make one with `edgevl quantize`")
        require_torchao()
        from edgevl.quantize.ptq import quantize_program

        return quantize_program(program, plan, get_dialect(options.get("dialect", self.dialect)))

    def _convert(
        self, program: ExportedProgram, path: Path, precision: str, options: dict[str, str], plan: "Plan | None" = None
    ) -> None:
        """Write one artifact; what a converter raises for a model that it cannot express becomes one line."""
        try:
            if precision == "w8a8":
                program = self._quantized(program, plan, options)
            self.write(program, path, precision, **options)
        except Unconvertible as error:
            raise InputError(f"target {self.name} cannot take this model: {error}. {self.advice}") from error
        except (EdgeVLError, OSError, MemoryError):
            raise
        except Exception as error:  # each converter has its own exceptions
            raise InputError(
                f"target {self.name} cannot take this model: its converter cannot express it "
                f"({type(error).__name__}: {first_line(error)}). {self.advice}"
            ) from error


exporters: Registry[Exporter] = Registry("export target")


def register_exporter(
    name: str,
    *,
    artifact: str,
    adapter: str,
    precisions: tuple[str, ...],
    aliases: tuple[str, ...] = (),
    options: Mapping[str, Option] | None = None,
    max_batch: int | None = None,
    batch_advice: str = "",
    finish: Callable[[Path], None] | None = None,
    check: Callable[..., object] | None = None,
    packages: Mapping[str, str] | None = None,
    dialect: str = "",
    one_file: Mapping[str, int] | None = None,
) -> Callable[[W], W]:
    """Decorate a function `(program, path, precision, **options)` that writes an artifact. See `Exporter`."""

    def add(write: W) -> W:
        exporter = Exporter(
            name, artifact, adapter, precisions, write, aliases, options or {}, max_batch, batch_advice, finish, check,
            packages or {}, dialect, one_file or {},
        )  # fmt: skip
        exporters.register(name)(exporter)
        return write

    return add


def get_exporter(target: str) -> Exporter:
    """Return the exporter of a target name or alias. Raises `InputError` for an unknown one, with the nearest name."""
    known, wanted = _all_exporters(), target.lower()
    names = {alias: exporter for exporter in known.values() for alias in (exporter.name, *exporter.aliases)}
    if wanted in names:
        return names[wanted]
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    if near and near[0] not in known:
        meant = f'did you mean "{near[0]}", which is {names[near[0]].name}?'
        raise InputError(f'unknown {exporters.kind} "{target}"; {meant} Known: {_list(sorted(known))}')
    raise unknown_name(exporters.kind, target, known)


def target_names() -> list[str]:
    """Return the names of the targets that can be exported, sorted."""
    return sorted(_all_exporters())


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _all_exporters() -> Registry[Exporter]:
    for module in _MODULES:
        importlib.import_module(f"edgevl.export.{module}")
    return exporters
