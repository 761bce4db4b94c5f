"""The detector-free core: pixels become a grid of visual tokens, words become text tokens, one transformer fuses them.

Shapes: B batch, S image side, G grid side, V = G * G visual tokens, T text tokens, L = T + V, D width, C channels.
"""

import difflib
from typing import Any

import timm
import torch
from timm.layers.format import Format
from torch import Tensor, nn

from edgevl.config import Config, ModelConfig
from edgevl.errors import InputError, first_line, unknown_name
from edgevl.limits import shown
from edgevl.models.fusion import Fusion

PAD_ID = 0


class VisionEncoder(nn.Module):
    """Raw pixels to visual tokens: a timm backbone, a 1x1 convolution, a norm, and a learned 2-D position.

    The position starts as the sine code of the coordinates (half of the channels per axis) and is then trained.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, config: Config):
        super().__init__()
        if not timm.is_model(config.backbone):
            near = difflib.get_close_matches(config.backbone, timm.list_models(), 5)
            raise unknown_name("backbone of timm", config.backbone, near or ["resnet10t", "mobilenetv4_conv_small"])
        self.config = config
        self.backbone = _backbone(config)
        channels = self.backbone.feature_info.channels()[-1]  # pyright: ignore
        # Swin and its kin return their maps with the channels last.
        self.channels_last = getattr(self.backbone, "output_fmt", None) == Format.NHWC
        self.project = nn.Conv2d(channels, config.width, kernel_size=1)
        self.norm = nn.LayerNorm(config.width)
        self.position = nn.Parameter(0.5 * sine_grid(config.grid, config.width))
        self.register_buffer("mean", 255.0 * torch.tensor(config.mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            "inverse_std", 1 / (255.0 * torch.tensor(config.std).reshape(1, 3, 1, 1)), persistent=False
        )

    def forward(self, image_B3SS: Tensor) -> Tensor:
        """`image_B3SS`: float in 0..255, RGB. Returns visual tokens [B, V, D] in row-major order, without position.

        Raises `InputError` for a backbone that does not take pictures of this size or gives another grid than the
        config says: timm's own numbers are not always right (a map of DLA's is of 8 pixels, and it says 16).
        """
        try:
            features_BCGG = self.backbone((image_B3SS - self.mean) * self.inverse_std)[-1]
        except (AssertionError, RuntimeError) as error:
            if "memory" in str(error):
                raise
            raise self._unfit(
                f"does not take them ({first_line(error)}); some want img_size in backbone_options"
            ) from error
        if self.channels_last:
            features_BCGG = features_BCGG.permute(0, 3, 1, 2)
        found, grid = tuple(features_BCGG.shape[2:]), self.config.grid
        if found != (grid, grid):
            raise self._unfit(f"makes {found[0]} x {found[1]} cells, not {grid} x {grid}: set out_index or stride")
        return self.norm(self.project(features_BCGG).flatten(2).transpose(1, 2))

    def _unfit(self, reason: str) -> InputError:
        config = self.config
        return InputError(
            f"{config.backbone} and pictures of {config.image_size} pixels (stride {config.stride}, out_index "
            f"{config.out_index}): the backbone {reason}"
        )


def create_backbone(config: Config, **weights: Any) -> Any:
    """Return timm's backbone of a config, cut after its feature map. `weights`: timm's own arguments about these."""
    return timm.create_model(
        config.backbone, features_only=True, out_indices=(config.out_index,), **config.backbone_options, **weights
    )


def _backbone(config: Config) -> Any:
    try:
        return create_backbone(config, pretrained=False)
    except Exception as error:  # whatever timm's models raise for options that they do not have
        raise InputError(
            f"timm cannot make {config.backbone} with backbone_options {shown(config.backbone_options)} and out_index "
            f"{config.out_index}: {first_line(error)}"
        ) from error


class TextEmbedding(nn.Module):
    """Token ids to text tokens; the norm puts words and visual tokens on one scale."""

    def __init__(self, config: Config):
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.position = nn.Parameter(0.02 * torch.randn(1, config.text_length, config.width))
        nn.init.normal_(self.words.weight, std=config.width**-0.5)

    def forward(self, input_ids_BT: Tensor) -> Tensor:
        return self.norm(self.words(input_ids_BT)) + self.position[:, : input_ids_BT.shape[1]]


class VisionLanguageCore(nn.Module):
    """Everything that pretraining and every task share."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.vision = VisionEncoder(config)
        self.text = TextEmbedding(config)
        self.fusion = Fusion(config.width, config.depth, config.heads, config.mlp_ratio, config.dropout)

    def encode_image(self, image_B3SS: Tensor) -> Tensor:
        """Float pixels 0..255 [B, 3, S, S] to visual tokens [B, V, D] (no position: the visual losses read these)."""
        return self.vision(image_B3SS)

    def fuse(self, input_ids_BT: Tensor, visual_BVD: Tensor, readout: int | None = None) -> Tensor:
        """Fuse text and visual tokens. Returns the states of the first `readout` text tokens (default: all T of them).

        State 0 is that of [CLS].
        """
        tokens_BLD = torch.cat([self.text(input_ids_BT), visual_BVD + self.vision.position], dim=1)
        keep_BT = (input_ids_BT != PAD_ID).to(tokens_BLD.dtype)
        keep_BL = torch.cat([keep_BT, torch.ones_like(visual_BVD[:, :, 0])], dim=1)
        return self.fusion(tokens_BLD, keep_BL, readout or input_ids_BT.shape[1])

    def encode_text(self, input_ids_BT: Tensor) -> Tensor:
        """Text alone through the same transformer. Returns states [B, T, D]."""
        return self.fusion(self.text(input_ids_BT), (input_ids_BT != PAD_ID).float())


def sine_grid(grid: int, width: int) -> Tensor:
    """Sine-cosine code of the cells of a square grid, [1, grid * grid, width], half of the channels for each axis."""
    frequency = torch.pi / grid * torch.arange(1, width // 4 + 1).float().clamp(max=grid * 2) / 2
    phase = (torch.arange(grid) + 0.5)[:, None] * frequency
    axis = torch.cat([phase.sin(), phase.cos()], dim=1)  # [grid, width // 2]
    rows, columns = axis[:, None].expand(-1, grid, -1), axis[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(1, grid * grid, -1)
