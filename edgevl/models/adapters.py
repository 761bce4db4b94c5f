"""Image adapters: what an app passes in, turned into the float picture that the core reads. A target chooses one."""

from torch import Tensor, nn


class RawPixels(nn.Module):
    """`image` uint8 [B, S, S, 3] RGB. The cast comes first: TensorRT's parser refuses a Transpose on UInt8."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, input_ids: Tensor) -> Tensor:
        return self.model(image.float().permute(0, 3, 1, 2), input_ids)


class FloatImage(nn.Module):
    """`image` float [B, 3, S, S] in 0..255: what a Core ML image input hands to the program."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, input_ids: Tensor) -> Tensor:
        return self.model(image, input_ids)
