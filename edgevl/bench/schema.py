"""The JSON of a benchmark. Times are milliseconds, memory is MiB (2^20 bytes); what was not measured is null.

Readers must accept fields that they do not know: a minor version only adds. A renamed or redefined field is a new
major.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = "edgevl.bench/1.0"
Scope = Literal["model", "pipeline"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Flag(_Section):
    """A remark about a result that a reader must see."""

    code: str  # stable, for programs: few_queries, short_run, unsteady, other_processes, ...
    text: str  # for people
    invalidates: bool = True


class Machine(_Section):
    """Where and under what a run was made. `load_before` and `others_cpu` tell how busy the machine was otherwise."""

    cpu: str
    cores: int  # logical cores that this process may use
    memory_gb: float  # GiB
    os: str
    python: str
    versions: dict[str, str]  # package -> version
    load_before: list[float] | None  # 1, 5 and 15 minute load average when the run began
    others_cpu: float | None  # share (0..1) of all processor time taken by other processes while measuring
    governor: str | None  # Linux cpufreq governor, where the machine tells


class BenchResult(_Section):
    name: str
    artifact_sha256: str | None
    runtime: str
    scope: Scope
    threads: int
    n: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    load_ms: float | None
    first_ms: float | None
    peak_mb: float | None  # of a fresh process that loads and answers once
    stages: dict[str, float]  # stage -> p50 in ms; empty for a scope of one stage
    samples_ms: list[float]  # raw, in the order taken
    valid: bool
    flags: list[Flag]
    notes: list[str] = Field(default_factory=list)  # what the number does not say: untrained weights, ...
    blocks: list[int] = Field(default_factory=list)  # samples per interleaved block; sums to n


class Ratio(_Section):
    """How many times faster the candidate is: time of the baseline / time of the candidate, above 1 is faster."""

    baseline: str
    candidate: str
    scope: Scope
    ratio: float  # median of the ratios of the interleaved pairs
    ci95: tuple[float, float]  # percentile bootstrap over the pairs
    pairs: list[float]


class BenchReport(_Section):
    schema_: str = Field(default=SCHEMA, alias="schema")
    preset: str
    machine: Machine
    results: list[BenchResult]
    ratios: list[Ratio]
    seconds: float | None = None  # the whole run, builds included

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)

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
