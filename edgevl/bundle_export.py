"""`edgevl export`: from a model folder to a bundle, in one atomic step."""

import contextlib
import dataclasses
import gc
import importlib.metadata
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edgevl
from edgevl.apps.jetson.interface import pictures_of
from edgevl.atomic import write_json
from edgevl.bundle.card import README, write_card
from edgevl.bundle.folder import SUFFIX, Bundle, atomic_folder, check_destination, list_files
from edgevl.bundle.golden import GOLDEN, write_golden
from edgevl.bundle.manifest import MANIFEST, FileEntry, LabelsSpec, Manifest, Provenance
from edgevl.bundle.specs import ArtifactSpec, InputSpec
from edgevl.contracts import Deployable, Program, Query
from edgevl.data.own import USUAL, shown_on
from edgevl.domain.judge import DOMAIN
from edgevl.errors import InputError
from edgevl.progress import Progress
from edgevl.quiet import shared
from edgevl.targets import TARGETS

if TYPE_CHECKING:
    from edgevl.export.registry import Exporter
    from edgevl.plans.plan import Plan
Note = Callable[[str], None]
LABELS = "labels.json"
_VERSIONS = ("torch", "timm", "numpy", "pillow", "tokenizers")  # packages that have a part in every bundle


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be exported, checked against what the target can do."""

    exporter: "Exporter"
    precision: str
    layout: str | None  # None: the model's first
    batch: int
    options: dict[str, str]
    license: str | None = None
    scaled: bool = False  # may a JPEG be decoded at a smaller scale?

    def bundle_name(self, model: str, usual_layout: str) -> str:
        """NAME-TARGET-PRECISION.edgevl, with options, layout and batch where they are not the usual ones."""
        usual = self.exporter.check_options(None, self.precision)
        extra = [value for name, value in self.options.items() if value != usual[name]]
        extra += [self.layout] if self.layout and self.layout != usual_layout else []
        extra += [f"b{self.batch}"] if self.batch > 1 else []
        extra += ["scaled"] if self.scaled else []
        return "-".join([model, self.exporter.name, self.precision, *extra]) + SUFFIX


@shared
@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Let Python look for garbage a thousandth as often: converters make millions of objects that live to their end.

    Measured: an export takes a tenth less time (docs/export.md).
    """
    before = gc.get_threshold()
    gc.set_threshold(1000 * before[0], *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@rare_collections()
def export_bundle(
    model: str | Path | None = None,
    target: str = "onnx",
    precision: str | None = None,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    *,
    layout: str | None = None,
    batch: int = 1,
    options: Mapping[str, str | None] | None = None,
    license: str | None = None,
    scaled: bool = False,
    data: str | None = None,
    note: Note = lambda text: None,
) -> Path:
    """Write NAME-TARGET-PRECISION.edgevl and return its path.

    Args:
        model: a model folder; None is the embedded nano.
        target: one of `edgevl.export.registry.target_names()`, or an alias of one.
        precision: None is the target's default.
        out: the bundle to write; default: NAME-TARGET-PRECISION.edgevl in the current folder, where NAME is the model's
            or, for the model of a training run, the run's.
        force: replace an existing bundle; it is deleted only when the new one is in place.
        progress: called as progress(done, total, text).
        layout: how the model is cut into programs; None is its first way. One that answers questions can be `single`,
            or `split` into a vision encoder and a fusion head, so that an app encodes a picture once and asks much.
        batch: samples of one run, fixed in the artifact.
        options: what only some targets have, such as `{"deployment_target": "iOS18"}`; None is a default.
        license: of the weights, in words, for the manifest; None is that of the embedded weights for these.
        scaled: whether readers of the bundle may decode a JPEG at 1/2, 1/4 or 1/8 of its size, the smallest that covers
            what it is resized to: faster, and other pixels.
        data: a data specification that pictures and texts of golden cases are from; None is what the model was
            validated on in training.
        note: called with what the user should know.

    Raises:
        InputError: no such model, target, precision, layout or option; the destination exists or cannot be written; the
            disk is full.
        MissingDependency: the target's package is not installed.
        VerificationFailed: the artifact does not run on this machine, which has the target's runtime, or is far off.
    """
    tell = _Steps(progress)
    tell("loading PyTorch")
    from edgevl.export.registry import get_exporter

    exporter = get_exporter(target)
    precision = exporter.check_precision(precision)
    checked = exporter.check_options(options, precision)
    request = Request(exporter, precision, layout, exporter.check_batch(batch), checked, license, scaled)
    exporter.check_packages()
    tell("loading the model")
    deployable, plan_of = _open(model, request, note)
    tell.programs = len(deployable.programs(layout or deployable.layouts[0]))
    destination = (
        Path(out) if out is not None else Path(request.bundle_name(stem_of(model, deployable), deployable.layouts[0]))
    )
    return export_deployable(deployable, request, destination, force, plan_of, tell, data or shown_on(deployable))


def export_deployable(
    deployable: Deployable,
    request: Request,
    destination: Path,
    force: bool = False,
    plan_of: Callable[[], "Plan | None"] = lambda: None,
    tell: Callable[[str], None] = lambda text: None,
    data: str | Sequence[Query] = USUAL,
) -> Path:
    """Write the bundle of a Deployable and return its path.

    `plan_of` gives the ranges that w8a8 needs; golden cases are from the data set `data`, or these queries. Raises as
    `export_bundle` does.
    """
    from edgevl.export.trial import try_out
    from edgevl.opened import eager

    exporter, precision, layout = request.exporter, request.precision, request.layout or deployable.layouts[0]
    programs = deployable.programs(layout)
    exporter.check_size(programs, precision)
    check_destination(destination, force)
    with atomic_folder(destination, force) as folder:
        tell("writing golden cases")
        _write_texts(deployable, folder)
        write_golden(eager(deployable), folder, _precisions(programs, request), data)
        plan = plan_of()
        exporter.export(deployable, folder, precision, layout, request.batch, request.options, plan, tell)
        tell("writing manifest.json")
        _finish(deployable, request, programs, folder, plan)
        tell("running it once")
        try_out(Bundle.open(folder), exporter)
    tell("done")
    return destination


def _open(model: str | Path | None, request: Request, note: Note) -> tuple[Deployable, Callable[[], "Plan | None"]]:
    """The model, and a function that finds or makes the plan of its ranges where the precision needs one."""
    from edgevl.models.checkpoint import EMBEDDED
    from edgevl.models.deployable import with_scaled
    from edgevl.models.kinds import open_deployable
    from edgevl.quantize import plan_for
    from edgevl.quantize.weights import with_rounded_weights

    deployable, folder = open_deployable(model), Path(model) if model is not None else EMBEDDED
    if request.scaled:
        if not deployable.images:
            raise InputError(f"{deployable.name} reads no picture, so there is none to decode: leave --decode out")
        deployable = with_scaled(deployable, deployable.images)
    if request.precision == "w4" and request.options.get("scheme") == "blocks":
        deployable = with_rounded_weights(deployable, folder)
    return deployable, lambda: plan_for(deployable, folder, note=note) if request.precision == "w8a8" else None


@dataclasses.dataclass
class _Steps:
    """Reports the beginning of each step, the last one being the end: two for each program, and five others."""

    progress: Progress | None
    programs: int = 1
    done: int = 0

    def __call__(self, text: str) -> None:
        if self.progress:
            self.progress(self.done, 5 + 2 * self.programs, text)
        self.done += 1


def stem_of(model: str | Path | None, deployable: Deployable) -> str:
    """Return what a bundle is called after: of a training run, whose model is `RUN/model`, the run; else the model."""
    folder = Path(model).resolve() if model is not None else Path()
    return folder.parent.name if folder.name == "model" and folder.parent.name else deployable.name


def _write_texts(deployable: Deployable, folder: Path) -> None:
    """Write tokenizers, labels and domain."""
    for codec in deployable.texts.values():
        (folder / codec.spec.file).write_text(codec.to_text(), encoding="utf-8", newline="\n")
    if deployable.labels is not None:
        write_json(folder / LABELS, list(deployable.labels))
    if deployable.domain:
        (folder / DOMAIN).write_text(deployable.domain.to_json(), encoding="utf-8", newline="\n")


def _precisions(programs: Sequence[Program], request: Request) -> dict[str, str]:
    """Output -> precision of the program that gives it."""
    return {spec.name: request.precision for program in programs for spec in program.outputs}


def _finish(
    deployable: Deployable, request: Request, programs: Sequence[Program], folder: Path, plan: "Plan | None"
) -> None:
    """The card is made from the manifest, and the manifest holds the card's digest: files, card, digest of the card."""
    manifest = _manifest(deployable, request, programs, list_files(folder), plan)
    write_card(folder, manifest)
    manifest = manifest.model_copy(update={"files": {**manifest.files, **_only(list_files(folder), README)}})
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8", newline="\n")


def _only(files: dict[str, FileEntry], name: str) -> dict[str, FileEntry]:
    return {name: files[name]}


def _manifest(
    deployable: Deployable,
    request: Request,
    programs: Sequence[Program],
    files: dict[str, FileEntry],
    plan: "Plan | None",
) -> Manifest:
    exporter, labels = request.exporter, deployable.labels
    paths = exporter.files(programs)
    return Manifest(
        schema_version=2,
        name=deployable.name,
        task=deployable.task,
        target=exporter.name,
        precision=request.precision,  # pyright: ignore[reportArgumentType]  checked by the exporter
        layout=request.layout or deployable.layouts[0],
        options=request.options,
        programs=tuple(_artifact(program, paths[program.name], request) for program in programs),
        decoding=dict(deployable.decoding),
        image_processing=dict(deployable.images),
        text_processing={name: codec.spec for name, codec in deployable.texts.items()},
        labels=LabelsSpec(file=LABELS, count=len(labels)) if labels is not None else None,
        golden=GOLDEN,
        versions=_versions(exporter.name),
        license=request.license or deployable.license,
        provenance=_provenance(deployable, plan),
        files=files,
    )


def _artifact(program: Program, path: str, request: Request) -> ArtifactSpec:
    """The program as the target takes it: with its batch, and with pictures of the target's type."""
    return ArtifactSpec(
        name=program.name,
        inputs=tuple(_taken(spec, request) for spec in program.inputs),
        outputs=tuple(spec.batched(request.batch) for spec in program.outputs),
        artifact=path,
        precision=request.precision,  # pyright: ignore[reportArgumentType]  checked by the exporter
    )


def _taken(spec: InputSpec, request: Request) -> InputSpec:
    if spec.source.kind != "picture":
        return spec.batched(request.batch)
    size = spec.shape[-1]
    first, second = pictures_of(request.batch, size)
    return spec.model_copy(
        update={
            key: tuple(value) if isinstance(value, list) else value
            for key, value in (first if request.exporter.adapter == "raw" else second).items()
        }
    )


def _provenance(deployable: Deployable, plan: "Plan | None") -> Provenance:
    record = deployable.provenance
    return Provenance(
        checkpoint=record.get("checkpoint", deployable.name),
        checkpoint_sha256=deployable.sha256,
        recipe=_text(record.get("recipe")),
        data=_text(record.get("data")),
        commit=_text(record.get("commit")),
        calibration=_text(plan and f"{plan.calibration}; in float: {', '.join(plan.kept_float) or 'nothing'}"),
        model=record.get("model"),
    )


def _text(value: Any) -> str | None:
    """A record of training as one line: text as it is, anything else as JSON, at most 2 000 characters."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 2000 else text[:1999] + "…"


def _versions(target: str) -> dict[str, str]:
    versions = {"edgevl": edgevl.__version__, "python": platform.python_version()}
    for name in (*_VERSIONS, *(package.name for package in TARGETS[target].packages)):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
