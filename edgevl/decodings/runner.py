"""Pull values through the sources of programs: in batches, and nothing is computed twice.

A runner works over sessions of artifacts, eager modules and graphs that round alike: the float reference, the artifact,
a mixture of precisions and a network in training are the same to it.
"""

import copy
import dataclasses
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from edgevl.bundle.specs import (
    ImageProcessing,
    InputSpec,
    PictureSource,
    ProgramSpec,
    Source,
    StateSource,
    StepSource,
    TextSource,
    TokenSource,
    ValueSource,
)
from edgevl.contracts import Arrays, Query, TextCodec
from edgevl.errors import InputError
from edgevl.inputs.images import to_tensor

REMEMBERED = 256 * 2**20  # bytes of values that are kept for later queries
CHUNK = 64  # queries whose inputs are held at a time


class Runs(Protocol):
    """What a runner needs of a session: a picture goes in as uint8 [B, S, S, 3], whatever the artifact takes.

    It may say `lanes`: how many calls at once are faster than one after another.
    """

    def run(self, feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]: ...


@dataclasses.dataclass(frozen=True)
class Loop:
    """Where a sequence stands: the values that the next step reads."""

    query: Query
    states: Arrays  # name of the source -> its value [...]
    step: int = 0


@dataclasses.dataclass(frozen=True)
class _Call:
    """One call of a program for one query: the arrays of its leaves, the values to pull, and a key of all of it."""

    leaves: dict[str, np.ndarray]
    pulls: dict[str, tuple[str, Query]]  # input -> (value, query)
    key: tuple[Any, ...]


class Runner:
    """Values of queries, by name.

    Programs read `Query` objects through `images` and `texts`. What was computed is remembered by the content of what
    it depends on, so a picture with four questions is encoded once. Threads may share a runner whose sessions may be
    shared.
    """

    def __init__(
        self,
        programs: Sequence[ProgramSpec],
        sessions: Mapping[str, Runs],
        images: Mapping[str, ImageProcessing],
        texts: Mapping[str, TextCodec],
        batches: Mapping[str, int] | None = None,
        remember: int = REMEMBERED,
        fill: bool = True,
    ):
        """Take specs and a session for each program.

        batches: program -> samples of one run, where the session takes another number than the spec says.
        remember: bytes of values to keep; 0 computes everything anew.
        fill: repeat the last row of a run that is not full. Without it sessions must take fewer rows than their batch.
        """
        self.programs = {program.name: program for program in programs}
        self.sessions, self.images, self.texts = dict(sessions), images, texts
        self.batches = {name: program.batch for name, program in self.programs.items()} | dict(batches or {})
        self.calls, self._fill = dict.fromkeys(self.programs, 0), fill  # runs of each session so far
        self._makers = {spec.name: program for program in programs for spec in program.outputs}
        self._memory = _Memory(remember)
        self._held: _Leaves | None = None

    def holding(self) -> "Runner":
        """Return this runner for a few queries about the same picture objects: each is decoded and resized once."""
        other = copy.copy(self)
        other._held = self._leaves()
        return other

    def read(self, query: Query, kind: str) -> dict[str, np.ndarray]:
        """Return what each input of the kind `picture` or `text` takes for a query, by the input's name."""
        leaves = self._leaves()
        specs = [spec for program in self.programs.values() for spec in program.inputs]
        return {spec.name: leaves.read(query, spec.source)[0] for spec in specs if spec.source.kind == kind}

    def _leaves(self) -> "_Leaves":
        return self._held or _Leaves(self.images, self.texts, self._memory.limit > 0)

    # ---- values that need no loop ------------------------------------------------------------------------------------
    def many(
        self, value: str, queries: Sequence[Query], progress: Callable[[int, int], None] | None = None
    ) -> list[np.ndarray]:
        """Return the value, without batch side, for each query. `progress` is called as progress(done, total)."""
        rows: list[np.ndarray] = []
        size = _rounded_up(CHUNK, self.batches[self._maker(value).name])
        for start in range(0, len(queries), size):
            rows += self._pull(value, queries[start : start + size], self._leaves())
        return rows

    def _maker(self, value: str) -> ProgramSpec:
        if value not in self._makers:
            raise InputError(f'no program gives the value "{value}"; there are {", ".join(self._makers)}')
        return self._makers[value]

    def _pull(self, value: str, queries: Sequence[Query], leaves: "_Leaves") -> list[np.ndarray]:
        program = self._maker(value)
        calls = [self._call(program, query, leaves) for query in queries]
        found = {call.key: self._memory.recall(call.key) for call in calls}
        missing = {call.key: call for call in calls if found[call.key] is None}
        if missing:
            outputs = self._run(program, self._feeds(program, list(missing.values()), leaves), len(missing))
            for row, key in enumerate(missing):
                values = {name: array[row] for name, array in outputs.items()}
                self._memory.keep(key, values)
                found[key] = values
        return [found[call.key][value] for call in calls]  # pyright: ignore[reportOptionalSubscript]

    def _call(self, program: ProgramSpec, query: Query, leaves: "_Leaves") -> _Call:
        """Find what a program needs for a query. States, tokens and steps are no part of it: a loop brings them."""
        arrays, pulls, key = {}, {}, []
        for spec in program.inputs:
            source = spec.source
            if isinstance(source, PictureSource | TextSource):
                arrays[spec.name], digest = leaves.read(query, source)
                key.append(digest)
            elif isinstance(source, ValueSource):
                part = _part(query, source)
                pulls[spec.name] = (source.name, part)
                key.append(self._call(self._maker(source.name), part, leaves).key)
        return _Call(arrays, pulls, (program.name, *key))

    def _feeds(self, program: ProgramSpec, calls: Sequence[_Call], leaves: "_Leaves") -> dict[str, np.ndarray]:
        feeds = {}
        for spec in program.inputs:
            if isinstance(spec.source, PictureSource | TextSource):
                feeds[spec.name] = np.stack([call.leaves[spec.name] for call in calls])
            elif isinstance(spec.source, ValueSource):
                pulled = self._pull(spec.source.name, [call.pulls[spec.name][1] for call in calls], leaves)
                feeds[spec.name] = np.stack(pulled)
        return feeds

    def _run(self, program: ProgramSpec, feeds: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
        """Run `count` rows in batches; a last batch that is not full is filled up with its last row, if asked to."""
        batch, session = self.batches[program.name], self.sessions[program.name]

        def part(start: int) -> dict[str, np.ndarray]:
            rows = np.arange(start, start + batch if self._fill else min(start + batch, count)).clip(max=count - 1)
            outputs = session.run({name: array[rows] for name, array in feeds.items()})
            return {name: array[: count - start] for name, array in outputs.items()}

        starts = range(0, count, batch)
        lanes = getattr(session, "lanes", 1)
        if lanes > 1 < len(starts):
            with ThreadPoolExecutor(lanes) as pool:
                parts = list(pool.map(part, starts))
        else:
            parts = [part(start) for start in starts]
        self.calls[program.name] += len(parts)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    # ---- sequences ---------------------------------------------------------------------------------------------------
    def start(self, program: str, query: Query) -> Loop:
        """Return the state before the first step of a program that reads its own outputs."""
        states = {}
        for spec in self.programs[program].inputs:
            if isinstance(spec.source, StateSource):
                states[spec.source.name] = self._first(spec, spec.source, query)
        return Loop(query, states)

    def _first(self, spec: InputSpec, source: StateSource, query: Query) -> np.ndarray:
        return self.many(source.start, [query])[0] if source.start else np.zeros(spec.shape[1:], spec.dtype)

    def step(self, program: str, loops: Sequence[Loop], tokens: Sequence[int]) -> tuple[list[Arrays], list[Loop]]:
        """Run one step of each sequence, after its last token. Returns the outputs and where the sequences stand."""
        spec, leaves = self.programs[program], self._leaves()
        feeds = self._feeds(spec, [self._call(spec, loop.query, leaves) for loop in loops], leaves)
        for each in spec.inputs:
            if isinstance(each.source, StateSource):
                feeds[each.name] = np.stack([loop.states[each.source.name] for loop in loops])
            elif isinstance(each.source, TokenSource | StepSource):
                numbers = tokens if isinstance(each.source, TokenSource) else [loop.step for loop in loops]
                feeds[each.name] = np.array(numbers, each.dtype).reshape(-1, *each.shape[1:])
        outputs = self._run(spec, feeds, len(loops))
        rows: list[Arrays] = [{name: array[row] for name, array in outputs.items()} for row in range(len(loops))]
        carried = {each.source.name for each in spec.inputs if isinstance(each.source, StateSource)}
        after = [
            Loop(loop.query, {name: row[name] for name in carried}, loop.step + 1) for loop, row in zip(loops, rows)
        ]
        return rows, after


class _Memory:
    """Values by the content of what they depend on, the latest `limit` bytes of them."""

    def __init__(self, limit: int):
        self._rows: OrderedDict[Any, Arrays] = OrderedDict()
        self.limit, self._bytes, self._lock = limit, 0, threading.Lock()

    def recall(self, key: Any) -> Arrays | None:
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
            return self._rows.get(key)

    def keep(self, key: Any, row: Arrays) -> None:
        with self._lock:
            if key in self._rows:
                return
            self._rows[key] = row
            self._bytes += _size(row)
            while self._bytes > self.limit:
                self._bytes -= _size(self._rows.popitem(last=False)[1])


class _Leaves:
    """Pictures and texts as arrays with a key of each: its digest, or for as long as this lives its place.

    Within one call a picture is decoded once.
    """

    def __init__(self, images: Mapping[str, ImageProcessing], texts: Mapping[str, TextCodec], by_content: bool):
        self._images, self._texts, self._by_content = images, texts, by_content
        self._found: dict[Any, tuple[np.ndarray, Any]] = {}
        self._held: list[Any] = []  # objects are known by id, so they must live as long as this does

    def read(self, query: Query, source: Source) -> tuple[np.ndarray, Any]:
        if isinstance(source, TextSource):
            text = _item(query.texts, source.index, "text")
            return self._once(("text", source.processing, source.part, text), lambda: self._text(text, source))
        picture = _item(query.pictures, source.index, "picture")  # pyright: ignore[reportAttributeAccessIssue]
        self._held.append(picture)
        processing = self._images[source.processing]  # pyright: ignore[reportAttributeAccessIssue]
        return self._once(
            ("picture", processing, id(picture)), lambda: to_tensor(picture, processing, self._images.values())
        )

    def _text(self, text: str, source: TextSource) -> np.ndarray:
        codec = self._texts[source.processing]
        return codec.encode(text) if source.part == "ids" else codec.mask(text)

    def _once(self, key: Any, make: Callable[[], np.ndarray]) -> tuple[np.ndarray, Any]:
        if key not in self._found:
            array = np.ascontiguousarray(make())
            self._found[key] = array, hashlib.sha256(array.data).digest() if self._by_content else key
        return self._found[key]


def _item(items: Sequence[Any], index: int, what: str) -> Any:
    if index >= len(items):
        raise InputError(f"the model reads {what} number {index + 1} of a query, this one has {len(items)}")
    return items[index]


def _part(query: Query, source: ValueSource) -> Query:
    """The pictures and texts of a query that a value depends on."""
    pictures, texts = source.pictures, source.texts
    return Query(
        query.pictures if pictures is None else tuple(_item(query.pictures, index, "picture") for index in pictures),
        query.texts if texts is None else tuple(_item(query.texts, index, "text") for index in texts),
    )


def _rounded_up(number: int, step: int) -> int:
    return -(-number // step) * step


def _size(row: Arrays) -> int:
    return sum(array.nbytes for array in row.values())
