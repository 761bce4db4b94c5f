"""The waist: what a model, a kind of answer, a task and a data set must offer. Everything else is written against it.

`Deployable`  what can leave as a bundle, whoever made it: programs and where each of their inputs comes from.
`Decoding`    from values to a result: `classify`, `rank`, `generate`, `box`. All that an app implements by name.
`Task`        what results mean: samples of a record, scores with an interval, losses.
`Dataset`     records: pictures and everything that is known of them.

Shapes: B batch, N samples, S side of a picture, T tokens. Arrays of one sample have no batch side.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from edgevl.bundle.specs import ImageProcessing, InputSpec, OutputSpec, ProgramSpec, TextProcessing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgevl.decodings.runner import Runner
    from edgevl.domain.judge import Domain

Arrays = Mapping[str, np.ndarray]
R = TypeVar("R")


# ---- Deployable ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Program:
    """A module ready to capture: `module.method(*inputs)` gives the outputs, in the order of `spec`.

    It is in eval mode, re-parameterized, with static shapes. Batches in `spec` are 1: an export chooses them. A picture
    is float32 [1, 3, S, S] in 0..255 here; the adapter of a target makes it of what the target takes.
    """

    spec: ProgramSpec
    module: "nn.Module"
    method: str = "forward"
    path: str = ""  # of `module` in the whole model, by which weights are found again
    keep: Mapping[str, str] = field(default_factory=dict)  # module -> the least precision that it may have
    unused: tuple[str, ...] = ()  # submodules of `module` that the method does not read

    @property
    def parameters(self) -> int:
        """How many numbers the program has learned."""
        return sum(each.numel() for each in self.weights().values())

    def weights(self) -> "dict[str, nn.Parameter]":
        """Return what the program has learned, by name in the whole model."""
        found = self.module.named_parameters()
        return {self.whole(name): each for name, each in found if self._reads(name)}

    def modules(self) -> "dict[str, nn.Module]":
        """Return the submodules that the program reads, by name in `module`."""
        return {name: each for name, each in self.module.named_modules() if self._reads(name)}

    def whole(self, name: str) -> str:
        """Return the name in the whole model of what is called `name` in `module`."""
        return f"{self.path}.{name}" if self.path else name

    def inside(self, name: str) -> str:
        """Return the name in `module` of what is called `name` in the whole model; "" if it is no part of it."""
        start = f"{self.path}." if self.path else ""
        return name.removeprefix(start) if name.startswith(start) else ""

    def _reads(self, name: str) -> bool:
        return not f"{name}.".startswith(tuple(f"{each}." for each in self.unused))

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return self.spec.inputs

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        return self.spec.outputs


class TextCodec(Protocol):
    """Text to token ids and back, as its `spec` declares."""

    @property
    def spec(self) -> TextProcessing: ...
    def encode(self, text: str) -> np.ndarray:
        """Return int32 ids [T]. Raises `InputError` for a text without a piece, unless the spec allows it."""
        ...

    def mask(self, text: str) -> np.ndarray:
        """Return int32 [T]: 1 for start, pieces and stop, 0 for the padding behind them, whatever id that has."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        ...

    def is_truncated(self, text: str) -> bool:
        """Say if `encode` would lose pieces."""
        ...

    def unknown_words(self, text: str, characters: str | None = None) -> list[str]:
        """Return the words that no piece stands for. `characters`: those that training texts used as words."""
        ...

    def to_text(self) -> str:
        """Return the text of the file that the spec names."""
        ...


class Described(Protocol):
    """What a Deployable and an opened bundle have in common. A Decoding reads no more."""

    @property
    def images(self) -> Mapping[str, ImageProcessing]: ...
    @property
    def texts(self) -> Mapping[str, TextCodec]: ...
    @property
    def labels(self) -> Sequence[str] | None: ...
    @property
    def decoding(self) -> Mapping[str, Any]:
        """Its `kind`, the outputs that it reads, and its numbers."""
        ...


class Deployable(Described, Protocol):
    """What can leave as a bundle."""

    @property
    def name(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def sha256(self) -> str:
        """The digest of the weights."""
        ...

    @property
    def license(self) -> str: ...
    @property
    def provenance(self) -> Mapping[str, Any]: ...
    @property
    def domain(self) -> "Domain | None":
        """What it was trained on, as numbers; None if nobody fitted that."""
        ...

    @property
    def layouts(self) -> Sequence[str]:
        """Names of the ways to cut the model into programs; the first is the default."""
        ...

    def programs(self, layout: str) -> Sequence[Program]: ...


# ---- Query, Answer, Decoding -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Query:
    """Pictures (whatever `edgevl.inputs.preprocess.load_image` takes) and texts that belong together."""

    pictures: tuple[Any, ...] = ()
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer(Generic[R]):
    """The answer to one query."""

    values: Arrays  # what parity and golden cases compare
    result: R
    margins: tuple[float, ...] = ()  # how far each decision in `result` was from another one
    notes: tuple[str, ...] = ()  # what was done to the query, such as truncation


class Decoding(Protocol[R]):
    """From values to a result. `edgevl.decodings` has the kinds."""

    kind: ClassVar[str]
    sequential: ClassVar[bool]  # a decision depends on those before: values are compared along the reference's
    stored: ClassVar[int | None]  # how many of the largest values of each row a golden case holds; None: all
    model: Described

    def __init__(self, model: Described):
        """Raises `InputError` for a field of `model.decoding` that is missing, unknown or does not fit the model."""
        ...

    def problems(self, outputs: Mapping[str, OutputSpec]) -> list[str]:
        """Return a sentence for each output that the decoding reads and that no program gives so."""
        ...

    def apart(self, query: Query) -> list[Query]:
        """Split a query into those that are answered one by one."""
        ...

    def answer(self, values: Arrays) -> Answer[R]:
        """Return what values say. Raises `VerificationFailed` for such as no artifact may give."""
        ...

    def run(
        self, runner: "Runner", queries: Sequence[Query], along: Sequence[Answer[R]] | None = None
    ) -> list[Answer[R]]:
        """Answer queries. `along`: decide as these answers did at every step, so that values can be compared."""
        ...

    def same(self, own: Answer[R], reference: Answer[R], tolerance: Mapping[str, float]) -> bool:
        """Say if the results are equal, up to the first decision that was closer than twice the tolerance."""
        ...

    def agreement(self, own: Sequence[Answer[R]], reference: Sequence[Answer[R]]) -> float:
        """Return the share of equal decisions, 0 to 1."""
        ...

    def divergence(self, own: "Mapping[str, Tensor]", reference: "Mapping[str, Tensor]") -> "Tensor":
        """Return how far batched values are apart: 0 for equal ones; differentiable.

        It orders modules by sensitivity, and is the loss of distillation.
        """
        ...

    def words(self, answer: Answer[R]) -> list[str]:
        """Return the result in words, one text for each decision. Raises `InputError` where it has none (boxes)."""
        ...

    def to_json(self, answer: Answer[R], query: Query, top: int = 5) -> list[dict[str, Any]]:
        """Return what `edgevl predict --json` prints: an object for each text of the query, or for each picture."""
        ...


# ---- Dataset and Task ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Record:
    """All that a data set knows of a picture, or of pictures that belong together. What it does not know is None."""

    key: str
    pictures: tuple[Any, ...]
    questions: Sequence[Any] | None = None  # with text, answer and kind
    captions: Sequence[str] | None = None
    statements: Sequence[Any] | None = None  # with text and label
    phrases: Sequence[Any] | None = None  # with text and box
    objects: Sequence[Any] | None = None  # boxes, classes, attributes, masks


class Dataset(Protocol):
    """Records by number: finite with a length, or endless."""

    @property
    def name(self) -> str:
        """As `open_dataset` took it. Reports quote it, so that none can say Scenes of something else."""
        ...

    @property
    def about(self) -> str:
        """The kind of its pictures in a few words, for a warning that a picture is of another kind."""
        ...

    @property
    def finite(self) -> bool: ...
    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Task -> the answers that a classifier of this data chooses from."""
        ...

    def __len__(self) -> int:
        """Return the number of records; of an endless data set 2**31 - 1."""
        ...

    def __getitem__(self, index: int) -> Record: ...
    def texts(self) -> Iterator[str]:
        """Yield the texts that a vocabulary is made from."""
        ...


@dataclass(frozen=True)
class Sample:
    """A query with what is right."""

    query: Query
    target: Any
    kind: str = "all"  # a report breaks accuracy down by it
    group: str = ""  # samples of one group are not independent: intervals are made over groups


@dataclass(frozen=True)
class Metric:
    """A measured quality of a set of answers."""

    name: str
    value: float
    ci95: tuple[float, float]
    samples: int
    per_kind: Mapping[str, tuple[float, int]] = field(default_factory=dict)  # kind -> (value, samples)


class Task(Protocol):
    """What results mean against targets. The first metric is the one that budgets and verdicts are in."""

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]]
    decodings: ClassVar[tuple[str, ...]]  # kinds that can answer it

    def samples(self, record: Record, count: int | None = None) -> list[Sample]:
        """Return at most `count` samples of a record; none if it does not know what the task needs."""
        ...

    def score(self, answers: Sequence[Answer[Any]], samples: Sequence[Sample], decoding: Decoding[Any]) -> list[Metric]:
        """Return the metrics of answers to all samples."""
        ...

    def losses(self, values: "Mapping[str, Tensor]", batch: "Mapping[str, Tensor]") -> "Mapping[str, Tensor]":
        """Return named losses of batched values in training."""
        ...
