"""The model folder: what training leaves behind and every other command starts from.

`config.json`, `model.safetensors` (fp16), `tokenizer.json`, `labels.json` (the answers in the order of the logits),
`README.md` (the model card) and, when trained here, `training.json` (recipe, data, curves). Nothing is unpickled.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from edgevl.config import ModelConfig
from edgevl.errors import InputError
from edgevl.models import VqaModel, build_model
from edgevl.tokenizer import Tokenizer

EMBEDDED = Path(__file__).parent / "assets" / "nano"
FILES = ("config.json", "model.safetensors", "tokenizer.json", "labels.json")


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    model: VqaModel  # float32, eval mode
    config: ModelConfig
    tokenizer: Tokenizer
    labels: list[str]  # A answers, in the order of the logits
    path: Path
    sha256: str  # of model.safetensors

    @property
    def training(self) -> dict[str, Any]:
        """Recipe, data and scores recorded by training; empty when there is no record."""
        record = self.path / "training.json"
        return json.loads(record.read_text()) if record.is_file() else {}


def load_model(path: Path | str | None = None) -> LoadedModel:
    """Load a model folder; None is the embedded nano.

    Raises `InputError` when a file is missing, unreadable, or does not fit the config.
    """
    folder = Path(path) if path is not None else EMBEDDED
    if not folder.is_dir():
        raise InputError(f"no model folder at {folder}; expected a folder with {', '.join(FILES)}")
    for name in FILES:
        if not (folder / name).is_file():
            raise InputError(f"{folder} is not a model folder: {name} is missing")
    values = _read_json(folder / "config.json", dict)
    if "detector_sha256" in values:
        raise InputError(f"{folder} is a region-feature model: `edgevl bench` and the study run it, nothing exports it")
    config = ModelConfig.from_dict(values)
    labels = _read_json(folder / "labels.json", list)
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    if len(labels) != config.num_answers or tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"{folder}: {len(labels)} labels and {tokenizer.vocab_size} tokens do not fit the config "
            f"({config.num_answers} answers, {config.vocab_size} tokens)"
        )
    model = build_model(config)
    load_weights(model, folder / "model.safetensors")
    return LoadedModel(model.eval(), config, tokenizer, labels, folder, file_sha256(folder / "model.safetensors"))


def save_model(folder: Path, model: VqaModel, tokenizer: Tokenizer, labels: list[str]) -> Path:
    """Write a model folder (weights as fp16). Files of the same name are replaced one by one, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config.replace(num_answers=len(labels))
    save_weights(folder / "model.safetensors", model)
    tokenizer.save(folder / "tokenizer.json")
    write_json(folder / "labels.json", labels)
    write_json(folder / "config.json", config.to_dict())
    return folder


def save_weights(path: Path, model: torch.nn.Module) -> None:
    """Write the weights as fp16 safetensors, atomically."""
    state = {
        key: value.half().contiguous() if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    temporary = path.with_name(f".{path.name}.tmp")
    save_file(state, temporary)
    temporary.chmod(0o644)  # safetensors makes it readable by its owner only
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON through a temporary sibling, so that a reader never sees half a file."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    temporary.replace(path)


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path, kind: type) -> Any:
    try:
        value = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(value, kind):
        raise InputError(f"{path} must hold a JSON {'object' if kind is dict else 'array'}")
    return value


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Copy saved weights into a float32 model. Raises `InputError` for a file that is unreadable or does not fit."""
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from None
    try:
        model.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        )
    except RuntimeError as error:
        raise InputError(f"{path} does not fit config.json: {str(error).splitlines()[-1].strip()}") from None
