"""From a model, whoever made it, to its Deployable. Every exporter begins here."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevl.apps.jetson.bundle_files import sha256_file
from edgevl.contracts import Deployable
from edgevl.embedded import EMBEDDED_MODELS
from edgevl.errors import InputError
from edgevl.models.checkpoint import Loaded, LoadedDualEncoder, LoadedModel, open_model
from edgevl.models.deployable import NOT_STATED, DeployableModel
from edgevl.models.dual_encoder import dual_encoder
from edgevl.models.families import open_family
from edgevl.models.question_answering import question_answering
from edgevl.reading import read_json

LICENSE = "Apache-2.0"  # of the embedded weights
ANSWERED = ("vqa", "statement")  # tasks of a model that answers questions


def deployable_of(loaded: Loaded) -> DeployableModel:
    """Return the Deployable of a loaded model folder. Raises `InputError` for what cannot be exported."""
    return dataclasses.replace(
        _plain(loaded),
        license=LICENSE if _is_embedded(loaded) else NOT_STATED,
        provenance=provenance_of(loaded),
        domain=loaded.domain,
    )


def _is_embedded(loaded: Loaded) -> bool:
    """Say if these are the weights of an embedded model, wherever they lie."""
    return any(loaded.sha256 == sha256_file(each / "model.safetensors") for each in EMBEDDED_MODELS.values())


def _plain(loaded: Loaded) -> DeployableModel:
    if isinstance(loaded, LoadedDualEncoder):
        return dual_encoder(loaded)
    if isinstance(loaded, LoadedModel) and loaded.config.task in ANSWERED:
        return question_answering(loaded)
    raise InputError(
        f"{loaded.path} was trained for {loaded.config.task}, and a model of its kind is exported for "
        f"{' or '.join(ANSWERED)} only. To find pictures train a dual encoder: edgevl finetune retrieval_scenes_nano"
    )


def provenance_of(loaded: Loaded) -> dict[str, Any]:
    """Return where a model folder comes from, as far as it says so."""
    record, domain = loaded.training, loaded.domain
    embedded = loaded.path.resolve() in map(Path.resolve, EMBEDDED_MODELS.values())
    return {
        "checkpoint": f"embedded:{loaded.config.name}" if embedded else loaded.path.resolve().name,
        "recipe": record.get("recipe"),
        "data": record.get("data") or (f"{domain.about} ({domain.data})" if domain else _trained_on(record)),
        "commit": record.get("commit"),
        "model": loaded.config.to_dict(),
    }


def _trained_on(record: Mapping[str, Any]) -> str | None:
    recipe = record.get("recipe")
    data = recipe.get("data") if isinstance(recipe, Mapping) else None
    return data.get("train") if isinstance(data, Mapping) else None


def is_foreign(path: Path | str | None) -> bool:
    """Say if a folder is one of Hugging Face: the `config.json` names a `model_type`."""
    config = Path(path) / "config.json" if path is not None else None
    return bool(config and config.is_file() and "model_type" in read_json(config))


def open_deployable(path: Path | str | None = None) -> Deployable:
    """Return the Deployable of a model folder of ours or of a Hugging Face folder; None is the embedded nano.

    Raises `InputError` for a folder that is neither, is damaged, or cannot be exported.
    """
    if path is not None and is_foreign(path):
        return open_family(Path(path))
    return deployable_of(open_model(path))
