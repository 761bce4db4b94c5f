"""What is deployed of a model: the whole of it, or its two halves, behind an image adapter that the target chooses.

Shapes: B batch, S image side, T text tokens, V visual tokens, D width, A answers.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from edgevl.models.vqa import VqaModel

Adapter = Callable[[Tensor], Tensor]


def raw_pixels(image_BSS3: Tensor) -> Tensor:
    """uint8 [B, S, S, 3] to float [B, 3, S, S]. Cast first: TensorRT's parser refuses a Transpose on UInt8."""
    return image_BSS3.float().permute(0, 3, 1, 2)


def float_image(image_B3SS: Tensor) -> Tensor:
    """Float [B, 3, S, S] in 0..255 as it is: what a Core ML image input hands to the program."""
    return image_B3SS


class Whole(nn.Module):
    """`image`, `input_ids` [B, T] to `logits` [B, A]."""

    def __init__(self, model: "VqaModel", adapter: Adapter = raw_pixels):
        super().__init__()
        self.model, self.adapter = model, adapter

    def forward(self, image: Tensor, input_ids: Tensor) -> Tensor:
        return self.model(self.adapter(image), input_ids)


class Vision(nn.Module):
    """`image` to `visual` [B, V, D]: run once for a picture."""

    def __init__(self, model: "VqaModel", adapter: Adapter = raw_pixels):
        super().__init__()
        self.model, self.adapter = model.core, adapter

    def forward(self, image: Tensor) -> Tensor:
        return self.model.encode_image(self.adapter(image))


class FusionHead(nn.Module):
    """`visual` [B, V, D], `input_ids` [B, T] to `logits` [B, A]: run once for a question."""

    def __init__(self, model: "VqaModel", adapter: Adapter = raw_pixels):
        super().__init__()
        self.model = model

    def forward(self, visual: Tensor, input_ids: Tensor) -> Tensor:
        return self.model.answer(visual, input_ids)
