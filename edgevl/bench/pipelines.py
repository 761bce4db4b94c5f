"""What a pipeline is to the harness: opened from files, it answers a question about the bytes of a picture.

Scopes, never mixed: `prepare` + `infer` + `answer` is `pipeline` (encoded bytes and text in, an answer out), and of a
camera's frame in memory instead of a file `frame`; `infer` alone is `model` (decoded, resized pixels and token ids in,
values out).
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgevl import contracts
from edgevl.bench.harness import Stopwatch, Subject
from edgevl.bench.schema import Scope
from edgevl.decodings.runner import Runner
from edgevl.errors import InputError
from edgevl.opened import Opened
from edgevl.pictures import Frame, Resized
from edgevl.targets import TARGETS

if TYPE_CHECKING:
    from PIL import Image

Arrays = Mapping[str, np.ndarray]
SCOPES: tuple[Scope, ...] = ("model", "pipeline")  # of every model; `frame` is that of one that reads a picture
CANDIDATE = "edgevl"  # the kind of our own bundles; any other kind is an opponent


@dataclasses.dataclass(frozen=True)
class Query:
    """The same picture and the same words for every pipeline."""

    image: bytes | Frame  # of a PNG or JPEG file, or a camera's frame in memory
    question: str

    def picture(self, watch: Stopwatch, resized: Resized | None = None) -> "Image.Image":
        """Decode the file (stage `decode`, see `load_image`) or convert the frame (stage `convert`) to RGB."""
        from edgevl.inputs.preprocess import load_image

        if isinstance(self.image, Frame):
            with watch("convert"):
                return self.image.picture()
        with watch("decode"):
            return load_image(self.image, resized)


class Pipeline(Protocol):
    name: str
    runtime: str  # who computes what, in words

    @property
    def notes(self) -> list[str]:
        """What a result must say beside its number, after at least one query."""
        ...

    def prepare(self, query: Query, watch: Stopwatch) -> Any:
        """Decode, resize and tokenize: what `infer` takes."""
        ...

    def infer(self, inputs: Any, watch: Stopwatch) -> Any:
        """Run the model: what `answer` takes. Its stages must cover all of its work."""
        ...

    def answer(self, logits: Any) -> str:
        """Return the answer in words."""
        ...


def run_pipeline(pipeline: Pipeline, query: Query, watch: Stopwatch) -> str:
    """One question, from bytes and text to the answer, stage by stage."""
    logits = pipeline.infer(pipeline.prepare(query, watch), watch)
    with watch("answer"):
        return pipeline.answer(logits)


def subjects_of(pipeline: Pipeline, query: Query, frame: Frame | None = None) -> list[Subject]:
    """The pipeline in each scope, ready for `interleave`; in the scope `frame` where there is one."""
    inputs = pipeline.prepare(query, Stopwatch())
    subjects = [
        Subject(pipeline.name, "model", lambda watch: pipeline.infer(inputs, watch)),
        Subject(pipeline.name, "pipeline", lambda watch: run_pipeline(pipeline, query, watch)),
    ]
    if frame:
        seen, what = dataclasses.replace(query, image=frame), f"{frame.width} x {frame.height} {frame.kind.upper()}"
        subjects.append(Subject(pipeline.name, "frame", lambda watch: run_pipeline(pipeline, seen, watch), what))
    return subjects


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A query whose pictures and texts are arrays, and the runner that holds them."""

    runner: Runner
    query: contracts.Query
    arrays: Arrays  # by the names of inputs


class EdgePipeline:
    """Our model in its target's runtime, asked with what it reads of a picture and a text."""

    def __init__(self, name: str, runtime: str, model: Opened):
        self.name, self.runtime, self.model = name, runtime, model

    @property
    def notes(self) -> list[str]:
        return []

    @classmethod
    def from_bundle(cls, folder: Path, threads: int) -> "EdgePipeline":
        from edgevl.bundle.folder import Bundle

        bundle = Bundle.open(folder)
        manifest = bundle.manifest
        name = f"{manifest.name}-{manifest.target}-{manifest.precision}"
        return cls(name, runtime_name(manifest.target), bundle.opened(threads, remember=0))

    def prepare(self, query: Query, watch: Stopwatch) -> Prepared:
        assert self.model.runner, "a pipeline is opened to run"
        runner, (pictures, texts) = self.model.runner.holding(), self.model.reads
        # Each picture is an object of its own: the runner computes nothing twice, and an app has two pictures.
        asked = contracts.Query(
            tuple(query.picture(watch, self.model.resized) for _ in range(pictures)), (query.question,) * texts
        )
        arrays: dict[str, np.ndarray] = {}
        for stage, kind, count in (("resize", "picture", pictures), ("tokenize", "text", texts)):
            if count:
                with watch(stage):
                    arrays |= runner.read(asked, kind)
        return Prepared(runner, asked, {name: array[None] for name, array in arrays.items()})

    def infer(self, inputs: Prepared, watch: Stopwatch) -> contracts.Answer[Any]:
        with watch("model"):
            return self.model.decoder.run(inputs.runner, [inputs.query])[0]

    def answer(self, logits: contracts.Answer[Any]) -> str:
        """Return the answer in words; where it has none, as a box, the numbers themselves."""
        try:
            return ", ".join(self.model.decoder.words(logits))
        except InputError:
            return ", ".join(map(str, logits.result))


def runtime_name(target: str) -> str:
    from importlib import metadata

    runtime = TARGETS[target].runs_with
    return f"{runtime[0].name} {metadata.version(runtime[0].name)}, CPU" if runtime else f"{target}, CPU"
