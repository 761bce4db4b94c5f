"""Measuring time: the harness, its opponents, and the comparison that people will quote. See docs/bench.md.

`run_bench` needs torch and a runtime and is imported on first use; reading a report needs neither.
"""

from typing import TYPE_CHECKING, Any

from edgevl.bench.presets import PRESETS, Preset
from edgevl.bench.schema import SCHEMA, BenchReport, BenchResult, Flag, Machine, Ratio

if TYPE_CHECKING:
    from edgevl.bench.opponents import OPPONENTS
    from edgevl.bench.run import run_bench

__all__ = [
    "OPPONENTS",
    "PRESETS",
    "SCHEMA",
    "BenchReport",
    "BenchResult",
    "Flag",
    "Machine",
    "Preset",
    "Ratio",
    "run_bench",
]

_LAZY = {"run_bench": "edgevl.bench.run", "OPPONENTS": "edgevl.bench.opponents"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
