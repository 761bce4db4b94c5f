"""How much is measured: the minima of `quick` and `normal` are MLPerf Mobile's, `rapid` is for a demo."""

import dataclasses
from collections.abc import Iterable

from edgevl.bench.schema import Flag
from edgevl.registry import Registry

NOISE_CV = 0.25  # standard deviation / mean of the samples from which a run counts as unsteady
NOISE_OTHERS = 0.10  # share of the machine's processor time taken by other processes from which a run counts as noisy
NOISE_DRIFT = 0.05  # by how much the two halves of a run may differ at p50, and the machine's own speed around it
DRIFT_SAMPLES = 20  # fewer samples have no halves worth comparing
NOISE_LOAD = 0.5  # one-minute load average per core, before the run, that is worth a remark


@dataclasses.dataclass(frozen=True)
class Preset:
    name: str
    min_queries: int
    min_seconds: float  # of measured time, per subject
    rounds: int  # interleaved blocks of every subject; each round gives one pair for the ratio
    warmup_queries: int  # at most, per subject, not recorded
    warmup_seconds: float  # warm-up ends after this, but not before one query
    slow_query: float | None = None  # seconds: a subject slower than this needs only `slow_queries` and no minimum time
    slow_queries: int = 0
    processes: int = 0  # fresh processes of our model: the scope `end_to_end`, cold load and peak memory
    opponent_processes: int = 0  # the same of each opponent; 0: load and first query from the benchmark's own process

    def is_slow(self, query_seconds: float) -> bool:
        return self.slow_query is not None and query_seconds > self.slow_query

    def block_queries(self, query_seconds: float) -> int:
        """Queries in one block, so that `rounds` blocks meet the minima at `query_seconds` a query."""
        if self.is_slow(query_seconds):
            return -(-self.slow_queries // self.rounds)
        by_time = 1.05 * self.min_seconds / self.rounds / max(query_seconds, 1e-9)  # 5 %: the estimate may be high
        return max(-(-self.min_queries // self.rounds), int(by_time) + 1)

    def meets(self, queries: int, seconds: float) -> bool:
        if queries and self.is_slow(seconds / queries):
            return queries >= self.slow_queries
        return queries >= self.min_queries and seconds >= self.min_seconds


PRESETS: Registry[Preset] = Registry("preset")
for _preset in (
    Preset("rapid", 32, 2.0, rounds=5, warmup_queries=16, warmup_seconds=0.3, slow_query=0.2, slow_queries=5,
           processes=3),
    Preset("quick", 128, 10.0, rounds=32, warmup_queries=64, warmup_seconds=1.0, slow_query=0.5, slow_queries=32,
           processes=5, opponent_processes=5),
    Preset("normal", 1024, 60.0, rounds=64, warmup_queries=256, warmup_seconds=3.0, slow_query=0.5, slow_queries=128,
           processes=10, opponent_processes=10),
):  # fmt: skip
    PRESETS.register(_preset.name)(_preset)


def minimum_flags(preset: Preset, samples_s: Iterable[float]) -> list[Flag]:
    """What the preset asks for and the samples (seconds) do not have. A flag of `slow_opponent` does not invalidate."""
    samples = list(samples_s)
    queries, seconds = len(samples), sum(samples)
    if queries and preset.is_slow(seconds / queries):
        text = f"{queries} queries: a query takes more than {preset.slow_query:g} s, so {preset.slow_queries} suffice"
        flags = [Flag(code="slow_opponent", text=text, invalidates=False)]
        if queries < preset.slow_queries:
            flags.append(Flag(code="few_queries", text=f"{queries} of {preset.slow_queries} queries"))
        return flags
    flags = []
    if queries < preset.min_queries:
        flags.append(Flag(code="few_queries", text=f"{queries} of {preset.min_queries} queries"))
    if seconds < preset.min_seconds:
        flags.append(Flag(code="short_run", text=f"{seconds:.2f} of {preset.min_seconds:g} s"))
    return flags
