"""CLIP of Hugging Face (`CLIPModel`): a picture encoder and a text encoder, whose embeddings are compared.

Pictures: shortest edge, center crop, cubic (`CLIPImageProcessor`, the one on Pillow). Texts: byte-level BPE. The
masks are ours: that of transformers holds the least float32, which is infinite in half precision, and an operator that
coremltools lacks; the first end token is found by arithmetic, since a gather of a computed place is refused by some.

Shapes: B batch, S side, T tokens, W width, D width of an embedding.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgevl.apps.jetson.bundle_files import sha256_file
from edgevl.bundle.specs import ImageProcessing, ProgramSpec
from edgevl.contracts import Program
from edgevl.errors import InputError, MissingDependency
from edgevl.inputs.byte_bpe import ByteBPE
from edgevl.inputs.settings import MISSING, Anything, OneOf, check_settings
from edgevl.limits import check_whole
from edgevl.models.deployable import DeployableModel, float_output, picture_input, text_input
from edgevl.models.families import FAMILIES
from edgevl.models.fusion import MASKED
from edgevl.models.pooling import unit_length
from edgevl.quiet import quiet_python, without_bars
from edgevl.reading import read_json

CUBIC = 3  # PIL.Image.Resampling.BICUBIC
PROMPTS = ("a photo of a {}.",)
# Of both configs, beyond which a file would keep us busy without an end: the largest that any CLIP has, and much more.
_MOST = {"hidden_size": 2**14, "intermediate_size": 2**16, "num_hidden_layers": 256, "num_attention_heads": 2**10}
_MOST_OF = {
    "text_config": {**_MOST, "vocab_size": 2**22, "max_position_embeddings": 4096},
    "vision_config": {**_MOST, "image_size": 4096, "patch_size": 4096},
}
_OLD_STOP = 2  # what configs before transformers 4.31 say; the token with the largest id is meant
# Of preprocessor_config.json. Names that only say who wrote the file may be anything.
_SETTINGS = {
    "do_resize": True,
    "do_center_crop": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": OneOf((True, MISSING)),
    "resample": CUBIC,
    "rescale_factor": OneOf((1 / 255, MISSING)),
    "size": Anything(),
    "crop_size": Anything(),
    "image_mean": Anything(),
    "image_std": Anything(),
    "image_processor_type": Anything(),
    "feature_extractor_type": Anything(),
    "processor_class": Anything(),
}


class PictureTower(nn.Module):
    """`image` [B, 3, S, S] in 0..255 to embeddings [B, D] of length 1."""

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, model: Any, mean: list[float], std: list[float]):
        super().__init__()
        self.vision, self.project = model.vision_model, model.visual_projection
        self.register_buffer("mean", 255 * torch.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("inverse_std", 1 / (255 * torch.tensor(std).reshape(1, 3, 1, 1)), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        states_BVW = self.vision.embeddings((image - self.mean) * self.inverse_std)
        states_BVW = self.vision.encoder(inputs_embeds=self.vision.pre_layrnorm(states_BVW)).last_hidden_state
        return unit_length(self.project(self.vision.post_layernorm(states_BVW[:, 0])))


class TextTower(nn.Module):
    """`input_ids` [B, T] to embeddings [B, D] of length 1: the state of the first end token."""

    mask: Tensor

    def __init__(self, model: Any, stop_id: int, length: int):
        super().__init__()
        self.text, self.project, self.stop_id = model.text_model, model.text_projection, stop_id
        ahead = torch.triu(torch.full((length, length), MASKED), 1)[None, None]  # no word sees those behind it
        self.register_buffer("mask", ahead, persistent=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        states_BTW = self.text.embeddings(input_ids=input_ids)
        states_BTW = self.text.encoder(inputs_embeds=states_BTW, attention_mask=self.mask).last_hidden_state
        is_stop_BT = (input_ids == self.stop_id).float()
        first_BT = (is_stop_BT.cumsum(1) == 1).float() * is_stop_BT
        pooled_BW = (first_BT[:, None] @ self.text.final_layer_norm(states_BTW))[:, 0]
        return unit_length(self.project(pooled_BW))


@FAMILIES.register("clip")
def load_clip(folder: Path) -> DeployableModel:
    """Return the Deployable of a folder with `CLIPModel`, its processor and its tokenizer.

    Raises `InputError` for a file that is missing or damaged, and for a setting that we do not declare; it is named.
    """
    model, config = _model(folder), read_json(folder / "config.json")
    length = int(model.config.text_config.max_position_embeddings)
    words = ByteBPE.from_file(folder / "tokenizer.json", length, _padding(folder))
    values = _picture_settings(folder)
    pictures = _picture_processing(values, int(model.config.vision_config.image_size))
    _check_stop(model.config.text_config, words)
    image = PictureTower(model, values["image_mean"], values["image_std"]).eval()
    text = TextTower(model, int(words.spec.stop_id or 0), length).eval()
    width = (1, int(model.config.projection_dim))

    def cut(layout: str) -> tuple[Program, ...]:
        picture, ids = picture_input("image", pictures.size), text_input("input_ids", words.spec)
        outputs = [float_output(name, width, "ND") for name in ("image_embeds", "text_embeds")]
        return (
            Program(ProgramSpec(name="image_encoder", inputs=(picture,), outputs=(outputs[0],)), image, path="picture"),
            Program(ProgramSpec(name="text_encoder", inputs=(ids,), outputs=(outputs[1],)), text, path="words"),
        )

    decoding = {"kind": "rank", "picture": "image_embeds", "text": "text_embeds"}
    decoding |= {"scale": float(model.logit_scale.detach().exp()), "activation": "softmax", "prompts": PROMPTS}
    return DeployableModel(
        name=folder.resolve().name,
        task="retrieval",
        sha256=_digest(folder),
        images={"main": pictures},
        texts={"main": words},
        decoding=decoding,
        layouts=("towers",),
        cut=cut,
        provenance={"checkpoint": folder.resolve().name, "family": str(config["model_type"])},
    )


def _model(folder: Path) -> Any:
    try:
        from transformers import CLIPConfig, CLIPModel
    except ImportError as error:
        raise MissingDependency("transformers", "hf", "a CLIP model") from error
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"{folder} holds no *.safetensors: nothing is unpickled, so save the model with safetensors")
    try:
        with without_bars(), quiet_python():
            _check_sizes(folder, CLIPConfig.from_pretrained(folder, local_files_only=True))
            loaded = CLIPModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, attn_implementation="eager", dtype=torch.float32
            )
    except InputError:
        raise
    except Exception as error:  # whatever a damaged folder makes of it
        other = "ignore_mismatched_sizes" in str(error)
        said = "its weights have other shapes than config.json says" if other else " ".join(str(error).split())[:200]
        raise InputError(f"{folder} cannot be loaded as CLIPModel: {said}") from None
    return loaded.eval()


def _check_sizes(folder: Path, config: Any) -> None:
    """Raises `InputError` before a model of that size is made: out of range, or more than the weights' files hold."""
    check_whole(config.projection_dim, f"{folder / 'config.json'}: projection_dim", 1, _MOST["hidden_size"])
    parameters = 0
    for name, most in _MOST_OF.items():
        part = getattr(config, name)
        values = {key: check_whole(getattr(part, key), f"{folder / 'config.json'}: {name}.{key}", 1, high)
                  for key, high in most.items()}  # fmt: skip
        width, inner = values["hidden_size"], values["intermediate_size"]
        parameters += (
            values["num_hidden_layers"] * width * (4 * width + 2 * inner) + values.get("vocab_size", 0) * width
        )
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if size < parameters:  # a byte each at least
        raise InputError(
            f"{folder} has {size:,} bytes of weights, too few for the {parameters:,} parameters of config.json"
        )


def _picture_settings(folder: Path) -> dict[str, Any]:
    """The image processor's settings, from either of the files that hold them."""
    old, new = folder / "preprocessor_config.json", folder / "processor_config.json"
    if old.is_file():
        values, name = read_json(old), old.name
    elif new.is_file():
        values, name = read_json(new).get("image_processor"), new.name
    else:
        raise InputError(f"{folder} has no {old.name}: nothing says how a picture becomes the model's input")
    if not isinstance(values, dict):
        raise InputError(f"{folder / name} has no image processor")
    try:
        check_settings(values, _SETTINGS)
        for key in ("image_mean", "image_std"):
            _check_three(values.get(key), key)
    except InputError as error:
        raise InputError(f"{folder / name}: {error}") from None
    return values


def _check_three(values: Any, name: str) -> None:
    numbers = isinstance(values, list) and len(values) == 3 and all(type(value) in (int, float) for value in values)
    if not numbers or (name == "image_std" and min(values) <= 0):
        raise InputError(f"{name} is {values}, it must be three numbers{' above 0' if name == 'image_std' else ''}")


def _picture_processing(values: dict[str, Any], size: int) -> ImageProcessing:
    """Older files give sizes as one number. Raises `InputError` where the crop is not what the model takes."""
    edge, crop = values.get("size"), values.get("crop_size")
    edge = edge.get("shortest_edge") if isinstance(edge, dict) and set(edge) == {"shortest_edge"} else edge
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    if type(edge) is not int or not 1 <= edge <= 8192:
        raise InputError(f"size is {values.get('size')}, it must be a shortest_edge of 1 to 8192")
    if crop != {"height": size, "width": size} or edge < size:
        raise InputError(
            f"crop_size is {values.get('crop_size')}, the model takes {size} x {size} of an edge of {edge}"
        )
    # transformers drops the alpha of a picture; here it is on white, as everywhere else: other pixels where it shows.
    return ImageProcessing(size=size, geometry="shortest-edge", shortest_edge=edge, kernel="cubic")


def _padding(folder: Path) -> str:
    """The padding token; a file may write it as a text or as an object with its content."""
    path = folder / "tokenizer_config.json"
    pad = read_json(path).get("pad_token") if path.is_file() else None
    pad = pad.get("content") if isinstance(pad, dict) else pad
    if pad is not None and not isinstance(pad, str):
        raise InputError(f"{path}: pad_token is {pad}, it must be a token")
    return pad or "<|endoftext|>"


def _check_stop(config: Any, words: ByteBPE) -> None:
    """The state that is read is that of the first stop token: the config must mean the same token as the tokenizer."""
    stop, largest = int(config.eos_token_id), words.spec.vocab_size - 1
    if stop not in (words.spec.stop_id, _OLD_STOP) or (stop == _OLD_STOP != words.spec.stop_id != largest):
        raise InputError(f"text_config.eos_token_id is {stop}, the tokenizer's end token is {words.spec.stop_id}")
    if words.spec.vocab_size > int(config.vocab_size):
        raise InputError(f"the tokenizer has {words.spec.vocab_size} pieces, the model {config.vocab_size}")


def _digest(folder: Path) -> str:
    """The digest of the weights: of one file its sha256, of several that of their digests in order of names."""
    files = sorted(folder.glob("*.safetensors"))
    digests = [sha256_file(path) for path in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
