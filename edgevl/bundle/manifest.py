"""manifest.json: what a bundle says of itself. Everything in it is checked before anything in the bundle is opened.

What was not measured is null, never a guess. The format is described in docs/bundle.md.
"""

import functools
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from edgevl.apps.jetson import schema_1
from edgevl.apps.jetson.bundle_files import FORMATS, MANIFEST, inconsistency
from edgevl.apps.jetson.conventions import manifest_problems as problems_of_schema_1
from edgevl.apps.jetson.interface import DECODING_FIELDS, interface_problems
from edgevl.apps.jetson.schema import Checker
from edgevl.bundle.fields import (
    Count,
    FolderName,
    Label,
    Macs,
    Name,
    Part,
    Precision,
    Real,
    RelativePath,
    Sha256,
    Share,
    Text,
)
from edgevl.bundle.specs import ArtifactSpec, ImageProcessing, InputSpec, OutputSpec, TextProcessing
from edgevl.errors import InputError, VerificationFailed
from edgevl.reading import MAX_JSON_BYTES, Unreadable, plain_text, strict_json

SCHEMA_VERSION = 2
_JETSON = Path(__file__).parents[1] / "apps" / "jetson"
SCHEMA_FILE = _JETSON / "bundle.schema.json"  # `edgevl.bundle.schema` writes it
SCHEMA_FILES = {1: _JETSON / "bundle-1.schema.json", 2: SCHEMA_FILE}  # the one of schema 1 is frozen

Metadata = Annotated[dict[Name, Any], Field(max_length=64)]


class LabelsSpec(Part):
    file: RelativePath
    count: Annotated[int, Field(ge=1, le=2**20)]


class FileEntry(Part):
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0, le=2**35)]  # 32 GiB: a minute for its digest


class Provenance(Part):
    checkpoint: FolderName  # "embedded:nano", or the name of the model folder, which verify looks for beside the bundle
    checkpoint_sha256: Sha256 | None
    recipe: Text | None = None
    data: Text | None = None
    commit: Text | None = None
    calibration: Text | None = None  # w8a8: what the ranges were observed on, and which modules stay in float
    model: Metadata | None = None  # how the model's family describes it, for people: nothing that runs it needs this


class OutputParity(Part):
    """One output of the artifact against that of the float PyTorch program on the same samples."""

    # 10 log10(sum of |reference - its mean over samples|^2 / sum of |error|^2): 0 if a file always gives that mean.
    snr_db: Real | None  # null for a single sample
    psnr_db: Real  # 20 log10(max |reference| / rms error), at most 300
    cosine: Real  # the mean over samples
    max_abs: Real  # the largest error


class Parity(Part):
    """The artifact against the float PyTorch program on the same samples: of several outputs the worst."""

    max_abs: Real
    psnr_db: Real
    cosine: Real
    snr_db: Real | None = None
    outputs: Annotated[dict[Name, OutputParity], Field(max_length=64)] = {}
    top1_agreement: Share  # of decisions: the best answers, or the tokens along the reference's own
    samples: Count
    data: Text
    runtime: Text
    # Target tensorrt: what its parser and builder say, a `edgevl.runtime.tensorrt_build.TensorRTBuild`.
    tensorrt: dict[str, Any] | None = None


class KindAccuracy(Part):
    artifact: Share
    reference: Share | None
    samples: Count


class MetricValue(Part):
    """A quality of the artifact, 0 to 1, and of the float PyTorch program on the same samples."""

    name: Name
    artifact: Share
    reference: Share | None
    ci95: tuple[Share, Share]
    samples: Count


class Accuracy(Part):
    """The first metric of the task, such as the share of right answers; `reference` is the float PyTorch program."""

    metric: Name = "accuracy"
    metrics: Annotated[tuple[MetricValue, ...], Field(max_length=64)] = ()  # all of them, the first one included
    artifact: Share
    reference: Share | None
    samples: Count
    data: Text
    ci95: tuple[Share, Share]  # Wilson interval of `artifact`
    per_kind: dict[Name, KindAccuracy] = {}
    runtime: Text


class AuditWeight(Part):
    """A weight of the artifact, as stored."""

    name: Label
    dtype: Name
    shape: Annotated[tuple[Annotated[int, Field(ge=-1, le=2**40)], ...], Field(max_length=16)]
    bytes: Count


class Duplicate(Part):
    """Weights with the same bytes."""

    names: Annotated[tuple[Label, ...], Field(max_length=8)]
    copies: Count  # the first included; `names` may hold fewer
    bytes: Count  # of one copy


class Hazard(Part):
    """Operators that an accelerator may refuse, so that the processor runs them, or that the file could do without."""

    kind: Name
    op: Label  # the type
    name: Label  # of the first such operator
    why: Text
    count: Count = 1


class Audit(Part):
    """What is inside the artifact, read from the file alone. Lists are cut to the largest; the counts are of all."""

    ok: bool
    weight_bytes: dict[Name, Count]
    op_types: dict[Text, Count] = {}
    problems: tuple[Text, ...] = ()
    activation_dtypes: dict[Name, Count] = {}  # values that flow between operators
    macs: dict[Name, Macs] = {}  # multiply-adds by the dtype that they are done in; "unknown": the file does not say
    mac_shares: dict[Name, Share] = {}
    largest: Annotated[tuple[AuditWeight, ...], Field(max_length=10)] = ()
    duplicates: Annotated[tuple[Duplicate, ...], Field(max_length=20)] = ()
    duplicate_bytes: Count = 0  # that sharing would save
    unused: Annotated[tuple[AuditWeight, ...], Field(max_length=20)] = ()  # weights that no output depends on
    unused_count: Count = 0
    unused_bytes: Count = 0
    hazards: Annotated[tuple[Hazard, ...], Field(max_length=50)] = ()
    hazard_count: Count = 0  # operators, so at least as many as `hazards` has entries


def metric_title(name: str) -> str:
    """Return the name of a metric, such as `text_to_image_r1`, in words."""
    words = re.sub(r"\br(\d+)$", r"recall@\1", name.replace("_", " ").capitalize())
    return re.sub(r"\bf1$", "F1", re.sub(r"\biou(\d)0$", r"at IoU 0.\1", words))


class Manifest(Part):
    schema_version: Literal[2]
    name: Name
    task: Name
    target: Name
    precision: Precision  # pyright: ignore[reportInvalidTypeForm]
    layout: Name = "single"  # how the model is cut into programs
    options: dict[Name, Text] = {}  # of the export, such as the deployment target
    programs: Annotated[tuple[ArtifactSpec, ...], Field(min_length=1, max_length=16)]
    decoding: Metadata  # its kind, the outputs that it reads, and its numbers: docs/bundle.md has the four kinds
    image_processing: Annotated[dict[Name, ImageProcessing], Field(max_length=8)]
    text_processing: Annotated[dict[Name, TextProcessing], Field(max_length=8)]
    labels: LabelsSpec | None = None
    golden: RelativePath
    versions: dict[Name, Text]
    license: Text
    provenance: Provenance
    files: Annotated[dict[RelativePath, FileEntry], Field(min_length=1, max_length=10_000)]
    parity: Parity | None = None
    accuracy: Accuracy | None = None
    audit: Audit | None = None
    bench: dict[str, Any] | None = None  # what `edgevl.bench.record` writes; nobody relies on it
    _original: dict[str, Any] | None = PrivateAttr(None)  # of schema 1: as it was read

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        values = self.model_dump(mode="json", by_alias=True)
        for problem in filter(None, [inconsistency(values), *interface_problems(values)]):
            raise ValueError(problem)
        return self

    @property
    def artifact(self) -> str:
        """The artifact of the one program, or the folder that those of several have in common."""
        paths = [program.artifact for program in self.programs]
        return paths[0] if len(paths) == 1 else paths[0].rpartition("/")[0] or paths[0]

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What goes in from outside: pictures and texts, not values of other programs."""
        return tuple(
            spec for program in self.programs for spec in program.inputs if spec.source.kind in ("picture", "text")
        )

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """What comes out: values that no other program reads."""
        taken = {getattr(spec.source, "name", "") for program in self.programs for spec in program.inputs}
        return tuple(spec for program in self.programs for spec in program.outputs if spec.name not in taken)

    @property
    def artifact_bytes(self) -> int:
        return sum(file.bytes for file in self.artifact_files().values())

    def artifact_files(self) -> dict[str, FileEntry]:
        """The files of the artifacts: one for each program, or all in its folder."""
        artifacts = tuple(program.artifact + "/" for program in self.programs)
        return {path: file for path, file in self.files.items() if f"{path}/".startswith(artifacts)}

    @property
    def batch(self) -> int:
        """The most samples of one run."""
        return max(program.batch for program in self.programs)

    def updated(self, **sections: Any) -> "Manifest":
        """Return a manifest with other sections, each a section of this module or plain data; checked anew."""
        plain = {name: getattr(part, "model_dump", lambda part=part: part)() for name, part in sections.items()}
        manifest = Manifest.model_validate({**self.model_dump(), **plain})
        manifest._original = self._original
        return manifest

    def to_json(self) -> str:
        values = self.model_dump(mode="json", by_alias=True)
        if self._original:  # a reader of schema 1 may be all that an app has
            measured = {name: values[name] for name in ("parity", "accuracy", "audit", "bench", "files")}
            values = schema_1.written_back(self._original, measured)
        return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def parse_manifest(text: str) -> Manifest:
    """Validate the text of a manifest, of schema 1 or 2.

    Raises:
        VerificationFailed: not JSON, a field is missing, unknown or out of its range, or a newer schema.
    """
    values = parse_json(text, MANIFEST)
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise VerificationFailed(
            f"{MANIFEST} has schema version {version}, this edgevl reads up to {SCHEMA_VERSION}: pip install -U edgevl"
        )
    if version != 1 or isinstance(version, bool):
        return validate(Manifest, values, MANIFEST)
    manifest = validate(Manifest, _of_schema_1(values), MANIFEST)
    manifest._original = values
    return manifest


def _of_schema_1(values: Any) -> dict[str, Any]:
    try:
        check_schema("Manifest", values, version=1)
        for problem in (*schema_1.problems(values), *problems_of_schema_1(values)):
            raise ValueError(problem)
    except ValueError as error:
        raise VerificationFailed(f"{MANIFEST} is not valid: {error}; export the bundle again") from None
    return schema_1.upgraded(values)


def check_schema(name: str, values: Any, version: int = SCHEMA_VERSION) -> None:
    """Raise ValueError unless parsed JSON is what the published schema of a version calls `name`."""
    _schema(version).check(values, name)


def validate(kind: type[Any], values: Any, file: str) -> Any:
    """Build the pydantic model `kind` from parsed JSON; one line naming `file` and the field if it does not fit.

    pydantic would take "128" or 128.0 for 128, and leave out what has a default in a dataclass: the published schema,
    which the board's script reads too, does not.
    """
    try:
        built = kind.model_validate(values)
        check_schema(kind.__name__, values)
        decoding = values.get("decoding", {}).get("kind")
        if kind is Manifest and isinstance(decoding, str) and decoding in DECODING_FIELDS:  # not of another package
            check_schema(DECODING_FIELDS[decoding], values["decoding"])
        return built
    except ValidationError as error:
        reason = _first(error)
    except (InputError, ArithmeticError) as error:  # what ModelConfig says of numbers that do not fit together
        reason = f"model: {error}"
    except ValueError as error:
        reason = str(error)
    raise VerificationFailed(f"{file} is not valid: {reason}; export the bundle again")


@functools.cache
def _schema(version: int) -> Checker:
    return Checker(json.loads(SCHEMA_FILES[version].read_text("utf-8")), FORMATS)


def _first(error: ValidationError) -> str:
    problem, count = error.errors(include_url=False, include_input=False)[0], error.error_count()
    where = ".".join(str(part) for part in problem["loc"]) or "the whole"
    reason = problem["msg"].removeprefix("Value error, ").splitlines()[0]
    return f"{where}: {reason}" + (f" (and {count - 1} more)" if count > 1 else "")


def parse_json(text: str, file: str) -> Any:
    """Parse JSON strictly, as `strict_json` does. Raises `VerificationFailed` naming `file`."""
    try:
        return strict_json(text)
    except Unreadable as error:
        raise VerificationFailed(f"{file} is truncated or not JSON ({error}); export the bundle again") from None


def read_text(path: Path, limit: int = MAX_JSON_BYTES) -> str:
    """Read a UTF-8 file of a bundle.

    Raises `VerificationFailed` if it is missing, no plain file, too large or not UTF-8.
    """
    try:
        return plain_text(path, limit)
    except Unreadable as error:
        raise VerificationFailed(f"{path.name} of the bundle {error}; export the bundle again") from None
