"""The models: a detector-free core, task heads, image adapters and the region-feature baseline."""

from edgevl.config import ModelConfig
from edgevl.models.core import VisionLanguageCore
from edgevl.models.vqa import VqaModel

__all__ = ["VisionLanguageCore", "VqaModel", "build_model"]


def build_model(config: ModelConfig) -> VqaModel:
    """Assemble the model of a config, with fresh weights, in eval mode."""
    return VqaModel(config).eval()
