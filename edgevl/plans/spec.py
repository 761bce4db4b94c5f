"""What each target wants of a quantized graph: one dialect each, a table of choices with their reasons.

A dialect says which operators multiply in int8, whose results are stored as int8, and how a range becomes a scale and
a zero point. The ranges themselves come from the plan: every dialect reads the same ones.
"""

import dataclasses

import torch

from edgevl.errors import unknown_name
from edgevl.plans.plan import Range

PRODUCTS = frozenset({"conv", "linear", "matmul"})


@dataclasses.dataclass(frozen=True)
class Dialect:
    """Operators are named as in `edgevl.plans.values`."""

    name: str
    reason: str
    dtype: torch.dtype = torch.int8  # of activations
    symmetric: bool = False  # zero points are 0
    unsigned: bool = False  # what is never negative is uint8
    products: frozenset[str] = PRODUCTS  # read int8, with int8 weights
    requantized: frozenset[str] = frozenset({"conv"})  # their results are stored as int8
    elementwise: frozenset[str] = frozenset()  # read and write int8
    carriers: frozenset[str] = frozenset()  # pass int8 on with the scale it came with
    skips: bool = False  # where a convolution's result is added to another value, that other value is read as int8
    folded: bool = True  # weights are int8 in the program; else float behind Q/DQ, and the converter rounds them

    def stored_as(self, values: Range) -> torch.dtype:
        """The type of a quantized activation."""
        return torch.uint8 if self.unsigned and values.low >= 0 else self.dtype

    def parameters(self, values: Range) -> tuple[float, int]:
        """Scale and zero point of a range. Zero is always exact, as padding and ReLU need it."""
        low, high = min(values.low, 0.0), max(values.high, 0.0)
        levels = torch.iinfo(self.stored_as(values))
        if self.symmetric:
            return max(low / levels.min if low else 0.0, high / levels.max, _TINY), 0
        scale = max((high - low) / (levels.max - levels.min), _TINY)
        return scale, min(levels.max, max(levels.min, round(levels.min - low / scale)))


_TINY = 1e-8  # of a value that is always 0

DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            "x86",
            "x86 multiplies uint8 by int8 (VNNI); a range that starts at 0 makes ReLU a part of QLinearConv; "
            "products of two activations are no faster in int8, for their operands are rounded first, and less exact",
            dtype=torch.uint8,
            products=frozenset({"conv", "linear"}),
            elementwise=frozenset({"add", "avg_pool2d"}),
            carriers=frozenset({"max_pool2d"}),
        ),
        Dialect(
            "arm",
            "ONNX Runtime's Arm kernels multiply int8 by int8 as it is (SDOT), for uint8 by int8 they flip sign bits "
            "first; affine, since weights have no zero points and ReLU becomes a part of QLinearConv",
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
        ),
        Dialect(
            "coreml",
            "int8 by int8 pays on the Neural Engine (A17 Pro, M4), best with zero points of 0 (coremltools): int8 for "
            "signed values and uint8 for the others; operands of products, additions and pools are int8",
            symmetric=True,
            unsigned=True,
            elementwise=frozenset({"add", "avg_pool2d"}),
            carriers=frozenset({"max_pool2d"}),
        ),
        Dialect(
            "xnnpack",
            "an int8 kernel of XNNPACK reads and gives int8; through ExecuTorch there is none for products of two "
            "activations or average pools; int8 additions cost no more than float ones and save conversions",
            products=frozenset({"conv", "linear"}),
            requantized=frozenset({"conv", "linear"}),
            elementwise=frozenset({"add"}),
            carriers=frozenset({"max_pool2d"}),
        ),
        Dialect(
            "litert",
            "LiteRT's converter makes int8 kernels of whatever stands between Q and DQ, and rounds the weights itself; "
            "products of two activations are slower there in int8 than in float",
            products=frozenset({"conv", "linear"}),
            requantized=frozenset({"conv", "linear"}),
            elementwise=frozenset({"add"}),
            carriers=frozenset({"max_pool2d", "avg_pool2d"}),
            folded=False,
        ),
    )
}


def get_dialect(name: str) -> Dialect:
    """Raises `InputError` for an unknown name."""
    if name not in DIALECTS:
        raise unknown_name("dialect", name, DIALECTS)
    return DIALECTS[name]
