"""What each target wants of a quantized graph: one dialect each, a table of choices with their reasons.

A dialect says which operators multiply in int8, whose results are stored as int8, and how a range becomes a scale and
a zero point. The ranges themselves come from the plan: every dialect reads the same ones.
"""

import dataclasses

import torch

from edgevl.errors import unknown_name
from edgevl.quantize.plan import Range


@dataclasses.dataclass(frozen=True)
class Dialect:
    """Operators are named as in `edgevl.quantize.values`."""

    name: str
    reason: str
    dtype: torch.dtype = torch.int8  # of activations
    symmetric: bool = False  # zero point in the middle of the type; see `parameters`
    products: frozenset[str] = frozenset({"conv", "linear", "matmul"})  # read int8, with int8 weights
    requantized: frozenset[str] = frozenset({"conv"})  # their results are stored as int8
    elementwise: frozenset[str] = frozenset()  # read and write int8
    carriers: frozenset[str] = frozenset()  # pass int8 on with the scale it came with
    skips: bool = False  # where a convolution's result is added to another value, that other value is read as int8
    probabilities: bool = True  # a product may read what a softmax gives as int8
    folded: bool = True  # weights are int8 in the program; else float behind Q/DQ, and the converter rounds them

    @property
    def levels(self) -> tuple[int, int]:
        """Smallest and largest quantized value of an activation."""
        info = torch.iinfo(self.dtype)
        return info.min, info.max

    def parameters(self, values: Range) -> tuple[float, int]:
        """Scale and zero point of a range. Zero is always exact, as padding and ReLU need it.

        Symmetric: the zero point of int8 is 0; that of uint8 is 128, or 0 where no value is negative.
        """
        low, high = min(values.low, 0.0), max(values.high, 0.0)
        smallest, largest = self.levels
        if self.symmetric:
            middle = 128 if self.dtype == torch.uint8 and low < 0 else 0
            below = low / (smallest - middle) if low < 0 else 0.0
            return max(below, high / (largest - middle), _TINY), middle
        scale = max((high - low) / (largest - smallest), _TINY)
        return scale, min(largest, max(smallest, round(smallest - low / scale)))


_TINY = 1e-8  # of a value that is always 0

DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            "x86",
            "x86 multiplies uint8 by int8 (VNNI); a range that starts at 0 makes ReLU a part of QLinearConv",
            dtype=torch.uint8,
            elementwise=frozenset({"add", "avg_pool2d"}),
            carriers=frozenset({"max_pool2d"}),
        ),
        Dialect(
            "arm",
            "ONNX Runtime's Arm kernels multiply int8 by int8 as it is (SDOT), of uint8 by int8 they flip the sign bits of "
            "one side first; affine, since weights have no zero points and ReLU becomes a part of QLinearConv",
            elementwise=frozenset({"add", "avg_pool2d"}),
            carriers=frozenset({"max_pool2d"}),
        ),
        Dialect(
            "tensorrt",
            "TensorRT has zero points of 0 only and takes int8 for the operands of products; what it fuses behind a "
            "product (bias, ReLU, the addition of a skip connection) stays float, so only the skip itself is int8",
            symmetric=True,
            requantized=frozenset(),
            skips=True,
            probabilities=False,
        ),
        Dialect(
            "coreml",
            "what Apple's own quantizers make for the Neural Engine (A17 Pro, M4): per tensor, uint8 with the zero point "
            "128, or 0 where nothing is negative; operands of products, additions and pools",
            dtype=torch.uint8,
            symmetric=True,
            elementwise=frozenset({"add", "avg_pool2d"}),
            carriers=frozenset({"max_pool2d"}),
            probabilities=False,
        ),
        Dialect(
            "xnnpack",
            "XNNPACK has int8 kernels for a product only where its result is int8 too; none for products of two "
            "activations or for average pools",
            products=frozenset({"conv", "linear"}),
            requantized=frozenset({"conv", "linear"}),
            elementwise=frozenset({"add"}),
            carriers=frozenset({"max_pool2d"}),
        ),
        Dialect(
            "litert",
            "LiteRT's converter makes int8 kernels of a product whose operands and result are all int8",
            products=frozenset({"conv", "linear"}),
            requantized=frozenset({"conv", "linear"}),
            elementwise=frozenset({"add"}),
            carriers=frozenset({"max_pool2d"}),
            folded=False,
        ),
    )
}


def get_dialect(name: str) -> Dialect:
    """Raises `InputError` for an unknown name."""
    if name not in DIALECTS:
        raise unknown_name("dialect", name, DIALECTS)
    return DIALECTS[name]
