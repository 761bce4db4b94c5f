"""Our question-answering model as a Deployable: one program, or a vision encoder and a fusion head.

Shapes: S image side, T text tokens, V visual tokens, D width, A answers.
"""

import functools
from typing import TYPE_CHECKING

from torch.export import ExportedProgram

from edgevl.bundle.specs import ImageProcessing, InputSpec, ProgramSpec, TextSource
from edgevl.contracts import Program
from edgevl.errors import unknown_name
from edgevl.inputs.texts import WordPiece
from edgevl.models.capture import capture
from edgevl.models.deployable import DeployableModel, float_output, picture_input, value_input
from edgevl.models.merging import deployed

if TYPE_CHECKING:
    from edgevl.models.checkpoint import LoadedModel
    from edgevl.models.vqa import VqaModel

LAYOUTS = {"single": ("model",), "split": ("vision", "fusion")}
# 0.01 % of the multiply-adds of nano. In int8 it makes half of what targets answer differently (docs/quantize.md).
KEEP = {"head": "fp32"}


def answering_programs(model: "VqaModel", layout: str = "single", vocab_size: int | None = None) -> tuple[Program, ...]:
    """Return the programs of a layout.

    `model` takes (`image`, `input_ids`) to `logits`; `vision` takes `image` to `visual`, and `fusion` takes (`visual`,
    `input_ids`) to `logits`. `vocab_size` is the tokenizer's, where that is less than the model's.

    Raises `InputError` for an unknown layout.
    """
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    config, model = model.config, deployed(model)
    image = picture_input("image", config.image_size)
    words = InputSpec(
        name="input_ids",
        dtype="int32",
        shape=(1, config.text_length),
        layout="NT",
        range=(0, (vocab_size or config.vocab_size) - 1),
        source=TextSource(),
    )
    visual = float_output("visual", (1, config.grid**2, config.width), "NVD")
    logits = float_output("logits", (1, config.num_answers), "NA")
    if layout == "single":
        return (Program(ProgramSpec(name="model", inputs=(image, words), outputs=(logits,)), model, keep=KEEP),)
    taken = value_input("visual", visual, texts=())
    vision = ProgramSpec(name="vision", inputs=(image,), outputs=(visual,))
    fusion = ProgramSpec(name="fusion", inputs=(taken, words), outputs=(logits,))
    words_only = tuple(name for name, _ in model.core.named_children() if name != "vision")
    return (
        Program(vision, model.core, "encode_image", "core", unused=words_only),
        Program(fusion, model, "answer", keep=KEEP, unused=("core.vision",)),
    )


def answering_program(model: "VqaModel", name: str = "model") -> Program:
    """Return the program `model`, `vision` or `fusion`. Raises `InputError` for another name."""
    layout = next((layout for layout, names in LAYOUTS.items() if name in names), None)
    if layout is None:
        raise unknown_name("program of the model", name, [name for names in LAYOUTS.values() for name in names])
    return answering_programs(model, layout)[LAYOUTS[layout].index(name)]


def export_program(model: "VqaModel", adapter: str = "raw", batch: int = 1, part: str = "model") -> ExportedProgram:
    """Capture the program `part` of a model: see `answering_programs` and `edgevl.models.capture.capture`."""
    return capture(answering_program(model, part), adapter, batch)


def question_answering(loaded: "LoadedModel") -> DeployableModel:
    """Return the Deployable of a loaded model."""
    config = loaded.config
    return DeployableModel(
        name=config.name,
        task=config.task,
        sha256=loaded.sha256,
        images={"main": ImageProcessing(size=config.image_size)},
        texts={"main": WordPiece.of(loaded.tokenizer, config.text_length)},
        decoding={"kind": "classify", "output": "logits", "activation": "softmax"},
        layouts=tuple(LAYOUTS),
        cut=functools.cache(lambda layout: answering_programs(loaded.model, layout, loaded.tokenizer.vocab_size)),
        labels=loaded.labels,
    )
