"""How programs become artifacts: the exporter of each target. A new target is a file and a record: `edgevl.targets`."""

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from torch.export import ExportedProgram

from edgevl.contracts import Program
from edgevl.errors import EdgeVLError, InputError, MissingDependency, first_line, unknown_name, unknown_precision
from edgevl.models.capture import capture, picture_names
from edgevl.registry import Registry
from edgevl.targets import TARGETS

if TYPE_CHECKING:
    from edgevl.plans.plan import Plan

ONE_FILE = 2**31  # bytes: protobuf and FlatBuffers count them in 31 bits


class Unconvertible(EdgeVLError):
    """A target cannot take a model; the message says why. `Exporter.export` adds what to do instead."""


class Write(Protocol):
    """Writes a program as an artifact at `path`.

    `options` holds a value for each option of the exporter and, where its adapter is `float`, `pictures`: the names of
    the inputs that are pictures, which the target takes as a type of its own.
    """

    def __call__(self, program: ExportedProgram, path: Path, precision: str, **options: Any) -> None: ...


class Programmed(Protocol):
    """What an exporter reads of a `edgevl.contracts.Deployable`."""

    def programs(self, layout: str) -> Sequence[Program]: ...


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
    adapter: str  # image adapter in front of the core: see `edgevl.models.capture.ADAPTERS`
    precisions: tuple[str, ...]  # supported precisions; the first is the default
    write: Write
    aliases: tuple[str, ...] = ()  # what else people call it
    options: Mapping[str, Option] = field(default_factory=dict)
    max_batch: int | None = None  # None: any
    batch_advice: str = ""  # what to do instead of a larger batch
    finish: Callable[[Path], None] | None = None  # adds further files to the folder of the artifacts
    check: Callable[..., object] | None = None  # check(precision, **options): `InputError` if they do not go together
    dialect: str = ""  # of `w8a8`: a name of `edgevl.plans.spec.DIALECTS`; an option of this name may say otherwise
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

    def check_size(self, programs: Sequence[Program], precision: str) -> None:
        """Raises `InputError` for programs with more weights than a file of this target can hold, before any work."""
        size = self._largest(programs, precision)
        if size < ONE_FILE:
            return
        roomy = [(each, each._roomy(programs)) for each in _all_exporters().values()]
        named = [f"{each.name} {precisions[0]}" for each, precisions in roomy if precisions]
        raise InputError(
            f"{self.name} {precision} holds its weights in one file of at most 2 GiB, and those of this model take "
            f"{size / 2**30:.2f} GiB there. What has room: {_list(named)}"
        )

    def _roomy(self, programs: Sequence[Program]) -> list[str]:
        return [each for each in self.precisions if self._largest(programs, each) < ONE_FILE]

    def _largest(self, programs: Sequence[Program], precision: str) -> int:
        """Bytes that count in the largest file of a model; 0 where there is no limit."""
        return self.one_file.get(precision, 0) * max(program.parameters for program in programs)

    def check_packages(self) -> None:
        """Raises `MissingDependency` for a package that is not there, at once: nothing is imported."""
        for package in TARGETS[self.name].exports_with:
            if importlib.util.find_spec(package.module) is None:
                raise MissingDependency(package.name, package.extra, f"export to {self.name}")

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

    def files(self, programs: Sequence[Program]) -> dict[str, str]:
        """Return program -> path of its artifact in the folder: of several they lie in the folder `model`."""
        if len(programs) == 1:
            return {programs[0].name: self.artifact}
        suffix = Path(self.artifact).suffix
        return {program.name: f"model/{program.name}{suffix}" for program in programs}

    def export(
        self,
        model: Programmed,
        folder: Path,
        precision: str | None = None,
        layout: str = "single",
        batch: int = 1,
        options: Mapping[str, str | None] | None = None,
        plan: "Plan | None" = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> Path:
        """Write the artifact of each program of a layout into `folder` (created if needed) and return its path.

        Of several programs that is the folder `model`, which holds them. `plan` is for the precision `w8a8`: the ranges
        of activations. `tell` hears of two steps for each program as they begin.

        Raises:
            InputError: a precision, layout, batch or option that this target does not support; `w8a8` without a plan; a
                model that the target's converter cannot express.
            MissingDependency: the target's package is not installed.
            EdgeVLError: the folder cannot be written.
        """
        precision, batch = self.check_precision(precision), self.check_batch(batch)
        chosen, programs = self.check_options(options, precision), model.programs(layout)
        files = self.files(programs)
        for program in programs:
            path = folder / files[program.name]
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise EdgeVLError(f"cannot write {path.parent}: {error.strerror}") from error
            tell(f"capturing the {program.name} program" if len(programs) > 1 else "capturing the program")
            captured = capture(program, self.adapter, batch)
            tell(f"converting to {self.name} {precision}")
            self._convert(captured, path, precision, chosen, plan and plan.of(program.name), picture_names(program))
        if self.finish:
            self.finish(folder)
        return folder / (self.artifact if len(programs) == 1 else "model")

    def _quantized(self, program: ExportedProgram, plan: "Plan | None", options: dict[str, str]) -> ExportedProgram:
        from edgevl.plans import require_torchao
        from edgevl.plans.spec import get_dialect

        if plan is None:
            raise InputError("the precision w8a8 needs a plan: make one with `edgevl quantize`")
        require_torchao()
        from edgevl.plans.ptq import quantize_program

        return quantize_program(program, plan, get_dialect(options.get("dialect", self.dialect)))

    def _convert(
        self,
        program: ExportedProgram,
        path: Path,
        precision: str,
        options: dict[str, str],
        plan: "Plan | None" = None,
        pictures: Sequence[str] = (),
    ) -> None:
        """Write one artifact; what a converter raises for a model that it cannot express becomes one line."""
        try:
            if precision == "w8a8":
                program = self._quantized(program, plan, options)
            own_type = {"pictures": pictures} if self.adapter == "float" else {}
            self.write(program, path, precision, **options, **own_type)
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
    dialect: str = "",
    one_file: Mapping[str, int] | None = None,
) -> Callable[[W], W]:
    """Decorate a function `(program, path, precision, **options)` that writes an artifact. See `Exporter`."""

    def add(write: W) -> W:
        exporter = Exporter(
            name, artifact, adapter, precisions, write, aliases, options or {}, max_batch, batch_advice, finish, check,
            dialect, one_file or {},
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
    for target in TARGETS.loaded().values():
        importlib.import_module(target.exporter)  # none imports its backend before it writes
    return exporters
