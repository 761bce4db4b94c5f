"""Our question-answering model as a Deployable: one program, or a vision encoder and a fusion head."""

from typing import TYPE_CHECKING

from edgevl.contracts import Program
from edgevl.inputs.texts import WordPiece
from edgevl.models.deployable import DeployableModel, float_output, picture_input, text_input, value_input
from edgevl.models.merging import merged_branches
from edgevl.specs import ImageProcessing, ProgramSpec

if TYPE_CHECKING:
    from edgevl.checkpoint import LoadedModel


def question_answering(loaded: "LoadedModel") -> DeployableModel:
    """Return the Deployable of a loaded model: `image`, `input_ids` to `logits`."""
    config, codec = loaded.config, WordPiece.of(loaded.tokenizer, loaded.config.text_length)
    image = picture_input("image", config.image_size)
    words = text_input("input_ids", codec.spec)
    visual = float_output("visual", (1, config.grid**2, config.width), "NVD")
    logits = float_output("logits", (1, config.num_answers), "NA")
    keep = {"head": "fp32"}

    def cut(layout: str) -> tuple[Program, ...]:
        model = merged_branches(loaded.model)
        if layout == "single":
            whole = ProgramSpec(name="model", inputs=(image, words), outputs=(logits,))
            return (Program(whole, model, keep=keep),)
        vision = ProgramSpec(name="vision", inputs=(image,), outputs=(visual,))
        taken = value_input("visual", visual, texts=())
        fusion = ProgramSpec(name="fusion", inputs=(taken, words), outputs=(logits,))
        return (
            Program(vision, model.core, "encode_image", "core"),
            Program(fusion, model, "answer", keep=keep),
        )

    return DeployableModel(
        name=config.name,
        task=config.task,
        sha256=loaded.sha256,
        images={"main": ImageProcessing(size=config.image_size)},
        texts={"main": codec},
        decoding={"kind": "classify", "output": "logits", "activation": "softmax"},
        layouts=("single", "split"),
        cut=cut,
        labels=loaded.labels,
    )
