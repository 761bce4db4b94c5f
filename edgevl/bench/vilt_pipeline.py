"""ViLT as it is timed: one ONNX file, from pixels and words to logits, asked like our own model."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgevl.bench.pipelines import EdgePipeline, runtime_name
from edgevl.bundle.specs import ProgramSpec
from edgevl.models.deployable import float_output, picture_input, text_input
from edgevl.models.vilt import ViltConfig, build_vilt
from edgevl.regions.pipeline import UNTRAINED

if TYPE_CHECKING:
    from edgevl.contracts import TextCodec


def export_vilt(folder: Path, config: ViltConfig) -> Path:
    """Write `vilt.onnx` and `vilt.json` to `folder` (must exist). Returns `folder`."""
    import torch

    from edgevl.regions.export import export_onnx

    side = config.image_size
    inputs = (
        torch.zeros(1, side, side, 3, dtype=torch.uint8),
        torch.ones(1, config.text_length, dtype=torch.int32),
    )
    export_onnx(build_vilt(config), inputs, folder / "vilt.onnx", ["image", "input_ids"], ["logits"])
    (folder / "vilt.json").write_text(json.dumps(dataclasses.asdict(config), indent=1), encoding="utf-8")
    return folder


def vilt_program(config: ViltConfig, words: "TextCodec", answers: int) -> ProgramSpec:
    """Return what the file takes and gives."""
    inputs = picture_input("image", config.image_size), text_input("input_ids", words.spec)
    return ProgramSpec(name="vilt", inputs=inputs, outputs=(float_output("logits", (1, answers), "NA"),))


class ViltPipeline(EdgePipeline):
    """Our own pipeline around another file. `folder` also holds the tokenizer and the labels."""

    def __init__(self, folder: Path, threads: int):
        from edgevl.bundle.specs import ImageProcessing
        from edgevl.decodings.runner import Runner
        from edgevl.inputs.texts import WordPiece
        from edgevl.inputs.tokenizer import Tokenizer
        from edgevl.opened import Opened
        from edgevl.runtime.onnx_session import OnnxSession

        config = ViltConfig(**json.loads((folder / "vilt.json").read_text(encoding="utf-8")))
        self.tokens = (config.image_size // config.patch) ** 2
        labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        words = WordPiece.of(Tokenizer.from_file(folder / "tokenizer.json"), config.text_length)
        program, session = vilt_program(config, words, len(labels)), OnnxSession(folder / "vilt.onnx", threads)
        images, texts = {"main": ImageProcessing(size=config.image_size, decode="scaled")}, {"main": words}
        runner = Runner([program], {program.name: session}, images, texts, remember=0)
        decoding = {"kind": "classify", "output": "logits"}
        model = Opened("vilt", "vqa", images, texts, labels, decoding, (program,), runner)
        super().__init__("vilt", runtime_name("onnx"), model)

    @property
    def notes(self) -> list[str]:
        return [
            UNTRAINED,
            f"{self.tokens} patches of a square picture; the published code keeps the aspect ratio, which makes 240 of "
            "a 3:5 picture",
        ]
