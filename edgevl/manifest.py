"""manifest.json: what a bundle says of itself. Everything in it is checked before anything in the bundle is opened.

What was not measured is null, never a guess. The format is described in docs/bundle.md.
"""

import functools
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgevl.apps.jetson.bundle_files import FORMATS, MANIFEST, check_folder_name, check_relative, inconsistency
from edgevl.apps.jetson.schema import Checker
from edgevl.apps.jetson.wordpiece import MAX_PIECES
from edgevl.config import ModelConfig
from edgevl.errors import InputError, VerificationFailed
from edgevl.limits import NAME_PATTERN
from edgevl.reading import MAX_JSON_BYTES, Unreadable, plain_text, strict_json

SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).parent / "apps" / "jetson" / "bundle.schema.json"  # `edgevl.bundle_schema` writes it

PRECISIONS = ("fp32", "fp16", "w8", "w4", "w8a8")
Precision = Literal["fp32", "fp16", "w8", "w4", "w8a8"]
DType = Literal["float32", "float16", "int32", "int64", "int8", "uint8"]


RelativePath = Annotated[str, AfterValidator(check_relative), Field(json_schema_extra={"format": "relative-path"})]
Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
Text = Annotated[str, Field(max_length=2000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Label = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=2**40)]
Macs = Annotated[int, Field(ge=0, le=2**53)]  # what every JSON reader holds exactly
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Real = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]


class Part(BaseModel):
    """Base of every section: immutable, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(Part):
    """An input or output of the artifact."""

    name: Name
    kind: Literal["tensor", "image"] = "tensor"  # image: the platform's picture type (Core ML)
    dtype: DType
    shape: Annotated[tuple[Annotated[int, Field(ge=1, le=2**20)], ...], Field(min_length=1, max_length=6)]
    layout: Annotated[str, Field(pattern=r"^[A-Z]{1,6}$")]
    range: tuple[Real, Real] | None = None

    @model_validator(mode="after")
    def _layout_fits(self) -> "TensorSpec":
        if len(self.layout) != len(self.shape):
            raise ValueError(f'layout "{self.layout}" does not fit shape {list(self.shape)}')
        return self


class ProgramSpec(Part):
    """One artifact of a bundle with the layout `split`."""

    name: Literal["vision", "fusion"]
    artifact: RelativePath
    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1, max_length=8)]
    outputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1, max_length=8)]


class Preprocessing(Part):
    """How a picture becomes the `image` input. docs/bundle.md has the arithmetic."""

    size: Annotated[int, Field(ge=1, le=4096)]
    orientation: Literal["exif"] = "exif"
    color: Literal["RGB"] = "RGB"
    background: Literal["white"] = "white"
    geometry: Literal["squash"] = "squash"
    kernel: Literal["triangle"] = "triangle"
    antialias: Literal[True] = True
    passes: Literal["horizontal-vertical"] = "horizontal-vertical"
    rounding: Literal["uint8-per-pass"] = "uint8-per-pass"


class TokenizerSpec(Part):
    file: RelativePath
    length: Annotated[int, Field(ge=2, le=4096)]
    vocab_size: Annotated[int, Field(ge=1, le=MAX_PIECES)]
    pad_id: Annotated[int, Field(ge=0, le=0)] = 0


class LabelsSpec(Part):
    file: RelativePath
    count: Annotated[int, Field(ge=1, le=2**20)]


class FileEntry(Part):
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0, le=2**35)]  # 32 GiB: a minute for its digest


class Provenance(Part):
    # "embedded:nano", or the name of the model folder, which verify looks for beside the bundle
    checkpoint: Annotated[Text, AfterValidator(check_folder_name), Field(json_schema_extra={"format": "folder-name"})]
    checkpoint_sha256: Sha256 | None
    recipe: Text | None = None
    data: Text | None = None
    commit: Text | None = None
    calibration: Text | None = None  # w8a8: what the ranges were observed on, and which modules stay in float


class Parity(Part):
    """Logits of the artifact against those of the float PyTorch program on the same samples."""

    max_abs: Real
    psnr_db: Real  # 20 log10(max |reference| / rms error), at most 300
    cosine: Real  # the mean over samples
    top1_agreement: Share
    samples: Count
    data: Text
    runtime: Text
    # Target tensorrt: what its parser and builder say, a `edgevl.runtime.tensorrt_build.TensorRTBuild`.
    tensorrt: dict[str, Any] | None = None


class KindAccuracy(Part):
    artifact: Share
    reference: Share | None
    samples: Count


class Accuracy(Part):
    """Share of right answers; `reference` is the float PyTorch program on the same samples."""

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


class Manifest(Part):
    schema_version: Literal[1]
    name: Name
    task: Name
    target: Name
    precision: Precision
    artifact: RelativePath  # a file, or a folder such as model.mlpackage
    layout: Literal["single", "split"] = "single"
    options: dict[Name, Text] = {}  # of the export, such as the deployment target
    model: ModelConfig
    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1, max_length=8)]
    outputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1, max_length=8)]
    programs: Annotated[tuple[ProgramSpec, ...], Field(max_length=2)] = ()  # with the layout "split": vision, fusion
    preprocessing: Preprocessing
    tokenizer: TokenizerSpec
    labels: LabelsSpec
    golden: RelativePath
    versions: dict[Name, Text]
    license: Text
    provenance: Provenance
    files: Annotated[dict[RelativePath, FileEntry], Field(min_length=1, max_length=10_000)]
    parity: Parity | None = None
    accuracy: Accuracy | None = None
    audit: Audit | None = None
    bench: dict[str, Any] | None = None  # what `edgevl.bench.record` writes; nobody relies on it

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        problem = inconsistency(self.model_dump(mode="json"))
        if problem:
            raise ValueError(problem)
        return self

    def each_program(self) -> tuple[tuple[str, tuple[TensorSpec, ...], tuple[TensorSpec, ...]], ...]:
        """(path, inputs, outputs) of each artifact: one, or with the layout `split` two."""
        if not self.programs:
            return ((self.artifact, self.inputs, self.outputs),)
        return tuple((program.artifact, program.inputs, program.outputs) for program in self.programs)

    @property
    def artifact_bytes(self) -> int:
        return sum(file.bytes for file in self.artifact_files().values())

    def artifact_files(self) -> dict[str, FileEntry]:
        """The files of the artifact: one, or all in its folder."""
        folder = self.artifact + "/"
        return {path: file for path, file in self.files.items() if path == self.artifact or path.startswith(folder)}

    @property
    def batch(self) -> int:
        """Samples of one run."""
        return self.inputs[0].shape[0]

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def parse_manifest(text: str) -> Manifest:
    """Validate the text of a manifest.

    Raises:
        VerificationFailed: not JSON, a field is missing, unknown or out of its range, or a newer schema.
    """
    values = parse_json(text, MANIFEST)
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise VerificationFailed(
            f"{MANIFEST} has schema version {version}, this edgevl reads up to {SCHEMA_VERSION}: pip install -U edgevl"
        )
    return validate(Manifest, values, MANIFEST)


def validate(kind: type[Any], values: Any, file: str) -> Any:
    """Build the pydantic model `kind` from parsed JSON; one line naming `file` and the field if it does not fit.

    pydantic would take "128" or 128.0 for 128, and leave out what has a default in a dataclass: the published schema,
    which the board's script reads too, does not.
    """
    try:
        built = kind.model_validate(values)
        _schema().check(values, kind.__name__)
        return built
    except ValidationError as error:
        reason = _first(error)
    except (InputError, ArithmeticError) as error:  # what ModelConfig says of numbers that do not fit together
        reason = f"model: {error}"
    except ValueError as error:
        reason = str(error)
    raise VerificationFailed(f"{file} is not valid: {reason}; export the bundle again")


@functools.cache
def _schema() -> Checker:
    return Checker(json.loads(SCHEMA_FILE.read_text("utf-8")), FORMATS)


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
