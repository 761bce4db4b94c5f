"""The models that come with EdgeVL, by name."""

from pathlib import Path

_ASSETS = Path(__file__).parent / "assets"
EMBEDDED = _ASSETS / "nano"  # answers questions; where no model is named, it is this one
FINDS_PICTURES = _ASSETS / "nano-retrieval"  # a dual encoder, which `edgevl search` takes
EMBEDDED_MODELS = {folder.name: folder for folder in (EMBEDDED, FINDS_PICTURES)}


def model_folder(name: str) -> Path:
    """Return the folder of an embedded model, unless something of that name lies here; else the path as it is."""
    return EMBEDDED_MODELS.get(name, Path(name)) if not Path(name).exists() else Path(name)
