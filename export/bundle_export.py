"""`edgevl export`: from a model folder to a bundle, in one atomic step."""

import dataclasses
import importlib.metadata
import itertools
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edgevl
from edgevl.bundle import SUFFIX, Bundle, atomic_folder, check_destination, list_files
from edgevl.card import README, write_card
from edgevl.contracts import Deployable, Program
from edgevl.domain.judge import DOMAIN
from edgevl.errors import InputError
from edgevl.golden import GOLDEN, write_golden
from edgevl.interface import tensor_specs
from edgevl.manifest import (
    MANIFEST,
    FileEntry,
    LabelsSpec,
    Manifest,
    Preprocessing,
    ProgramSpec,
    Provenance,
    TensorSpec,
    TokenizerSpec,
)

if TYPE_CHECKING:
    from edgevl.checkpoint import LoadedModel
    from edgevl.export.registry import Exporter
    from edgevl.quantize.plan import Plan

Progress = Callable[[int, int, str], None]
# Packages that have a part in every bundle, and in those of a target.
_VERSIONS = ("torch", "timm", "numpy", "pillow", "tokenizers")
_ONNX_VERSIONS = ("onnx", "onnxscript", "onnxruntime")
_TARGET_VERSIONS = {
    "onnx": _ONNX_VERSIONS,
    "tensorrt": (*_ONNX_VERSIONS, "tensorrt-rtx-cu13"),
    "coreml": ("coremltools",),
    "executorch": ("executorch",),
    "litert": ("litert-torch", "ai-edge-quantizer", "ai-edge-litert"),
    "coreai": ("coreai-torch", "coreai-core"),
}


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be exported, checked against what the target can do."""

    exporter: "Exporter"
    precision: str
    layout: str
    batch: int
    options: dict[str, str]
    license: str | None = None

    def bundle_name(self, model: str) -> str:
        """NAME-TARGET-PRECISION.edgevl, with options, layout and batch where they are not the usual ones."""
        usual = self.exporter.check_options(None, self.precision)
        extra = [value for name, value in self.options.items() if value != usual[name]]
        extra += ["split"] if self.layout == "split" else []
        extra += [f"b{self.batch}"] if self.batch > 1 else []
        return "-".join([model, self.exporter.name, self.precision, *extra]) + SUFFIX


def export_bundle(
    model: str | Path | None = None,
    target: str = "onnx",
    precision: str | None = None,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    *,
    layout: str = "single",
    batch: int = 1,
    options: Mapping[str, str | None] | None = None,
    license: str | None = None,
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
        layout: `single`, or `split` into a vision encoder and a fusion head, so that an app encodes a picture once
            and asks many questions.
        batch: samples of one run, fixed in the artifact.
        options: what only some targets have, such as `{"deployment_target": "iOS18"}`; None is a default.
        license: of the weights, in words, for the manifest; None is that of the embedded weights for these.

    Raises:
        InputError: no such model, target, precision, layout or option; the destination exists or cannot be written; the
            disk is full.
        MissingDependency: the target's package is not installed.
        VerificationFailed: the artifact does not run on this machine, which has the target's runtime, or is far off.
    """
    tell = _steps(progress, 6 + 2 * (2 if layout == "split" else 1))
    tell("loading PyTorch")
    from edgevl.checkpoint import load_model
    from edgevl.export.registry import get_exporter
    from edgevl.export.trial import try_out
    from edgevl.models.kinds import deployable_of
    from edgevl.quantize import plan_for

    exporter = get_exporter(target)
    precision = exporter.check_precision(precision)
    checked = exporter.check_options(options, precision)
    request = Request(exporter, precision, layout, exporter.check_batch(batch), checked, license)
    exporter.check_packages()
    tell("loading the model")
    loaded = load_model(model)
    exporter.check_size(loaded.model, precision, layout)
    domain = loaded.domain
    deployable = deployable_of(_rounded(loaded, request))
    destination = Path(out) if out is not None else Path(request.bundle_name(stem_of(loaded)))
    check_destination(destination, force)
    with atomic_folder(destination, force) as folder:
        tell("writing golden cases")
        loaded.tokenizer.save(folder / "tokenizer.json")
        _write_json(folder / "labels.json", loaded.labels)
        if domain:
            (folder / DOMAIN).write_text(domain.to_json(), encoding="utf-8", newline="\n")
        write_golden(loaded, folder, precision)
        plan = plan_for(loaded) if precision == "w8a8" else None
        exporter.export(deployable, folder, precision, layout, batch, request.options, plan, tell)
        tell("writing manifest.json")
        _finish(loaded, deployable, request, folder, plan)
        tell("running it once")
        try_out(Bundle.open(folder), exporter)
    tell("done")
    return destination


def _steps(progress: Progress | None, total: int) -> Callable[[str], None]:
    """A function that reports the beginning of each step, of which there are `total`, the last one being the end."""
    done = itertools.count()
    return lambda text: progress(next(done), total - 1, text) if progress else None


def stem_of(loaded: "LoadedModel") -> str:
    """Return what a bundle is called after: of a training run, whose model is `RUN/model`, the run; else the model."""
    folder = loaded.path.resolve()
    return folder.parent.name if folder.name == "model" and folder.parent.name else loaded.config.name


def _rounded(loaded: "LoadedModel", request: Request) -> "LoadedModel":
    """The model to export: with `w4` in blocks, the one whose weights a plan has rounded, if there is such a plan."""
    if request.precision != "w4" or request.options.get("scheme") != "blocks":
        return loaded
    from edgevl.quantize.weights import rounded_model

    return dataclasses.replace(loaded, model=rounded_model(loaded))


def _finish(loaded: "LoadedModel", deployable: Deployable, request: Request, folder: Path, plan: "Plan | None") -> None:
    """The card is made from the manifest, and the manifest holds the card's digest: files, card, digest of the card."""
    manifest = _manifest(loaded, deployable, request, list_files(folder), plan)
    write_card(folder, manifest)
    manifest = manifest.model_copy(update={"files": {**manifest.files, **_only(list_files(folder), README)}})
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8", newline="\n")


def _only(files: dict[str, FileEntry], name: str) -> dict[str, FileEntry]:
    return {name: files[name]}


def _manifest(
    loaded: "LoadedModel",
    deployable: Deployable,
    request: Request,
    files: dict[str, FileEntry],
    plan: "Plan | None",
) -> Manifest:
    config, exporter = loaded.config, request.exporter
    specs, programs = _tensors(loaded, request), deployable.programs(request.layout)
    return Manifest(
        schema_version=1,
        name=config.name,
        task=config.task,
        target=exporter.name,
        precision=request.precision,  # pyright: ignore[reportArgumentType]  checked by the exporter and by the model
        artifact=exporter.artifact if request.layout == "single" else "model",
        layout=request.layout,  # pyright: ignore[reportArgumentType]  likewise
        options=request.options,
        model=config,
        inputs=(specs["image"], specs["input_ids"]),
        outputs=(specs["logits"],),
        programs=() if request.layout == "single" else tuple(_programs(programs, exporter, specs)),
        preprocessing=Preprocessing(size=config.image_size),
        tokenizer=TokenizerSpec(
            file="tokenizer.json", length=config.text_length, vocab_size=loaded.tokenizer.vocab_size
        ),
        labels=LabelsSpec(file="labels.json", count=len(loaded.labels)),
        golden=GOLDEN,
        versions=_versions(exporter.name),
        license=request.license or deployable.license,
        provenance=_provenance(deployable, plan),
        files=files,
    )


def _programs(programs: Sequence[Program], exporter: "Exporter", specs: dict[str, TensorSpec]) -> Iterator[ProgramSpec]:
    for program in programs:
        inputs, outputs = (tuple(specs[each.name] for each in side) for side in (program.inputs, program.outputs))
        path = exporter.files(programs)[program.name]
        yield ProgramSpec(name=program.name, artifact=path, inputs=inputs, outputs=outputs)  # pyright: ignore[reportArgumentType]


def _tensors(loaded: "LoadedModel", request: Request) -> dict[str, TensorSpec]:
    """Every input and output that a bundle of this model may have, by name."""
    config, vocab_size = loaded.config, loaded.tokenizer.vocab_size
    visual = (config.grid**2, config.width)
    specs = tensor_specs(request.batch, config.image_size, config.text_length, vocab_size, visual, config.num_answers)
    picture = specs.pop("picture")
    return specs if request.exporter.adapter == "raw" else specs | {"image": picture}


def _provenance(deployable: Deployable, plan: "Plan | None") -> Provenance:
    record = deployable.provenance
    return Provenance(
        checkpoint=record["checkpoint"],
        checkpoint_sha256=deployable.sha256,
        recipe=_text(record["recipe"]),
        data=_text(record["data"]),
        commit=_text(record["commit"]),
        calibration=_text(plan and f"{plan.calibration}; in float: {', '.join(plan.kept_float) or 'nothing'}"),
    )


def _text(value: Any) -> str | None:
    """A record of training as one line: text as it is, anything else as JSON, at most 2 000 characters."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 2000 else text[:1999] + "…"


def _versions(target: str) -> dict[str, str]:
    versions = {"edgevl": edgevl.__version__, "python": platform.python_version()}
    for name in (*_VERSIONS, *_TARGET_VERSIONS[target]):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _write_json(path: Path, value: Any) -> None:
    try:
        path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    except UnicodeEncodeError as error:
        raise InputError(f"{path.name} cannot be written as UTF-8: {error.reason}") from None
