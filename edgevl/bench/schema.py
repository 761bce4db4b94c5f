"""The JSON of a benchmark. Times are milliseconds, memory is MiB (2^20 bytes); what was not measured is null.

Readers must accept fields that they do not know: a minor version only adds. A renamed or redefined field is a new
major.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgevl.bundle.manifest import metric_title
from edgevl.errors import InputError, no_such_path
from edgevl.reading import MAX_RESULTS_BYTES, read_text

SCHEMA = "edgevl.bench/1.2"
Scope = Literal["model", "pipeline", "frame", "end_to_end"]
# Numbers of a file that somebody wrote: finite, and not so large that arithmetic on them is not.
Positive = Annotated[float, Field(gt=0, le=1e30)]
Amount = Annotated[float, Field(ge=0, le=1e30)]
Real = Annotated[float, Field(ge=-1e30, le=1e30)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Flag(_Section):
    """A remark about a result that a reader must see."""

    code: str  # stable, for programs: few_queries, short_run, unsteady, other_processes, ...
    text: str  # for people
    invalidates: bool = True


class Machine(_Section):
    """Where and under what a run was made. `load_before` and `others_cpu` tell how busy the machine was otherwise."""

    cpu: str
    cores: Count  # logical cores that this process may use
    memory_gb: Amount  # GiB
    os: str
    python: str
    versions: dict[str, str]  # package -> version
    load_before: list[Amount] | None  # 1, 5 and 15 minute load average when the run began
    others_cpu: Amount | None  # share (0..1) of processor time taken by others, of the bound cores or all: the larger
    governor: str | None  # Linux cpufreq governor, where the machine tells
    affinity: list[int] | None = None  # logical cores that the measured process was bound to
    frequency_mhz: tuple[Amount, Amount] | None = None  # mean over these cores, before and after the run
    temperature_c: tuple[Real, Real] | None = None  # hottest sensor, before and after
    peak: "Peak | None" = None
    board: "Board | None" = None


class Peak(_Section):
    """What this machine can do at most, measured in the same process and on the same threads as the results."""

    threads: Count
    gmacs: dict[str, Positive]  # dtype ("fp32", "int8") -> 1e9 multiply-adds a second of the best large matrix product
    bandwidth_gbs: Positive  # 1e9 bytes per second, read, from memory
    how: str  # in words: sizes, library


class Rail(_Section):
    """Power of one rail over the run, in milliwatts. `idle_mw` was taken before it, with nothing running."""

    name: str  # as the board calls it: VDD_IN, VDD_CPU_GPU_CV, ...
    idle_mw: Amount | None
    mean_mw: Amount
    peak_mw: Amount
    samples: Count


class Board(_Section):
    """An embedded board: the mode that it ran in, and its own sensors at 10 Hz or more during the run."""

    model: str
    l4t: str | None
    jetpack: str | None
    power_mode: str | None  # of nvpmodel: "MAXN", "15W", ...
    clocks_locked: bool | None  # jetson_clocks
    sensor_hz: Amount | None
    rails: list[Rail] = Field(default_factory=list)
    temperature_c: dict[str, tuple[Real, Real]] = Field(default_factory=dict)  # sensor -> (at the start, highest)
    clocks_mhz: dict[str, tuple[Amount, Amount]] = Field(default_factory=dict)  # unit -> (lowest, highest)


class Roofline(_Section):
    """How close a result comes to the fastest that its arithmetic and its bytes allow on this machine."""

    macs: Positive  # multiply-adds of one query, counted in the artifact
    bytes: Positive  # that one query must move at least: weights once, inputs and outputs once
    compute_ms: Amount  # macs over the peak of their dtype
    memory_ms: Amount  # bytes over `bandwidth_gbs`
    limit: Literal["compute", "memory"]  # the larger of the two
    share: Amount  # the larger of the two over p50_ms: 1 is as fast as this machine can be
    bandwidth_gbs: Positive | None = None  # at which as many bytes are read again and again: a cache's, where they fit
    rest: list[str] = Field(default_factory=list)  # where the rest goes, by the runtime's own profile, in words


class Energy(_Section):
    """Energy of one query, idle power subtracted."""

    mj: Real  # millijoules
    source: str  # which sensor: "VDD_IN", "RAPL package-0", ...


class TaskAccuracy(_Section):
    """Right answers of the artifact itself, counted by `edgevl verify` or by a board's own script."""

    share: Share
    samples: Count
    data: str  # "scenes:test"
    metric: str = "accuracy"  # what the share is of: the first metric of the task, such as `text_to_image_r1`

    @property
    def title(self) -> str:
        """Return the name of the metric in words: "Text to image recall@1"."""
        return metric_title(self.metric)


class BenchResult(_Section):
    name: str
    artifact_sha256: str | None
    runtime: str
    scope: Scope
    threads: Count
    n: Count
    p50_ms: Positive
    p90_ms: Positive
    p99_ms: Positive
    load_ms: Amount | None
    first_ms: Amount | None
    peak_mb: Amount | None  # of a fresh process that loads and answers once
    stages: dict[str, Amount]  # stage -> p50 in ms; empty for a scope of one stage
    samples_ms: list[Positive]  # raw, in the order taken
    valid: bool
    flags: list[Flag]
    notes: list[str] = Field(default_factory=list)  # what the number does not say: untrained weights, ...
    blocks: list[Count] = Field(default_factory=list)  # samples per interleaved block; sums to n
    throughput_per_s: Amount | None = None  # queries one after another: 1 / mean
    roofline: Roofline | None = None
    energy: Energy | None = None
    accuracy: TaskAccuracy | None = None  # of the artifact, where somebody counted
    frame: str | None = None  # of the scope `frame`, what it begins with: "1920 x 1080 NV12"


class Ratio(_Section):
    """How many times faster the candidate is: time of the baseline / time of the candidate, above 1 is faster."""

    baseline: str
    candidate: str
    scope: Scope
    ratio: Positive  # median of the ratios of the interleaved pairs
    ci95: tuple[Positive, Positive]  # percentile bootstrap over the pairs; of fewer than five, Student's interval
    pairs: list[Positive]

    @property
    def verdict(self) -> Literal["faster", "slower", ""]:
        """What the interval lets one say of the candidate; "" if it holds 1."""
        return "faster" if self.ci95[0] > 1 else "slower" if self.ci95[1] < 1 else ""

    @property
    def factor(self) -> float:
        """How many times faster or slower."""
        return 1 / self.ratio if self.verdict == "slower" else self.ratio


class BenchReport(_Section):
    schema_: str = Field(default=SCHEMA, alias="schema")
    preset: str
    machine: Machine
    results: list[BenchResult]
    ratios: list[Ratio]
    seconds: Amount | None = None  # the whole run, builds included

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)  # and what the base says

    @property
    def candidate(self) -> str:
        """Whose results a benchmark is about."""
        return self.ratios[0].candidate if self.ratios else self.results[0].name

    @property
    def valid(self) -> bool:
        return all(result.valid for result in self.results)

    def result(self, name: str, scope: Scope) -> BenchResult:
        """The one result of that name and scope. Raises `KeyError`."""
        for result in self.results:
            if (result.name, result.scope) == (name, scope):
                return result
        raise KeyError(f"no result {name}/{scope}")

    def ratio(self, baseline: str, scope: Scope = "pipeline") -> Ratio:
        """The ratio against `baseline`. Raises `KeyError`."""
        for ratio in self.ratios:
            if (ratio.baseline, ratio.scope) == (baseline, scope):
                return ratio
        raise KeyError(f"no ratio against {baseline}/{scope}")

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


def read_report(path: str | Path) -> BenchReport:
    """A JSON file of `edgevl bench --out` or of a board's own script. Raises `InputError`."""
    path = Path(path)
    if not path.is_file():
        raise no_such_path("benchmark", path, "write it with edgevl bench --out, or give a bundle")
    wrong = f'"{path}" is not a benchmark'
    try:
        report = BenchReport.model_validate_json(read_text(path, MAX_RESULTS_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"][:6])) or "the whole"
        raise InputError(f"{wrong} ({place}: {first['msg']:.200}): write one with edgevl bench --out") from None
    if not report.results:
        raise InputError(f'"{path}" holds no result: write another with edgevl bench --out')
    if report.ratios and report.candidate not in {result.name for result in report.results}:
        raise InputError(f"{wrong}: it holds no result of its candidate: write another with edgevl bench --out")
    for result in report.results:
        if not result.samples_ms or (result.blocks and sum(result.blocks) != len(result.samples_ms)):
            raise InputError(f"{wrong}: its blocks do not sum to its samples: write another with edgevl bench --out")
    return report
