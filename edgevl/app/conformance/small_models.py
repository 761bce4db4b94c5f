"""Small models with random weights of every kind that the waist must carry: no task of ours is among their names.

Each is a Deployable: statements about two pictures, boxes, a dual encoder, captions with cross-attention, captions and
answers by a prefix in the cache. Shapes: B batch, S side, V visual tokens, T tokens, L length of a cache, D width.
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edgevl.bundle.specs import (
    ImageProcessing,
    InputSpec,
    OutputSpec,
    ProgramSpec,
    Source,
    StateSource,
    StepSource,
    TokenSource,
)
from edgevl.config import ModelConfig
from edgevl.contracts import Program, Query
from edgevl.data.scenes.vocabulary import VOCABULARY
from edgevl.inputs.texts import WordPiece
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models.core import VisionLanguageCore
from edgevl.models.deployable import DeployableModel, float_output, picture_input, text_input, value_input
from edgevl.models.fusion import MASKED

SIZE, WIDTH, DEPTH = 32, 32, 2
VISUAL = (SIZE // 16) ** 2
CONFIG = ModelConfig(
    name="small", backbone="test_resnet", image_size=SIZE, text_length=16, width=WIDTH, depth=1, heads=2
)  # fmt: skip
LABELS = {"statement": ["false", "true"]}


def codec(length: int) -> WordPiece:
    return WordPiece.of(Tokenizer.from_words(VOCABULARY), length)


def program(
    name: str,
    inputs: Sequence[InputSpec],
    outputs: Sequence[OutputSpec],
    module: nn.Module,
    method: str = "forward",
    path: str = "",
) -> Program:
    return Program(ProgramSpec(name=name, inputs=tuple(inputs), outputs=tuple(outputs)), module.eval(), method, path)


def digest(model: nn.Module) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


# ---- classify and box: on the project's own core ---------------------------------------------------------------------
class PairJudge(nn.Module):
    """A statement about two pictures."""

    def __init__(self):
        super().__init__()
        self.core, self.head = VisionLanguageCore(CONFIG), nn.Linear(WIDTH, 2)
        self.which = nn.Parameter(torch.randn(2, 1, 1, WIDTH))

    def judge(self, visual_0: Tensor, visual_1: Tensor, input_ids: Tensor) -> Tensor:
        position = self.core.vision.position
        both = torch.cat([visual_0 + position + self.which[0], visual_1 + position + self.which[1]], 1)
        tokens = torch.cat([self.core.text(input_ids), both], 1)
        keep = torch.cat([(input_ids != 0).float(), torch.ones_like(both[:, :, 0])], 1)
        return 8 * self.head(self.core.fusion(tokens, keep, 1)[:, 0])

    def forward(self, image_0: Tensor, image_1: Tensor, input_ids: Tensor) -> Tensor:
        return self.judge(self.core.encode_image(image_0), self.core.encode_image(image_1), input_ids)


def statement() -> DeployableModel:
    torch.manual_seed(2)
    model, words = PairJudge().eval(), codec(CONFIG.text_length)
    ids, visual = text_input("input_ids", words.spec), float_output("visual", (1, VISUAL, WIDTH), "NVD")
    logits = float_output("logits", (1, 2), "NA")

    def cut(layout: str) -> tuple[Program, ...]:
        if layout == "single":
            pictures = [picture_input(f"image_{index}", SIZE, index) for index in (0, 1)]
            return (program("model", (*pictures, ids), (logits,), model),)
        taken = [value_input(f"visual_{index}", visual, (index,), ()) for index in (0, 1)]
        return (
            program("vision", (picture_input("image", SIZE),), (visual,), model.core, "encode_image", "core"),
            program("fusion", (*taken, ids), (logits,), model, "judge"),
        )

    decoding = {"kind": "classify", "output": "logits", "activation": "softmax"}
    return deployable("statement", "statement", model, words, decoding, ("single", "split"), cut, LABELS["statement"])


class Grounder(nn.Module):
    def __init__(self):
        super().__init__()
        self.core, self.head = VisionLanguageCore(CONFIG), nn.Linear(WIDTH, 4)

    def find(self, visual: Tensor, input_ids: Tensor) -> Tensor:
        return torch.sigmoid(3 * self.head(self.core.fuse(input_ids, visual, readout=1)[:, 0]))

    def forward(self, image: Tensor, input_ids: Tensor) -> Tensor:
        return self.find(self.core.encode_image(image), input_ids)


def grounding() -> DeployableModel:
    torch.manual_seed(3)
    model, words = Grounder().eval(), codec(CONFIG.text_length)
    image, ids = picture_input("image", SIZE), text_input("input_ids", words.spec)
    visual, box = float_output("visual", (1, VISUAL, WIDTH), "NVD"), float_output("box", (1, 4), "NC")

    def cut(layout: str) -> tuple[Program, ...]:
        if layout == "single":
            return (program("model", (image, ids), (box,), model),)
        return (
            program("vision", (image,), (visual,), model.core, "encode_image", "core"),
            program("fusion", (value_input("visual", visual, texts=()), ids), (box,), model, "find"),
        )

    return deployable(
        "grounding", "grounding", model, words, {"kind": "box", "output": "box"}, ("single", "split"), cut
    )


# ---- rank ------------------------------------------------------------------------------------------------------------
class Towers(nn.Module):
    def __init__(self):
        super().__init__()
        self.core = VisionLanguageCore(CONFIG)
        self.of_picture, self.of_text = nn.Linear(WIDTH, 16), nn.Linear(WIDTH, 16)

    def embed_picture(self, image: Tensor) -> Tensor:
        return normalized(self.of_picture(self.core.encode_image(image).mean(1)))

    def embed_text(self, input_ids: Tensor) -> Tensor:
        keep = (input_ids != 0).float()[:, :, None]
        return normalized(self.of_text((self.core.text(input_ids) * keep).sum(1) / keep.sum(1)))


def normalized(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def dual_encoder() -> DeployableModel:
    torch.manual_seed(4)
    model, words = Towers().eval(), codec(CONFIG.text_length)
    embedded = {name: float_output(name, (1, 16), "ND") for name in ("image_embeds", "text_embeds")}

    def cut(layout: str) -> tuple[Program, ...]:
        return (
            program(
                "image_encoder", (picture_input("image", SIZE),), (embedded["image_embeds"],), model, "embed_picture"
            ),
            program(
                "text_encoder", (text_input("input_ids", words.spec),), (embedded["text_embeds"],), model, "embed_text"
            ),
        )

    decoding = {
        "kind": "rank",
        "picture": "image_embeds",
        "text": "text_embeds",
        "scale": 14.3,
        "prompts": ["a {}", "the {}"],
    }
    return deployable("towers", "retrieval", model, words, decoding, ("towers",), cut)


# ---- generate --------------------------------------------------------------------------------------------------------
class Patches(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, WIDTH, 16, 16), nn.LayerNorm(WIDTH)
        self.position = nn.Parameter(0.5 * torch.randn(1, VISUAL, WIDTH))

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.convolution((image - 127.5) / 63.75).flatten(2).transpose(1, 2)) + self.position


class Block(nn.Module):
    """Self-attention over a cache [B, L, D] that is written at one place, and optionally attention to pictures."""

    def __init__(self, crossed: bool):
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        if crossed:
            self.third, self.look, self.seen = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        scores = query @ keys.transpose(-2, -1) * WIDTH**-0.5
        return torch.softmax(scores if mask is None else scores + mask, -1) @ values

    def step(self, x: Tensor, keys: Tensor, values: Tensor, here: Tensor, mask: Tensor, visual: Tensor | None = None):
        query, key, value = self.qkv(self.first(x)).chunk(3, -1)
        keys, values = keys * (1 - here) + key * here, values * (1 - here) + value * here
        x = x + self.out(self.attend(query, keys, values, mask))
        if visual is not None:
            x = x + self.attend(self.look(self.third(x)), *self.seen(visual).chunk(2, -1))
        return x + self.mlp(self.second(x)), keys, values

    def whole(self, x: Tensor):
        """All positions at once, each seeing all: a prefix."""
        query, key, value = self.qkv(self.first(x)).chunk(3, -1)
        x = x + self.out(self.attend(query, key, value))
        return x + self.mlp(self.second(x)), key, value


class Decoder(nn.Module):
    """One step of a sequence. The cache holds `prefix` places that are filled before, then one for each step."""

    def __init__(self, vocabulary: int, steps: int, prefix: int = 0, crossed: bool = True):
        super().__init__()
        self.words, self.position = nn.Embedding(vocabulary, WIDTH), nn.Parameter(torch.randn(steps, WIDTH))
        self.blocks = nn.ModuleList(Block(crossed) for _ in range(DEPTH))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, vocabulary)
        self.prefix = prefix
        self.register_buffer("count", torch.arange(steps, dtype=torch.int32), persistent=False)

    def run(self, token: Tensor, step: Tensor, keys: Tensor, values: Tensor, visual: Tensor | None = None):
        count: Tensor = self.count  # pyright: ignore[reportAssignmentType]
        here_BT = (count[None] == step).float()
        before_BP = torch.zeros(1, self.prefix).expand(token.shape[0], -1)
        mask = torch.cat([before_BP, (count[None] > step).float() * MASKED], 1)[:, None]
        here = torch.cat([before_BP, here_BT], 1)[:, :, None]
        x, caches = self.words(token) + (here_BT @ self.position)[:, None], []
        for index, block in enumerate(self.blocks):
            x, *cache = block.step(x, keys[:, index], values[:, index], here, mask, visual)  # pyright: ignore
            caches.append(cache)
        return self.head(self.norm(x))[:, 0], *(torch.stack(each, 1) for each in zip(*caches))

    def crossed(self, visual: Tensor, token: Tensor, step: Tensor, keys: Tensor, values: Tensor):
        return self.run(token, step, keys, values, visual)


class Prefill(nn.Module):
    """Pictures, and a text where there is one, as the prefix of a decoder's cache."""

    def __init__(self, decoder: Decoder):
        super().__init__()
        self.words, self.blocks, self.steps = decoder.words, decoder.blocks, len(decoder.position)

    def forward(self, visual: Tensor, input_ids: Tensor | None = None):
        x, caches = visual if input_ids is None else torch.cat([visual, self.words(input_ids)], 1), []
        for block in self.blocks:
            x, *cache = block.whole(x)  # pyright: ignore[reportCallIssue]
            caches.append([nn.functional.pad(each, (0, 0, 0, self.steps)) for each in cache])
        return tuple(torch.stack(each, 1) for each in zip(*caches))


def number(name: str, source: Source, most: int) -> InputSpec:
    return InputSpec(name=name, dtype="int32", shape=(1, 1), layout="NT", range=(0, most), source=source)


def cache_specs(length: int, started: bool) -> tuple[list[InputSpec], list[OutputSpec]]:
    shape, inputs, outputs = (1, DEPTH, length, WIDTH), [], []
    for name in ("keys", "values"):
        source = StateSource(name=f"next_{name}", start=f"first_{name}" if started else None)
        inputs.append(InputSpec(name=name, dtype="float32", shape=shape, layout="NKLD", source=source))
        outputs.append(float_output(f"next_{name}", shape, "NKLD"))
    return inputs, outputs


def captioner(steps: int = 6) -> DeployableModel:
    """Captions by cross-attention: the cache starts with zeros."""
    torch.manual_seed(5)
    words = codec(steps + 1)
    vocabulary = words.spec.vocab_size
    model = nn.ModuleDict({"vision": Patches(), "decoder": Decoder(vocabulary, steps)}).eval()
    visual, logits = float_output("visual", (1, VISUAL, WIDTH), "NVD"), float_output("logits", (1, vocabulary), "NA")
    states, after = cache_specs(steps, started=False)
    token, step = number("token", TokenSource(), vocabulary - 1), number("step", StepSource(), steps - 1)

    def cut(layout: str) -> tuple[Program, ...]:
        inputs = (value_input("visual", visual), token, step, *states)
        return (
            program("vision", (picture_input("image", SIZE),), (visual,), model["vision"], path="vision"),
            program("decoder", inputs, (logits, *after), model["decoder"], "crossed", "decoder"),
        )

    return deployable("captioner", "caption", model, words, sequence(words, steps), ("split",), cut)


def prefix_model(asks: bool, steps: int = 5) -> DeployableModel:
    """A prefix of the picture, and of a question if it `asks`, in the cache of a decoder."""
    torch.manual_seed(6 + asks)
    words = codec(8)
    vocabulary, prefix = words.spec.vocab_size, VISUAL + (words.spec.length if asks else 0)
    decoder = Decoder(vocabulary, steps, prefix, crossed=False)
    model = nn.ModuleDict({"vision": Patches(), "prefill": Prefill(decoder), "decoder": decoder}).eval()
    visual, logits = float_output("visual", (1, VISUAL, WIDTH), "NVD"), float_output("logits", (1, vocabulary), "NA")
    states, after = cache_specs(prefix + steps, started=True)
    first = [float_output(f"first_{spec.name}", spec.shape, spec.layout) for spec in states]
    token, step = number("token", TokenSource(), vocabulary - 1), number("step", StepSource(), steps - 1)

    def cut(layout: str) -> tuple[Program, ...]:
        asked = [value_input("visual", visual, texts=()), *([text_input("input_ids", words.spec)] if asks else [])]
        return (
            program("vision", (picture_input("image", SIZE),), (visual,), model["vision"], path="vision"),
            program("prefill", asked, first, model["prefill"], path="prefill"),
            program("decoder", (token, step, *states), (logits, *after), model["decoder"], "run", "decoder"),
        )

    name, task = ("answerer", "vqa") if asks else ("prefixed", "caption")
    return deployable(name, task, model, words, sequence(words, steps), ("split",), cut)


def sequence(words: WordPiece, steps: int) -> dict:
    start, stop = words.spec.start_id, words.spec.stop_id
    return {"kind": "generate", "program": "decoder", "output": "logits", "start": start, "stop": stop, "steps": steps}


def deployable(name, task, model, words, decoding, layouts, cut, labels=None) -> DeployableModel:
    images, texts = {"main": ImageProcessing(size=SIZE)}, {"main": words}
    return DeployableModel(name, task, digest(model), images, texts, decoding, layouts, cut, labels, "Apache-2.0")


MODELS: dict[str, Callable[[], DeployableModel]] = {
    "statement": statement,
    "grounding": grounding,
    "towers": dual_encoder,
    "captioner": captioner,
    "prefixed": lambda: prefix_model(asks=False),
    "answerer": lambda: prefix_model(asks=True),
}

RANDOM = np.random.default_rng(0)
PICTURES = [
    RANDOM.integers(0, 256, (40, 56, 3), np.uint8),
    np.zeros((40, 56, 3), np.uint8),
    np.full((56, 40, 3), (250, 20, 60), np.uint8),
    np.linspace(0, 255, 40 * 40 * 3).reshape(40, 40, 3).astype(np.uint8),
]
TEXTS = ("the red car", "is there a dog?", "a tree")


def query_for(model) -> Query:
    """Pictures and texts as the model takes them."""
    kind = model.decoding["kind"]
    if kind == "rank":
        return Query(tuple(PICTURES[:3]), TEXTS)
    if model.name == "statement":
        return Query(tuple(PICTURES[:2]), TEXTS)
    if kind == "generate":
        return Query((PICTURES[0],), TEXTS[:1] if model.task == "vqa" else ())
    return Query((PICTURES[0],), TEXTS)
