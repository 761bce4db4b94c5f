"""What a pipeline is to the harness: opened from files, it answers a question about the bytes of a picture.

Two scopes, never mixed: `prepare` + `infer` + `answer` is `pipeline` (encoded bytes and text in, an answer out);
`infer` alone is `model` (decoded, resized pixels and token ids in, logits out).
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgevl.bench.harness import Stopwatch, Subject
from edgevl.bench.schema import Scope

Arrays = Mapping[str, np.ndarray]
SCOPES: tuple[Scope, ...] = ("model", "pipeline")
CANDIDATE = "edgevl"  # the kind of our own bundles; any other kind is an opponent


@dataclasses.dataclass(frozen=True)
class Query:
    """The same picture and the same words for every pipeline."""

    image: bytes  # of a PNG or JPEG file
    question: str


class Pipeline(Protocol):
    name: str
    runtime: str  # who computes what, in words

    @property
    def notes(self) -> list[str]:
        """What a result must say beside its number, after at least one query."""
        ...

    def prepare(self, query: Query, watch: Stopwatch) -> Arrays:
        """Decode, resize and tokenize: what `infer` takes."""
        ...

    def infer(self, inputs: Arrays, watch: Stopwatch) -> np.ndarray:
        """Logits [1, A]. Its stages must cover all of its work."""
        ...

    def answer(self, logits: np.ndarray) -> str: ...


def run_pipeline(pipeline: Pipeline, query: Query, watch: Stopwatch) -> str:
    """One question, from bytes and text to the answer, stage by stage."""
    logits = pipeline.infer(pipeline.prepare(query, watch), watch)
    with watch("answer"):
        return pipeline.answer(logits)


def subjects_of(pipeline: Pipeline, query: Query) -> list[Subject]:
    """The pipeline in each scope, ready for `interleave`."""
    inputs = pipeline.prepare(query, Stopwatch())
    return [
        Subject(pipeline.name, "model", lambda watch: pipeline.infer(inputs, watch)),
        Subject(pipeline.name, "pipeline", lambda watch: run_pipeline(pipeline, query, watch)),
    ]


class EdgePipeline:
    """Our model in its target's runtime. `from_bundle` opens one; the constructor takes the parts."""

    def __init__(
        self, name: str, runtime: str, session: Any, tokenizer: Any, labels: list[str], size: int, length: int
    ):
        self.name, self.runtime = name, runtime
        self.session, self.tokenizer, self.labels = session, tokenizer, labels
        self.size, self.length = size, length

    @property
    def notes(self) -> list[str]:
        return []

    @classmethod
    def from_bundle(cls, folder: Path, threads: int) -> "EdgePipeline":
        from edgevl.bundle import Bundle

        bundle = Bundle.open(folder)
        manifest = bundle.manifest
        return cls(
            f"{manifest.name}-{manifest.target}-{manifest.precision}",
            runtime_name(manifest.target),
            bundle.session(threads),
            bundle.tokenizer(),
            bundle.labels(),
            manifest.preprocessing.size,
            manifest.tokenizer.length,
        )

    def prepare(self, query: Query, watch: Stopwatch) -> Arrays:
        from edgevl.preprocess import load_image, to_pixels

        with watch("decode"):
            picture = load_image(query.image)
        with watch("resize"):
            pixels = to_pixels(picture, self.size)[None]
        with watch("tokenize"):
            words = self.tokenizer.encode(query.question, self.length)[None]
        return {"image": pixels, "input_ids": words}

    def infer(self, inputs: Arrays, watch: Stopwatch) -> np.ndarray:
        with watch("model"):
            return self.session.run(inputs)["logits"]

    def answer(self, logits: np.ndarray) -> str:
        return self.labels[int(logits[0].argmax())]


def runtime_name(target: str) -> str:
    from importlib import metadata

    packages = {"onnx": "onnxruntime", "coreml": "coremltools", "litert": "ai-edge-litert"}
    package = packages.get(target, target)
    return f"{package} {metadata.version(package)}, CPU"
