"""Who our model can be compared with. A new opponent is a builder and an opener, registered under its name.

Each is there in int8, too, under its name with `-int8`: onnxruntime's own static quantization of every file.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from edgevl.bench.pipelines import Pipeline
from edgevl.bench.static_int8 import PRODUCTS
from edgevl.bench.titles import INT8
from edgevl.bundle.folder import Bundle
from edgevl.config import CONFIGS, ModelConfig
from edgevl.errors import unknown_name
from edgevl.inputs.texts import WordPiece
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.regions.answerer import REGION_CONFIGS
from edgevl.regions.model import is_region_model, load_region_model
from edgevl.registry import Registry

GROUPS = {  # a name that stands for several opponents
    "region-heavy": ("region-heavy", "region-heavy-fpn"),
    "region-light": ("region-light-ssd", "region-light-frcnn"),
}


@dataclasses.dataclass(frozen=True)
class Opponent:
    """`build(folder, bundle, pixels)` writes its files; `open(folder, threads)` needs nothing but them."""

    build: Callable[[Path, Bundle, np.ndarray], None]
    open: Callable[[Path, int], Pipeline]
    artifacts: tuple[str, ...]  # files of the folder whose digest names what was measured


OPPONENTS: Registry[Opponent] = Registry("opponent")
DEFAULT = ("region-heavy-fpn",)


def why_incomparable(bundle: Bundle) -> str:
    """Why no opponent does what a model does: they choose an answer to a question about a picture. "" if it does so."""
    model = bundle.opened(run=False)
    if model.reads == (1, 1) and "classify" in model.task.decodings:
        return ""
    return f"the opponents answer a question about a picture, and {model.name} is for {model.task_name}"


def expand(names: Iterable[str]) -> list[str]:
    """Names of opponents and of groups -> names of opponents, each once, in order.

    The folder of a region-feature model that was trained here is a name too. Raises `InputError`.
    """
    found = [member for name in names for member in GROUPS.get(name, (name,))]
    for name in found:
        if name not in OPPONENTS and not is_region_model(Path(name)):
            raise unknown_name("opponent", name, {*OPPONENTS, *GROUPS})
    return list(dict.fromkeys(found))


def find_opponent(name: str) -> Opponent:
    """An opponent by a name that `expand` has seen."""
    return OPPONENTS[name] if name in OPPONENTS else _trained(name)


REGION_FILES = ("trunk.onnx", "boxes.onnx", "fusion.onnx")


def _save_words(folder: Path, tokenizer: Tokenizer, labels: list[str]) -> None:
    tokenizer.save(folder / "tokenizer.json")
    (folder / "labels.json").write_text(json.dumps(labels), encoding="utf-8")


def _words_of(bundle: Bundle) -> tuple[Tokenizer, list[str]]:
    """The words and answers of our model; of one that has none of that kind those of the embedded one."""
    from edgevl.models.checkpoint import load_model

    codecs = [codec for codec in bundle.texts().values() if isinstance(codec, WordPiece)]
    labels, embedded = bundle.labels(), None
    if not codecs or labels is None:
        embedded = load_model(None)
    return codecs[0].tokenizer if codecs else embedded.tokenizer, labels or embedded.labels  # pyright: ignore[reportOptionalMemberAccess]


def fusion_of(bundle: Bundle, words: Tokenizer, labels: list[str]) -> ModelConfig:
    """Return the sizes of our transformer, which an opponent's regions go into: the model's own where it has one."""
    described = bundle.manifest.provenance.model or {}
    if described.keys() == CONFIGS["nano"].to_dict().keys():
        return ModelConfig.from_dict(described)
    lengths = [spec.length for spec in bundle.manifest.text_processing.values()]
    return CONFIGS["nano"].replace(
        text_length=lengths[0] if lengths else CONFIGS["nano"].text_length,
        vocab_size=words.vocab_size,
        num_answers=len(labels),
    )


def _region(name: str) -> Opponent:
    def build(folder: Path, bundle: Bundle, pixels: np.ndarray) -> None:
        from edgevl.regions.export import export_region

        words, labels = _words_of(bundle)
        export_region(folder, REGION_CONFIGS[name], fusion_of(bundle, words, labels), pixels)
        _save_words(folder, words, labels)

    return Opponent(build, _open_region, REGION_FILES)


def _trained(name: str) -> Opponent:
    """A region-feature model that was trained here, by its folder: its own words, answers and weights."""

    def build(folder: Path, bundle: Bundle, pixels: np.ndarray) -> None:
        from edgevl.regions.export import export_trained

        loaded = load_region_model(name)
        export_trained(folder, loaded.model, pixels, name)
        _save_words(folder, loaded.tokenizer, loaded.labels)

    return Opponent(build, _open_region, REGION_FILES)


def _open_region(folder: Path, threads: int) -> Pipeline:
    from edgevl.regions.pipeline import RegionPipeline

    return RegionPipeline(folder, threads)


def _build_vilt(folder: Path, bundle: Bundle, pixels: np.ndarray) -> None:
    from edgevl.bench.vilt_pipeline import export_vilt
    from edgevl.models.vilt import ViltConfig

    words, labels = _words_of(bundle)
    export_vilt(folder, ViltConfig(fusion_of(bundle, words, labels).text_length, len(labels)))
    _save_words(folder, words, labels)


def _open_vilt(folder: Path, threads: int) -> Pipeline:
    from edgevl.bench.vilt_pipeline import ViltPipeline

    return ViltPipeline(folder, threads)


def _build_dfine(folder: Path, bundle: Bundle, pixels: np.ndarray) -> None:
    from edgevl.regions.set_detector import SetConfig, export_set_detector

    words, labels = _words_of(bundle)
    export_set_detector(folder, SetConfig(), fusion_of(bundle, words, labels))
    _save_words(folder, words, labels)


def _open_dfine(folder: Path, threads: int) -> Pipeline:
    from edgevl.regions.pipeline import SetPipeline

    return SetPipeline(folder, threads)


class Int8Pipeline:
    """An opponent whose files were quantized, under a name of its own."""

    def __init__(self, name: str, pipeline: Pipeline):
        self.name, self.runtime, self.pipeline = name, pipeline.runtime, pipeline
        self.prepare, self.infer, self.answer = pipeline.prepare, pipeline.infer, pipeline.answer

    @property
    def notes(self) -> list[str]:
        ranges = "int8 of every file by onnxruntime's own quantizer, ranges of random inputs: only time is claimed"
        return [ranges, *self.pipeline.notes]


def in_int8(name: str, opponent: Opponent, operators: Sequence[str] | None) -> Opponent:
    """Return an opponent whose files are quantized after they were built."""

    def build(folder: Path, bundle: Bundle, pixels: np.ndarray) -> None:
        from edgevl.bench.static_int8 import quantize_untrained

        opponent.build(folder, bundle, pixels)
        for file in opponent.artifacts:
            quantize_untrained(folder / file, operators)

    def open_int8(folder: Path, threads: int) -> Pipeline:
        return Int8Pipeline(name, opponent.open(folder, threads))

    return Opponent(build, open_int8, opponent.artifacts)


def _register(name: str, opponent: Opponent, operators: Sequence[str] | None = None) -> None:
    """`operators`: types that are faster in int8 than all that onnxruntime quantizes by default (None)."""
    OPPONENTS.register(name)(opponent)
    OPPONENTS.register(name + INT8)(in_int8(name + INT8, opponent, operators))


for _name in REGION_CONFIGS:
    _register(_name, _region(_name))
_register("dfine", Opponent(_build_dfine, _open_dfine, ("detector.onnx", "fusion.onnx")))
_register("vilt", Opponent(_build_vilt, _open_vilt, ("vilt.onnx",)), PRODUCTS)
