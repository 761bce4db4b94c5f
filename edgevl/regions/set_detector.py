"""A detector of today, which predicts a set of boxes: D-FINE nano (arXiv 2410.13842), without anchors and without NMS.

The queries with the best scores are the regions, and their last states the features: one file, then the transformer of
the model that it is compared with. `transformers` has the network; the sizes are those published as `dfine-nano-coco`.
The weights are untrained, because only time is claimed: nothing here takes longer or shorter with others.

Shapes: S side of the picture, Q queries, K regions kept, F region feature.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgevl.config import ModelConfig
from edgevl.errors import MissingDependency
from edgevl.regions.export import export_fusion, export_onnx, untrained_answerer

NAME, FILE = "dfine", "detector.onnx"
_BACKBONE = {  # HGNetV2 B0
    "stem_channels": [3, 16, 16],
    "stage_in_channels": [16, 64, 256, 512],
    "stage_mid_channels": [16, 32, 64, 128],
    "stage_out_channels": [64, 256, 512, 1024],
    "stage_num_blocks": [1, 1, 2, 1],
    "stage_numb_of_layers": [3, 3, 3, 3],
    "hidden_sizes": [64, 256, 512, 1024],
    "embedding_size": 16,
    "use_learnable_affine_block": True,
    "out_features": ["stage3", "stage4"],
}
_DETECTOR = {
    "encoder_in_channels": [512, 1024],
    "encoder_ffn_dim": 512,
    "encode_proj_layers": [1],
    "feat_strides": [16, 32],
    "num_feature_levels": 2,
    "decoder_n_points": [6, 6],
    "decoder_layers": 3,
    "decoder_ffn_dim": 512,
    "hidden_expansion": 0.34,
    "depth_mult": 0.5,
    "num_denoising": 0,
}


@dataclasses.dataclass(frozen=True)
class SetConfig:
    """The detector at test time. The defaults are D-FINE nano's, for pictures of its published size."""

    size: int = 640  # S
    queries: int = 300  # Q
    regions: int = 36  # K, as of the other detectors
    width: int = 128  # F
    classes: int = 80  # COCO's
    seed: int = 0


class SetRegions(nn.Module):
    """uint8 [1, S, S, 3] to features float [1, K, F] and boxes float [1, K, 4] in 0..1 (x0, y0, x1, y1)."""

    def __init__(self, config: SetConfig):
        super().__init__()
        self.config, self.detector = config, build_detector(config)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        found = self.detector.model(pixel_values=image.permute(0, 3, 1, 2).float() / 255)
        scores, boxes = found.intermediate_logits[:, -1], found.intermediate_reference_points[:, -1]
        best = scores.amax(-1).topk(self.config.regions, dim=1).indices[..., None]
        features = torch.gather(found.last_hidden_state, 1, best.expand(-1, -1, self.config.width))
        center, sides = torch.gather(boxes, 1, best.expand(-1, -1, 4)).chunk(2, dim=-1)
        return features, torch.cat([center - sides / 2, center + sides / 2], dim=-1)


def build_detector(config: SetConfig) -> Any:
    """Return transformers' `DFineForObjectDetection` with seeded random weights. Raises `MissingDependency`."""
    try:
        from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config
    except ImportError as error:
        raise MissingDependency("transformers", "hf", f"the opponent {NAME}") from error
    width = config.width
    sizes: dict[str, Any] = {**_DETECTOR, "num_labels": config.classes}
    settings = DFineConfig(
        backbone_config=HGNetV2Config(**_BACKBONE), d_model=width, encoder_hidden_dim=width,
        decoder_in_channels=[width] * 2, num_queries=config.queries, anchor_image_size=[config.size] * 2, **sizes,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return DFineForObjectDetection(settings).eval()


def export_set_detector(folder: Path, config: SetConfig, model: ModelConfig) -> Path:
    """Write `detector.onnx`, `fusion.onnx` and `region.json` to `folder` (must exist). Returns `folder`.

    `model`: the one that it is compared with, whose words, answers and fusion transformer are used.
    """
    image = torch.zeros(1, config.size, config.size, 3, dtype=torch.uint8)
    with _without_checks():
        export_onnx(SetRegions(config).eval(), (image,), folder / FILE, ["image"], ["features", "boxes"])
    answerer = untrained_answerer(model, config.width, config.seed).eval()
    export_fusion(answerer, config.regions, config.width, model.text_length, folder / "fusion.onnx")
    settings = {"set": dataclasses.asdict(config), "model": model.to_dict()}
    (folder / "region.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    return folder


@contextlib.contextmanager
def _without_checks() -> Iterator[None]:
    """Leave out the checks of transformers on the shapes of its own maps, for which ONNX has no operator."""
    from transformers.models.d_fine import modeling_d_fine as module

    name = "torch_compilable_check"
    kept = getattr(module, name, None)
    setattr(module, name, lambda *_, **__: None)
    try:
        yield
    finally:
        setattr(module, name, kept)
