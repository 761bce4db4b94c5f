"""The bundles of the suite: every decoding, layout, batch, tokenizer and geometry, and the embedded model."""

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edgevl.app.conformance import readers, small_models
from edgevl.app.conformance.small_models import MODELS, PICTURES, TEXTS, query_for
from edgevl.bundle_export import Request, export_deployable
from edgevl.contracts import Deployable, Query
from edgevl.export.registry import get_exporter
from edgevl.models.checkpoint import EMBEDDED
from edgevl.models.deployable import DeployableModel
from edgevl.models.kinds import open_deployable
from edgevl.quantize import plan_for


@dataclasses.dataclass(frozen=True)
class Made:
    """A small model with how it is cut, its batch and the queries of its golden cases."""

    model: DeployableModel
    layout: str | None = None
    batch: int = 1
    queries: tuple[Query, ...] = ()


def small_bundles(folder: Path) -> Iterator[tuple[str, Callable[[], Path]]]:
    """Yield (name, what writes it) of each bundle that needs no trained model."""
    for name, make in MADE.items():
        yield name, lambda name=name, make=make: write_made(make(), folder / f"{name}.edgevl")


def nano_bundles(folder: Path) -> Iterator[tuple[str, Callable[[], Path]]]:
    """Yield (name, what writes it) of the embedded model, whole and split, in fp32 and w8a8. It is calibrated once."""
    exporter = get_exporter("onnx")
    model = functools.cache(open_deployable)
    plan = functools.cache(lambda: plan_for(model(), EMBEDDED))
    for precision, plan_of in (("fp32", lambda: None), ("w8a8", plan)):
        options = exporter.check_options(None, precision)
        for layout in ("single", "split"):
            name, request = f"nano-{precision}-{layout}", Request(exporter, precision, layout, 1, options)
            yield (
                name,
                lambda name=name, request=request, plan_of=plan_of: export_deployable(
                    model(), request, folder / f"{name}.edgevl", plan_of=plan_of
                ),
            )


def write_made(made: Made, folder: Path) -> Path:
    queries = made.queries or (query_for(made.model),)
    return small_bundle(made.model, queries, folder, made.layout, made.batch)


def small_bundle(
    model: Deployable, queries: Sequence[Query], folder: Path, layout: str | None = None, batch: int = 1
) -> Path:
    """Write a bundle for onnx whose golden cases are these queries; returns its folder."""
    exporter = get_exporter("onnx")
    request = Request(exporter, "fp32", layout or model.layouts[0], batch, exporter.check_options(None, "fp32"))
    return export_deployable(model, request, folder, data=queries)


def corners() -> DeployableModel:
    model = small_models.grounding()
    return dataclasses.replace(model, name="corners", decoding={**model.decoding, "format": "corners"})


def sure() -> DeployableModel:
    model = small_models.dual_encoder()
    decoding = {**model.decoding, "scale": 2.5, "bias": -1.25, "activation": "sigmoid"}
    return dataclasses.replace(model, name="sure", decoding=decoding)


def stopping() -> DeployableModel:
    """A captioner whose third token ends most sequences: its stop token is one that it writes."""
    model = small_models.prefix_model(asks=False)
    return dataclasses.replace(model, name="stopping", decoding={**model.decoding, "stop": WRITTEN})


def byte_reader() -> DeployableModel:
    with tempfile.TemporaryDirectory() as folder:
        return readers.reader("bytes", 10, {}, readers.byte_codecs(Path(folder)), "softmax")


def asked() -> DeployableModel:
    words = {"main": readers.word_codecs()["main"]}
    return readers.reader("asked", 11, {"main": readers.IMAGES["main"]}, words, "softmax")


TEXT = (Query((), TEXTS),)
WRITTEN = 145  # what the captioner writes third about most pictures of the suite; a test looks that it still does
ALONE = tuple(Query((picture,)) for picture in PICTURES[:2])
MADE: dict[str, Callable[[], Made]] = {
    "geometries": lambda: Made(readers.reader("geometries", 8, readers.IMAGES, {}, "sigmoid"), queries=ALONE),
    "words": lambda: Made(
        readers.reader("words", 9, {}, readers.word_codecs(), "softmax"), queries=(Query((), TEXTS),)
    ),
    "bytes": lambda: Made(byte_reader(), queries=(Query((), TEXTS),)),
    "asked": lambda: Made(asked(), queries=(Query(tuple(PICTURES[:1]), TEXTS),)),
    "classify-pair": lambda: Made(MODELS["statement"](), "single"),
    "classify-pair-split": lambda: Made(MODELS["statement"](), "split"),
    "box": lambda: Made(MODELS["grounding"](), "split"),
    "box-corners": lambda: Made(corners(), "single"),
    "rank": lambda: Made(MODELS["towers"]()),
    "rank-sigmoid": lambda: Made(sure()),
    "rank-batch": lambda: Made(MODELS["towers"](), batch=3),
    "generate": lambda: Made(MODELS["captioner"]()),
    "generate-prefix": lambda: Made(MODELS["answerer"]()),
    "generate-stop": lambda: Made(stopping()),
}
