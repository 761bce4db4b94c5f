"""What the readers share: which values reach an output, which are constant, how many multiply-adds an operator does.

A side of a shape that is not fixed is -1 and counts as 1, so the count is that of one sample or one position.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

from edgevl.contents import bits_of

Shape = tuple[int, ...]
SMALLEST_DIGEST = 1024  # bytes: smaller tensors are not worth sharing, and many of them are equal by nature


@dataclasses.dataclass(frozen=True)
class Step:
    """An operator as names of values. What its subgraphs read belongs to `reads`."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


def live_values(steps: Iterable[Step], outputs: Iterable[str]) -> set[str]:
    """Names of the values that at least one of `outputs` depends on, the outputs among them."""
    producers: dict[str, list[Step]] = {}
    for step in steps:
        for name in step.writes:
            producers.setdefault(name, []).append(step)
    waiting, live = list(outputs), set()
    while waiting:
        name = waiting.pop()
        if name not in live:
            live.add(name)
            waiting += [read for step in producers.get(name, ()) for read in step.reads]
    return live


def constant_values(steps: Iterable[Step], known: Iterable[str]) -> set[str]:
    """Names of the values that follow from `known` (the weights) alone. `steps` in the order of the file."""
    constant = set(known)
    for step in steps:
        if step.reads and constant.issuperset(step.reads):
            constant.update(step.writes)
    return constant


def size(shape: Iterable[int]) -> int:
    """Number of elements."""
    total = 1
    for side in shape:
        total *= max(1, side)
    return total


def convolution_macs(output: Shape, weight: Shape) -> int:
    """Of a convolution with weight [out channels, in channels / groups, kernel...], whatever its strides."""
    return size(output) * size(weight[1:])


def transposed_convolution_macs(data: Shape, weight: Shape) -> int:
    """Of a transposed convolution with weight [in channels, out channels / groups, kernel...]."""
    return size(data) * size(weight[1:])


def product_macs(output: Shape, depth: int) -> int:
    """Of a matrix product whose sums run over `depth` terms."""
    return size(output) * max(1, depth)


def attention_macs(query: Shape, key: Shape, output: Shape) -> int:
    """Of scaled dot-product attention: query by key, then the weights by value. [..., tokens, channels]"""
    return (size(query) + size(output)) * max(1, key[-2])


def einsum_macs(equation: str, operands: Sequence[Shape]) -> int:
    """Of an Einstein sum of two operands: one multiply-add for each combination of its indices. 0 for other counts."""
    terms = equation.replace(" ", "").split("->")[0].split(",")
    if len(terms) != 2 or len(operands) != 2:
        return 0
    sides: dict[str, int] = {}
    for term, shape in zip(terms, operands):
        before, dots, after = term.partition("...")
        head, tail = shape[: len(before)], shape[len(shape) - len(after) :]
        labels = [*zip(before, head), *zip(after, tail)]
        if dots:  # broadcast sides line up at their ends
            middle = shape[len(before) : len(shape) - len(after)]
            labels += [(f".{index}", side) for index, side in enumerate(reversed(middle))]
        for label, side in labels:
            sides[label] = max(sides.get(label, 1), side)
    return size(sides.values())


def digest(data: bytes | memoryview) -> str:
    """Of the stored bytes of a tensor; "" for a small one."""
    return hashlib.sha256(data).hexdigest() if len(data) >= SMALLEST_DIGEST else ""


def integer_compute(data: str, weight: str) -> str:
    """What a kernel multiplies in whose operands are both quantized: the wider of the two, at least int8."""
    return f"int{max(8, bits_of(data), bits_of(weight))}"
