"""The dual encoder: a picture and a text each become an embedding, and the nearer the two, the better they fit.

Nothing of a picture waits for a text, so a folder of pictures is embedded once and searched by one product.

Shapes: B batch, S side, V visual tokens, T text tokens, D width, E channels of an embedding.
"""

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from edgevl.bundle.specs import ImageProcessing, ProgramSpec
from edgevl.config import DualEncoderConfig
from edgevl.contracts import Program
from edgevl.inputs.texts import WordPiece
from edgevl.models.core import PAD_ID, TextEmbedding, VisionEncoder
from edgevl.models.deployable import DeployableModel, float_output, picture_input, text_input
from edgevl.models.fusion import Fusion
from edgevl.models.merging import deployed
from edgevl.models.pooling import AttentionPool, unit_length

if TYPE_CHECKING:
    from edgevl.models.checkpoint import LoadedDualEncoder

LAYOUT = "towers"
FIRST_SCALE, LARGEST_SCALE = 14.3, 100.0  # CLIP's: a temperature of 0.07 to begin with, of 0.01 at least
OF_PICTURES = ("vision", "picture_pool", "picture_projection")  # modules that only pictures go through
OF_TEXTS = ("text", "words", "text_pool", "text_projection")
PICTURES, TEXTS = "image_embeds", "text_embeds"  # the values, by name
PROMPTS = ("a {}",)  # with which a label becomes a text


class DualEncoder(nn.Module):
    """`embed_picture` and `embed_text` are the deployed programs; `scale` times their product is the score."""

    def __init__(self, config: DualEncoderConfig):
        super().__init__()
        self.config = config
        self.vision = VisionEncoder(config)
        self.text = TextEmbedding(config)
        self.words = Fusion(config.width, config.depth, config.heads, config.mlp_ratio, config.dropout)
        self.picture_pool = AttentionPool(config.width, config.queries)
        self.text_pool = AttentionPool(config.width, config.queries)
        self.picture_projection = nn.Linear(config.queries * config.width, config.embedding)
        self.text_projection = nn.Linear(config.queries * config.width, config.embedding)
        self.log_scale = nn.Parameter(torch.tensor(FIRST_SCALE).log())

    @property
    def scale(self) -> Tensor:
        """What products of embeddings are multiplied by, []."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)

    def picture_vectors(self, image_B3SS: Tensor) -> Tensor:
        """Return vectors [B, E] of any length. `image_B3SS` is float in 0..255, RGB."""
        tokens_BVD = self.vision(image_B3SS) + self.vision.position
        return self.picture_projection(self.picture_pool(tokens_BVD))

    def text_vectors(self, input_ids_BT: Tensor) -> Tensor:
        """Return vectors [B, E] of any length. `input_ids_BT` is int; 0 is padding."""
        tokens_BTD = self.text(input_ids_BT)
        keep_BT = (input_ids_BT != PAD_ID).to(tokens_BTD.dtype)
        return self.text_projection(self.text_pool(self.words(tokens_BTD, keep_BT), keep_BT))

    def embed_picture(self, image_B3SS: Tensor) -> Tensor:
        """Return embeddings [B, E] of length 1."""
        return unit_length(self.picture_vectors(image_B3SS))

    def embed_text(self, input_ids_BT: Tensor) -> Tensor:
        """Return embeddings [B, E] of length 1."""
        return unit_length(self.text_vectors(input_ids_BT))


def encoder_programs(model: DualEncoder, words: WordPiece) -> tuple[Program, ...]:
    """Return `image_encoder`, from `image` to `image_embeds`, and `text_encoder`, from `input_ids` to `text_embeds`."""
    config, model = model.config, deployed(model)
    image, ids = picture_input("image", config.image_size), text_input("input_ids", words.spec)
    of_image, of_text = (float_output(name, (1, config.embedding), "ND") for name in (PICTURES, TEXTS))
    picture_spec = ProgramSpec(name="image_encoder", inputs=(image,), outputs=(of_image,))
    text_spec = ProgramSpec(name="text_encoder", inputs=(ids,), outputs=(of_text,))
    return (
        Program(picture_spec, model, "embed_picture", unused=OF_TEXTS),
        Program(text_spec, model, "embed_text", unused=OF_PICTURES),
    )


def dual_encoder(loaded: "LoadedDualEncoder") -> DeployableModel:
    """Return the Deployable of a loaded model."""
    config, model = loaded.config, loaded.model
    words = WordPiece.of(loaded.tokenizer, config.text_length)
    decoding = {"kind": "rank", "picture": PICTURES, "text": TEXTS}
    decoding |= {"scale": float(model.scale.detach()), "activation": "softmax", "prompts": PROMPTS}
    return DeployableModel(
        name=config.name,
        task=config.task,
        sha256=loaded.sha256,
        images={"main": ImageProcessing(size=config.image_size)},
        texts={"main": words},
        decoding=decoding,
        layouts=(LAYOUT,),
        cut=functools.cache(lambda layout: encoder_programs(model, words)),
    )
