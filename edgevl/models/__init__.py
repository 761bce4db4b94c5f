"""The models: a detector-free core, task heads, a dual encoder, foreign families and the region-feature baseline."""

from edgevl.config import ModelConfig
from edgevl.models.core import VisionLanguageCore
from edgevl.models.dual_encoder import DualEncoder
from edgevl.models.vqa import VqaModel

__all__ = ["DualEncoder", "VisionLanguageCore", "VqaModel", "build_model"]


def build_model(config: ModelConfig) -> VqaModel:
    """Assemble the model of a config, with fresh weights, in eval mode."""
    return VqaModel(config).eval()
