"""Small models that read their inputs through every processing there is, so that a wrong one changes an answer."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from edgevl.app.conformance.small_models import digest, program
from edgevl.app.conformance.texts import ODD, SCRIPTS, byte_tokenizer
from edgevl.bundle.specs import ImageProcessing, InputSpec, TextSource
from edgevl.contracts import Program, TextCodec
from edgevl.data.scenes.vocabulary import VOCABULARY
from edgevl.inputs.byte_bpe import START, ByteBPE
from edgevl.inputs.texts import WordPiece
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models.deployable import DeployableModel, float_output, picture_input, text_input

LABELS = ("red", "green", "blue", "many", "none")
IMAGES = {
    "main": ImageProcessing(size=32),
    "squash-cubic": ImageProcessing(size=24, kernel="cubic"),
    "edge": ImageProcessing(size=17, geometry="shortest-edge"),
    "edge-cubic": ImageProcessing(size=32, geometry="shortest-edge", kernel="cubic"),
    "crop-cubic": ImageProcessing(size=32, geometry="shortest-edge", kernel="cubic", shortest_edge=41),
    "letterbox": ImageProcessing(size=32, geometry="letterbox"),
    "letterbox-cubic": ImageProcessing(size=23, geometry="letterbox", kernel="cubic"),
    "scaled": ImageProcessing(size=16, decode="scaled"),  # never is, since the others are whole
}


class Reader(nn.Module):
    """Scores [1, 5]: of pictures the means of their rows through a layer, of texts their tokens' rows of a table."""

    def __init__(self, images: Mapping[str, ImageProcessing], texts: Mapping[str, TextCodec]):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(3 * each.size, len(LABELS)) for each in images.values())
        self.tables = nn.ModuleList(nn.Embedding(codec.spec.vocab_size, len(LABELS)) for codec in texts.values())

    def forward(self, *inputs: Tensor) -> Tensor:
        """Take float32 [1, 3, S, S] in 0..255 of each picture, then ids [1, T] and a mask [1, T] of each text."""
        images, texts = inputs[: len(self.heads)], inputs[len(self.heads) :]
        scores = [head((image.mean(2) / 64 - 2).flatten(1)) for head, image in zip(self.heads, images)]
        for table, ids, mask in zip(self.tables, texts[::2], texts[1::2]):
            places = torch.arange(ids.shape[1])[None, :, None]
            scores.append((table(ids) * mask[:, :, None].float() / (1 + 0.3 * places)).sum(1))
        return torch.stack(scores).sum(0)


def reader(
    name: str, seed: int, images: Mapping[str, ImageProcessing], texts: Mapping[str, TextCodec], activation: str
) -> DeployableModel:
    """Return a model that classifies a picture, a text, or both."""
    torch.manual_seed(seed)
    model, logits = Reader(images, texts).eval(), float_output("logits", (1, len(LABELS)), "NA")
    inputs = [picture_input(f"image_{n}", each.size, 0, key) for n, (key, each) in enumerate(images.items())]
    for number, (key, codec) in enumerate(texts.items()):
        inputs += [text_input(f"ids_{number}", codec.spec, 0, key), mask_input(f"mask_{number}", codec, key)]

    def cut(_: str) -> tuple[Program, ...]:
        return (program("model", inputs, (logits,), model),)

    decoding = {"kind": "classify", "output": "logits", "activation": activation}
    return DeployableModel(
        name, "vqa", digest(model), images, texts, decoding, ("single",), cut, LABELS, "Apache-2.0"
    )  # fmt: skip


def mask_input(name: str, codec: TextCodec, processing: str) -> InputSpec:
    source = TextSource(processing=processing, part="mask")
    shape = (1, codec.spec.length)
    return InputSpec(name=name, dtype="int32", shape=shape, layout="NT", range=(0, 1), source=source)


def word_codecs() -> dict[str, TextCodec]:
    """Return WordPiece with few words, and with the words of many scripts."""
    words = Tokenizer.from_words(VOCABULARY)
    scripts = words.extended([*SCRIPTS.values(), *ODD.values()])
    return {"main": WordPiece.of(words, 16), "scripts": WordPiece.of(scripts, 32, "scripts.json")}


def byte_codecs(folder: Path) -> dict[str, TextCodec]:
    """Return byte-level BPE, long, and short with another padding. Their file is put into `folder`."""
    file = folder / "bytes.json"
    byte_tokenizer(file)
    return {"main": ByteBPE.from_file(file, 48), "short": ByteBPE.from_file(file, 8, START)}
