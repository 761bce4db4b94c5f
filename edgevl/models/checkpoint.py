"""The model folder: what training leaves behind and every other command starts from.

`config.json` (with the task, and the kind of model unless it answers questions), `model.safetensors` (fp16),
`tokenizer.json`, `labels.json` (the answers in the order of the logits, where there are any), `README.md` (the model
card) and, when trained here, `training.json` (recipe, data, curves) and `domain.json` (what pictures and answers were
like in training). Nothing is unpickled.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import nn

from edgevl.atomic import atomic_file, write_json
from edgevl.config import DUAL_ENCODER, Config, DualEncoderConfig, ModelConfig
from edgevl.copying import hash_file, open_plain
from edgevl.domain.judge import Domain, load_domain
from edgevl.embedded import EMBEDDED as EMBEDDED
from edgevl.embedded import EMBEDDED_MODELS
from edgevl.errors import EdgeVLError, InputError, no_such_path, unknown_name
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.limits import check_text
from edgevl.models import DualEncoder, VqaModel, build_model
from edgevl.reading import Unreadable, read_json
from edgevl.scratch import PrivateFolder

DIVERGED = "Lower optimizer.lr or raise optimizer.warmup"  # what to do about a training that diverged
IN_MEMORY = 256 * 2**20  # bytes of weights
FILES = ("config.json", "model.safetensors", "tokenizer.json", "labels.json")  # of a model that answers questions


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model folder of any kind."""

    model: nn.Module  # float32, eval mode
    config: Config
    tokenizer: Tokenizer
    path: Path
    sha256: str  # of model.safetensors

    @property
    def training(self) -> dict[str, Any]:
        """Recipe, data and scores recorded by training; empty when there is no record."""
        return _record(self.path)

    @property
    def domain(self) -> Domain | None:
        """What it was trained on, as numbers. Raises `InputError` for a `domain.json` that does not fit the weights."""
        return load_domain(self.path, self.sha256, self.config.image_size)


@dataclasses.dataclass(frozen=True)
class LoadedModel(Loaded):
    """A model that answers questions, or says if statements are true."""

    model: VqaModel
    config: ModelConfig
    labels: list[str]  # A answers, in the order of the logits


@dataclasses.dataclass(frozen=True)
class LoadedDualEncoder(Loaded):
    """A model that embeds pictures and texts."""

    model: DualEncoder
    config: DualEncoderConfig


def open_model(path: Path | str | None = None) -> Loaded:
    """Load a model folder of any kind, as the kind that it is; None is the embedded nano.

    `edgevl.models.kinds.deployable_of` makes a Deployable of it. Raises `InputError` when a file is missing,
    unreadable, or does not fit the config, and for an unknown kind.
    """
    folder, kind = _folder(path)
    return load_dual_encoder(folder) if kind == DUAL_ENCODER else load_model(folder)


def load_model(path: Path | str | None = None) -> LoadedModel:
    """Load the folder of a model that answers questions; None is the embedded nano.

    Raises `InputError` when a file is missing, unreadable, or does not fit the config, and for another kind of model.
    """
    folder, kind = _folder(path)
    if kind:
        raise InputError(f"{folder} is a {kind.replace('_', ' ')}, which answers no questions: it finds pictures")
    _check_files(folder, FILES)
    config = ModelConfig.from_file(folder / "config.json")
    config = config.replace(task=_trained_task(folder, config.task))
    check_size(config, folder / "model.safetensors")
    labels = read_labels(folder / "labels.json")
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    if len(labels) != config.num_answers or tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"{folder}: {len(labels)} labels and {tokenizer.vocab_size} tokens do not fit the config "
            f"({config.num_answers} answers, {config.vocab_size} tokens)"
        )
    model = build_model(config)
    digest = load_weights(model, folder / "model.safetensors")
    return LoadedModel(model.eval(), config, tokenizer, folder, digest, labels)


def load_dual_encoder(path: Path | str) -> LoadedDualEncoder:
    """Load the folder of a dual encoder. Raises `InputError` as `load_model` does."""
    folder, kind = _folder(path)
    if kind != DUAL_ENCODER:
        raise InputError(f"{folder} is no dual encoder, which finds pictures: it answers questions")
    _check_files(folder, FILES[:3])
    config = DualEncoderConfig.from_file(folder / "config.json")
    check_size(config, folder / "model.safetensors")
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(f"{folder}: {tokenizer.vocab_size} tokens do not fit the config ({config.vocab_size})")
    model = DualEncoder(config)
    digest = load_weights(model, folder / "model.safetensors")
    return LoadedDualEncoder(model.eval(), config, tokenizer, folder, digest)


def _folder(path: Path | str | None) -> tuple[Path, str]:
    """Return a model folder and its kind; "" answers questions. Raises `InputError` for what is none."""
    folder = Path(path) if path is not None else EMBEDDED
    if not folder.exists():
        raise no_such_path("model folder", folder, f"a model folder holds {', '.join(FILES)}", also=EMBEDDED_MODELS)
    _check_files(folder, FILES[:1])
    config = read_json(folder / "config.json")
    if "detector_sha256" in config:
        raise InputError(f"{folder} is a region-feature model: `edgevl bench` and the study run it, nothing exports it")
    kind = config.get("kind", "")
    if kind not in ("", DUAL_ENCODER):
        raise unknown_name(f"kind of model in {folder / 'config.json'}", str(kind), [DUAL_ENCODER])
    return folder, kind


def _check_files(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise InputError(f"{folder} is not a model folder: {name} is missing")


def _record(folder: Path) -> dict[str, Any]:
    path = folder / "training.json"
    return read_json(path) if path.is_file() else {}


def _trained_task(folder: Path, saved: str) -> str:
    """Return what a model was trained for. Before the task was saved, every config.json said `vqa`."""
    recipe = _record(folder).get("recipe")
    found = recipe.get("task") if saved == "vqa" and isinstance(recipe, dict) else None
    return found if isinstance(found, str) else saved


def save_model(folder: Path, model: VqaModel, tokenizer: Tokenizer, labels: list[str]) -> Path:
    """Write a model folder (weights as fp16). Files of the same name are replaced one by one, each atomically."""
    return _save(folder, model, model.config.replace(num_answers=len(labels)), tokenizer, labels)


def save_dual_encoder(folder: Path, model: DualEncoder, tokenizer: Tokenizer) -> Path:
    """Write a model folder, as `save_model` does."""
    return _save(folder, model, model.config, tokenizer)


def _save(
    folder: Path, model: nn.Module, config: Config, tokenizer: Tokenizer, labels: list[str] | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / "model.safetensors", model)
    tokenizer.save(folder / "tokenizer.json")
    if labels is not None:
        write_json(folder / "labels.json", labels)
    write_json(folder / "config.json", config.to_dict())
    return folder


def save_weights(path: Path, model: torch.nn.Module) -> None:
    """Write the weights as fp16 safetensors, atomically.

    Raises `EdgeVLError` for a weight that is not finite, or too large for fp16: such a file would answer nothing.
    """
    state = {
        key: value.half().contiguous() if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    if wrong := not_finite(state):
        raise EdgeVLError(f"the weights are not finite in fp16: {wrong}. {DIVERGED}")
    with atomic_file(path) as temporary:
        save_file(state, temporary)
        temporary.chmod(0o644)  # safetensors makes it readable by its owner only


def not_finite(state: Mapping[str, torch.Tensor]) -> str | None:
    """The name of the first tensor that holds a number that is not finite."""
    floats = ((name, value) for name, value in state.items() if value.is_floating_point())
    return next((name for name, value in floats if not torch.isfinite(value).all()), None)


def read_labels(path: Path) -> list[str]:
    """The answers in the order of the logits. Raises `InputError` unless the file is a list of texts."""
    labels = read_json(path, list)
    for label in labels:
        check_text(label, f"{path}: a label")
    return labels


def check_size(config: Config, weights: Path) -> None:
    """Raises `InputError` for a file too small for what its config says, before a model of that size is made."""
    try:
        size = weights.stat().st_size
    except OSError as error:
        raise InputError(f"{weights} cannot be read ({error.strerror})") from None
    if size < config.parameters:  # two bytes each, and the backbone's are not counted
        raise InputError(
            f"{weights} has {size:,} bytes, too few for the {config.parameters:,} parameters of config.json "
            f"(width {config.width}, depth {config.depth}, vocab_size {config.vocab_size})"
        )


def load_weights(model: torch.nn.Module, path: Path) -> str:
    """Copy saved weights into a float32 model. Returns the sha256 of the file that they came from.

    Raises `InputError` for a file that is unreadable, does not fit, or holds a number that is not finite.
    """
    stored, digest = read_weights(path)
    state = {key: value.float() if value.is_floating_point() else value for key, value in stored.items()}
    if wrong := not_finite(state):
        raise InputError(f"{path}: {wrong} holds a number that is not finite: that training diverged, use another")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit config.json: {str(error).splitlines()[-1].strip()}") from None
    return digest


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of a safetensors file, and the sha256 of the very bytes that they were read from.

    A file is read once: a small one into memory, a large one into a private copy, which is mapped.
    Raises `InputError` for one that cannot be read.
    """
    try:
        size = path.stat().st_size
        if size > IN_MEMORY:
            held = PrivateFolder()
            copy = held.path / path.name
            digest = hash_file(path, size, copy, follow=True)
            return load_file(copy), digest
        with open_plain(path, follow=True) as file:
            data = file.read(size)
        return load(data), hashlib.sha256(data).hexdigest()
    except (SafetensorError, OSError, Unreadable) as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from None
