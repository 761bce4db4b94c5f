"""A model that is ready to answer: an opened bundle, or a Deployable that PyTorch runs as it is."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevl.bundle.specs import ImageProcessing, PictureSource, ProgramSpec, TextSource, ValueSource
from edgevl.contracts import Answer, Decoding, Deployable, Query, TextCodec
from edgevl.decodings import decoding_of
from edgevl.decodings.runner import Runner
from edgevl.inputs.images import scale_of
from edgevl.pictures import Resized
from edgevl.tasks import task_named

if TYPE_CHECKING:
    from edgevl.contracts import Task
    from edgevl.domain.judge import Domain


@dataclass(frozen=True)
class Description:
    """See `edgevl.contracts.Described`."""

    images: Mapping[str, ImageProcessing]
    texts: Mapping[str, TextCodec]
    labels: Sequence[str] | None
    decoding: Mapping[str, Any]


@dataclass(frozen=True)
class Opened:
    """See `edgevl.contracts.Described`. `runner` is None where this machine cannot run the programs."""

    name: str
    task_name: str
    images: Mapping[str, ImageProcessing]
    texts: Mapping[str, TextCodec]
    labels: Sequence[str] | None
    decoding: Mapping[str, Any]
    programs: tuple[ProgramSpec, ...]
    runner: Runner | None = None
    domain: "Domain | None" = None
    runtime: str = ""  # what runs it, in words

    @functools.cached_property
    def decoder(self) -> Decoding[Any]:
        """Raises `InputError` for a decoding that is unknown or does not fit."""
        # Not of `self`: in a circle sessions would end when garbage is collected, which may be in another process.
        return decoding_of(Description(self.images, self.texts, self.labels, self.decoding))

    @functools.cached_property
    def task(self) -> "Task":
        """Raises `InputError` for an unknown one."""
        return task_named(self.task_name)

    def problems(self) -> list[str]:
        """Return sentences that say where decoding, task and programs do not fit together."""
        outputs = {spec.name: spec for program in self.programs for spec in program.outputs}
        problems = self.decoder.problems(outputs)
        if self.decoder.kind not in self.task.decodings:
            known = ", ".join(self.task.decodings)
            problems.append(f"the task {self.task_name} is answered by {known}, not by {self.decoder.kind}")
        return problems

    def answer(self, queries: Sequence[Query], along: Sequence[Answer[Any]] | None = None) -> list[Answer[Any]]:
        """Answer queries. See `edgevl.contracts.Decoding.run`."""
        assert self.runner, "this model was opened to be looked at"
        return self.decoder.run(self.runner, queries, along)

    @property
    def sight(self) -> ImageProcessing | None:
        """The image processing of the first input that is a picture: a domain is about its pixels."""
        sources = (spec.source for program in self.programs for spec in program.inputs)
        names = (source.processing for source in sources if isinstance(source, PictureSource))
        name = next(names, None)
        return self.images[name] if name else None

    @property
    def resized(self) -> Resized | None:
        """How `load_image` may decode a JPEG for all image processings together; None if whole."""
        return scale_of(self.images.values())

    @property
    def reads(self) -> tuple[int, int]:
        """How many pictures and how many texts of a query the programs read at least."""
        pictures, texts = [-1], [-1]  # indices
        for source in (spec.source for program in self.programs for spec in program.inputs):
            if isinstance(source, PictureSource):
                pictures.append(source.index)
            elif isinstance(source, TextSource):
                texts.append(source.index)
            elif isinstance(source, ValueSource):
                pictures += source.pictures or ()
                texts += source.texts or ()
        return max(pictures) + 1, max(texts) + 1


def opened(model: Deployable, runner: Runner, runtime: str = "") -> Opened:
    """Open a Deployable over a runner of its programs."""
    return Opened(
        name=model.name,
        task_name=model.task,
        images=model.images,
        texts=model.texts,
        labels=model.labels,
        decoding=model.decoding,
        programs=tuple(runner.programs.values()),
        runner=runner,
        domain=model.domain,
        runtime=runtime,
    )


def eager(model: Deployable, threads: int | None = None, fill: bool = True) -> Opened:
    """Open a Deployable with PyTorch, in float: the reference of every artifact. `fill`: see `eager_runner`."""
    from edgevl.runtime.eager_session import EagerSession, eager_runner

    return opened(model, eager_runner(model, threads=threads, fill=fill), EagerSession.runtime)


def over_artifacts(model: Deployable, paths: Mapping[str, Path], target: str, threads: int | None = None) -> Opened:
    """Open a model over artifacts that no bundle holds: `paths` has one for each program of the first layout.

    Nothing is remembered, so that a query costs what it costs. Raises as `edgevl.runtime.session.open_session` does.
    """
    from edgevl.runtime.session import open_session

    specs = [program.spec for program in model.programs(model.layouts[0])]
    sessions = {name: open_session(path, target, threads) for name, path in paths.items()}
    return opened(model, Runner(specs, sessions, model.images, model.texts, remember=0))
