"""What is inside an artifact, read from the file without running it. One reader per target, `<target>_contents.py`."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from edgevl.guard import Call
from edgevl.targets import TARGETS


@dataclasses.dataclass(frozen=True)
class Weight:
    """A constant of the artifact."""

    name: str
    dtype: str  # as NumPy names it, or int4, uint4 ...
    shape: tuple[int, ...]
    bytes: int  # as stored
    digest: str = ""  # of the stored bytes; two large weights with one digest are a duplicate. "": not read
    used: bool = True  # does anything read it?


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operator of the artifact."""

    type: str  # as the format names it: Conv, linear, CONV_2D
    name: str  # of its first output
    dtype: str = ""  # of its first output; "": the file does not say
    shape: tuple[int, ...] = ()  # of its first output; -1 for a side that is not fixed
    macs: int = 0  # multiply-adds of convolutions and matrix products, from the shapes
    compute: str = ""  # what these multiply in: the dtype of both operands as the kernel sees them ("int8", "float16")
    used: bool = True  # does an output of the artifact depend on it?
    constant: bool = False  # computed from weights alone, such as a dequantized weight: no activation
    counted: bool = True  # False: it multiplies, and the file does not say how much: a side unknown, a vendor's product
    domain: str = ""  # whose operator it is, where that is not the format's own: com.microsoft, an Android vendor


@dataclasses.dataclass(frozen=True)
class Contents:
    """Everything read from one artifact."""

    weights: tuple[Weight, ...]
    operations: tuple[Operation, ...]
    inputs: tuple[tuple[str, tuple[int, ...]], ...]  # name, shape
    outputs: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def weight_bytes(self) -> dict[str, int]:
        """Bytes per dtype, the largest first."""
        total: Counter[str] = Counter()
        for weight in self.weights:
            total[weight.dtype] += weight.bytes
        return dict(total.most_common())

    @property
    def op_types(self) -> dict[str, int]:
        """Number of operators of each type, the most frequent first."""
        return dict(Counter(operation.type for operation in self.operations).most_common())

    @property
    def activation_dtypes(self) -> dict[str, int]:
        """Number of values that flow between operators in each dtype, the most frequent first."""
        return dict(Counter(operation.dtype for operation in self.activations if operation.dtype).most_common())

    @property
    def activations(self) -> tuple[Operation, ...]:
        """The operators whose results depend on an input and reach an output."""
        return tuple(operation for operation in self.operations if operation.used and not operation.constant)

    @property
    def macs(self) -> dict[str, int]:
        """Multiply-adds by the dtype that they are done in ("" if the file does not say), the most first."""
        total: Counter[str] = Counter()
        for operation in self.activations:
            total[operation.compute] += operation.macs
        return {dtype: count for dtype, count in total.most_common() if count}


def merge(parts: Iterable[Contents]) -> Contents:
    """The contents of several artifacts as one. Inputs and outputs are those of all of them."""
    parts = list(parts)
    fields = [field.name for field in dataclasses.fields(Contents)]
    return Contents(*(tuple(item for part in parts for item in getattr(part, field)) for field in fields))


def read_artifact(path: Path, target: str) -> Contents:
    """Read the artifact of a target. Each format has its own exceptions for a damaged file.

    Raises:
        InputError: an unknown target.
        MissingDependency: the package that reads the format is not installed.
        VerificationFailed: the file contradicts itself.
    """
    read = TARGETS[target].load("reader")
    with Call.on("reading", path):
        return read(path)


def bits_of(dtype: str) -> int:
    """Bits of one element: the first number in its name ("float32", "int4", "float8e4m3fn"), 8 where it has none."""
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 8
