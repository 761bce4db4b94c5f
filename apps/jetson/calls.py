"""Which programs a query calls, in which order and with what: from the sources of a manifest's inputs alone.

A `Plan` depends on how many pictures and texts a query has, not on which. What two calls have in common is computed
once: a picture with four questions is encoded once, a program that reads two pictures is called twice. Python 3.8, the
standard library only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Union

from problems import BAD_INPUT, REFUSED, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CALLS = 4096  # of a query, and of the parts of it that values depend on
STEPPING = ("state", "token", "step")  # kinds of source of a program that is run once for a token


class Leaf(NamedTuple):
    """A picture or a text of the query, through a processing."""

    kind: str  # "picture" or "text"
    processing: str
    part: str  # "pixels", "ids" or "mask"
    index: int


class Value(NamedTuple):
    """An output of a call, by the number of the call."""

    call: int
    name: str


class State(NamedTuple):
    """An output of the step before; in the first step a value, or zeros."""

    name: str
    start: Value | None


class Number(NamedTuple):
    """The last token, or the number of the step."""

    kind: str


Origin = Union[Leaf, Value, State, Number]


class Call(NamedTuple):
    """One call of a program: (name of the input, where it comes from) of each input, in order."""

    program: dict[str, Any]
    inputs: tuple[tuple[str, Origin], ...]

    def specs(self) -> list[tuple[dict[str, Any], Origin]]:
        """Return (spec of the input in the manifest, where it comes from) of each input."""
        return [(spec, origin) for spec, (_, origin) in zip(self.program["inputs"], self.inputs)]


class Loop(NamedTuple):
    """A call that is repeated, once for each token, until the stop token or for so many steps."""

    call: Call
    output: str  # whose largest score is the next token
    start: int
    stop: int
    steps: int


class Plan:
    """The calls for a query with so many pictures and texts. `rows` of an output are what the decoding reads of it."""

    def __init__(self, programs: Sequence[dict[str, Any]], pictures: int, texts: int):
        self._programs = {program["name"]: program for program in programs}
        self._makers = {spec["name"]: program for program in programs for spec in program["outputs"]}
        self.pictures, self.texts = tuple(range(pictures)), tuple(range(texts))
        self.calls: list[Call] = []
        self.rows: dict[str, list[Value]] = {}
        self.loop: Loop | None = None
        self._numbers: dict[Any, int] = {}  # of calls
        self._known: dict[Any, Value] = {}

    def read(self, output: str, pictures: Sequence[int], texts: Sequence[int]) -> None:
        """Plan a row of an output, for these pictures and texts of the query.

        Raises `Problem` (2) where the model reads more pictures or texts than there are, and (4) for sources that have
        no end.
        """
        self.rows.setdefault(output, []).append(self._value(output, tuple(pictures), tuple(texts)))

    def repeat(self, program: str, output: str, start: int, stop: int, steps: int) -> None:
        """Plan a sequence of tokens, for all pictures and texts of the query. Raises as `read` does."""
        call = self._call(self._programs[program], self.pictures, self.texts)
        self.loop = Loop(call, output, start, stop, steps)

    @property
    def outputs(self) -> list[str]:
        """Names of the values that the decoding reads."""
        return [self.loop.output] if self.loop else list(self.rows)

    def leaves(self, kind: str) -> list[Leaf]:
        """Return what is read of the query of one kind, each once."""
        calls = [*self.calls, *([self.loop.call] if self.loop else [])]
        found = (origin for call in calls for _, origin in call.inputs if isinstance(origin, Leaf))
        return list(dict.fromkeys(leaf for leaf in found if leaf.kind == kind))

    def _value(self, name: str, pictures: tuple[int, ...], texts: tuple[int, ...]) -> Value:
        key = (name, pictures, texts)
        if key not in self._known:
            if len(self._known) >= MAX_CALLS:
                raise Problem(REFUSED, f"the sources of the programs make more than {MAX_CALLS} calls for one query")
            program = self._makers[name]
            if any(spec["from"]["kind"] in STEPPING for spec in program["inputs"]):
                raise Problem(REFUSED, f"the value {name} is read outside of the loop that gives it")
            call = self._call(program, pictures, texts)
            number = self._numbers.setdefault((program["name"], call.inputs), len(self.calls))
            if number == len(self.calls):
                self.calls.append(call)
            self._known[key] = Value(number, name)
        return self._known[key]

    def _call(self, program: dict[str, Any], pictures: tuple[int, ...], texts: tuple[int, ...]) -> Call:
        origins = [(spec["name"], self._origin(spec["from"], pictures, texts)) for spec in program["inputs"]]
        return Call(program, tuple(origins))

    def _origin(self, source: dict[str, Any], pictures: tuple[int, ...], texts: tuple[int, ...]) -> Origin:
        kind = source["kind"]
        if kind == "picture":
            index = _chosen(pictures, [source.get("index", 0)], kind)[0]
            return Leaf(kind, source.get("processing", "main"), "pixels", index)
        if kind == "text":
            index = _chosen(texts, [source.get("index", 0)], kind)[0]
            return Leaf(kind, source.get("processing", "main"), source.get("part", "ids"), index)
        if kind == "value":
            part = _chosen(pictures, source.get("pictures"), "picture"), _chosen(texts, source.get("texts"), "text")
            return self._value(source["name"], *part)
        if kind == "state":
            start = source.get("start")
            return State(source["name"], self._value(start, pictures, texts) if start else None)
        return Number(kind)


def _chosen(items: tuple[int, ...], wanted: Sequence[int] | None, what: str) -> tuple[int, ...]:
    """Those of the pictures or texts that a source names; None means all."""
    for index in wanted or ():
        if index >= len(items):
            raise Problem(BAD_INPUT, f"the model reads {what} {index + 1} of a query, this one has {len(items)}")
    return items if wanted is None else tuple(items[index] for index in wanted)
