"""Measuring time: the harness, its opponents, and the comparison that people will quote. See docs/bench.md.

`compare_with_region` needs torch and a runtime and is imported on first use; reading a report needs neither.
"""

from typing import TYPE_CHECKING, Any

from edgevl.bench.presets import PRESETS, Preset
from edgevl.bench.schema import SCHEMA, BenchReport, BenchResult, Flag, Machine, Ratio

if TYPE_CHECKING:
    from edgevl.bench.compare import compare_with_region
    from edgevl.bench.opponents import OPPONENTS

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
    "compare_with_region",
]

_LAZY = {"compare_with_region": "edgevl.bench.compare", "OPPONENTS": "edgevl.bench.opponents"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
