"""The passes over a target's graph, by name: each can be left out, to measure what it gains and to find a wrong one.

Kinds of gain: `runs` means that without it the target refuses the file or gives other numbers; `fast` and `small` are
measured by `python tools/pass_gains.py`, which writes docs/passes.md.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Concatenate, Literal, ParamSpec, TypeVar

from edgevl.errors import unknown_name

Gain = Literal["runs", "fast", "small"]
G = TypeVar("G")
P = ParamSpec("P")


@dataclass(frozen=True)
class Pass:
    name: str
    target: str
    gain: Gain
    does: str  # one sentence, for a table


PASSES: dict[str, Pass] = {}
_SKIPPED: ContextVar[frozenset[str]] = ContextVar("skipped passes", default=frozenset())


def graph_pass(
    name: str, target: str, gain: Gain, does: str
) -> Callable[[Callable[Concatenate[G, P], G]], Callable[Concatenate[G, P], G]]:
    """Decorate a function that takes a graph first and returns it changed, in place or not.

    Inside `skipping(name)` it returns what it was given.
    """
    assert name not in PASSES, f"two passes are called {name}"
    PASSES[name] = Pass(name, target, gain, does)

    def decorate(function: Callable[Concatenate[G, P], G]) -> Callable[Concatenate[G, P], G]:
        @functools.wraps(function)
        def run(graph: G, *args: P.args, **kwargs: P.kwargs) -> G:
            return graph if name in _SKIPPED.get() else function(graph, *args, **kwargs)

        return run

    return decorate


@contextmanager
def skipping(*names: str) -> Iterator[None]:
    """Leave passes out of every export inside. Raises `InputError` for an unknown name; a file may come out wrong."""
    for name in names:
        if name not in PASSES:
            raise unknown_name("graph pass", name, PASSES)
    token = _SKIPPED.set(frozenset(names))
    try:
        yield
    finally:
        _SKIPPED.reset(token)
