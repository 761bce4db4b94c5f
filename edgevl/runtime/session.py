"""A session runs one artifact: a dict of arrays in, a dict of arrays out, the same dict for every target.

`image` uint8 [B, S, S, 3] (RGB) and `input_ids` int32 [B, T] go in, `logits` float32 [B, A] come out. B is fixed in the
artifact, most often 1.
"""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from edgevl.errors import EdgeVLError, InputError
from edgevl.guard import Call
from edgevl.targets import TARGETS

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype (as NumPy names it) and static shape of one input or output."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {list(self.shape)}"


class CannotRunHere(EdgeVLError):
    """The runtime of this target does not exist on this machine, whatever is installed. The message says what would."""


@runtime_checkable
class Session(Protocol):
    """What every runtime offers."""

    @property
    def runtime(self) -> str:
        """What runs the artifact, in words: "ONNX Runtime (CPU)"."""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Name, dtype and shape of each array that `run` takes."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Name, dtype and shape of each array that `run` returns."""
        ...

    @property
    def thread_safe(self) -> bool:
        """May several threads be inside the runtime at once?

        Every session may be shared between threads. Where this is False their calls take turns, so that more threads
        bring no more speed: open a session for each.
        """
        ...

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        """Run once. Raises `InputError` for a missing or extra name, a wrong dtype or a wrong shape."""
        ...


class ArtifactSession:
    """What the sessions of this package share: `run` checks the arrays and lets one thread in where more may not be.

    A subclass sets `inputs` and `outputs` and computes in `_run`; it is not thread-safe unless it says so.
    """

    thread_safe = False
    lanes = 1  # calls that are worth making at once, in threads: one where a call uses all cores itself
    call = Call("running an artifact")  # what a watcher is told while a run lasts
    public: Callable[[str], str] = staticmethod(str)  # what a message says instead of the path of a private copy
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __init__(self, turn: AbstractContextManager[Any] | None = None):
        """turn: a lock that other sessions share, where a runtime has but one state for all of them."""
        self._turn = turn or (contextlib.nullcontext() if self.thread_safe else threading.Lock())

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        check_feeds(self.inputs, feeds)
        try:
            with self._turn, self.call:
                return self._run(feeds)
        except EdgeVLError as error:
            error.args = tuple(self.public(str(argument)) for argument in error.args)
            raise

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        """Run arrays that were checked."""
        raise NotImplementedError


def open_session(path: str | Path, target: str, threads: int | None = None) -> Session:
    """Load an artifact and return a session ready to run.

    Args:
        path: the artifact: `model.onnx`, `model.mlpackage`, …
        target: of `edgevl export`.
        threads: CPU threads inside one operator; `None` leaves the runtime's default.
    Raises:
        InputError: an unknown target, a path that does not exist, or fewer than 1 thread.
        EdgeVLError: a file that the runtime cannot load (corrupted, truncated, of another kind).
        MissingDependency: the runtime is not installed.
        CannotRunHere: no installation would help on this machine.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads {threads} is not a positive number")
    record, path = TARGETS[target], Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; write it with: edgevl export --target {target}")
    with Call.on("loading", path, record.patience):
        session: Session = record.load("session")(path, threads)
    if isinstance(session, ArtifactSession):
        session.call = Call.on("running", path)
    return session


def batch_size(session: Session) -> int:
    """B: how many samples one run of the session takes."""
    return session.inputs[0].shape[0]


def run_one(session: Session, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """Run one sample ([1, ...] arrays) whatever the batch of the session is: it is repeated, and the first row kept."""
    batch = batch_size(session)
    if batch == 1:
        return session.run(feeds)
    repeated = {name: np.repeat(array, batch, axis=0) for name, array in feeds.items()}
    return {name: array[:1] for name, array in session.run(repeated).items()}


def check_feeds(specs: Sequence[TensorSpec], feeds: Mapping[str, np.ndarray]) -> None:
    """Raise `InputError`, naming what is expected, unless `feeds` holds exactly the arrays that `specs` describe."""
    expected = "; expected " + ", ".join(map(str, specs))
    for spec in specs:
        if spec.name not in feeds:
            raise InputError(f'input "{spec.name}" is missing{expected}')
        problem = _mismatch(spec, feeds[spec.name])
        if problem:
            raise InputError(f'input "{spec.name}" {problem}{expected}')
    extra = sorted(set(feeds) - {spec.name for spec in specs})
    if extra:
        raise InputError(f'unknown input "{extra[0]}"{expected}')


def _mismatch(spec: TensorSpec, array: object) -> str | None:
    if not isinstance(array, np.ndarray):
        return f"is a {type(array).__name__}, not a NumPy array"
    if array.dtype != np.dtype(spec.dtype):
        return f"has dtype {array.dtype}"
    if array.shape != spec.shape:
        return f"has shape {list(array.shape)}"
    return None
