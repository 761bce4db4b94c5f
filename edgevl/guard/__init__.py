"""Limits of time and memory for artifacts that nobody here made: they run in a process of their own.

An artifact is a program. It may hold a loop that never ends or a constant of 100 GB, and no reader finds every such
thing. `edgevl verify`, `predict`, `bench`, `compare` and `inspect` work in a child process that another one watches;
from Python `limited` does the same for one call. It is no sandbox: it stops what is too much, not what is evil.
"""

from edgevl.guard.calls import Call, LimitPassed
from edgevl.guard.fresh import limited
from edgevl.guard.watch import Limits

__all__ = ["Call", "LimitPassed", "Limits", "limited"]
